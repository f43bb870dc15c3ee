import {type Made, madeRoot} from '../container/plan.ts'
import {HewError} from '../errors.ts'
import {removeRoot} from '../root/remove.ts'
import {ownership} from './cgroups.ts'
import {awaitProcesses} from './end.ts'
import {KILL, killCgroups, killNow, send, signalAll, signalStep, unending} from './signal.ts'
import {type Container, configurationOf} from './state.ts'
import {remove} from './sweep.ts'

/**
 * The root directory of a container, if it may be removed with it.
 * @param others that are not removed together with it
 * @throws HewError mkroot did not make it, or another container runs in it
 */
export function rootOf(container: Container, others: Container[]): Made {
  const {id, root} = container
  const made = madeRoot(configurationOf(container))
  if (!made)
    throw new HewError(
      `the root ${root} of ${id} stays: nothing says that mkroot made it for the container: remove it by hand`,
    )
  const other = others.find(one => one.root === root && one.life !== 'ended')
  if (other) throw new HewError(`the root ${root} of ${id} stays: ${other.id} runs in it, too`)
  return made
}

/**
 * Ends containers at once, with all of their processes, and waits until their supervisors have cleaned up.
 * @throws HewError the processes of one do not end
 */
export function endNow(containers: Container[], as: string): void {
  const isOwn = ownership()
  const held = containers.filter(({cgroups}) => cgroups.some(isOwn))
  // All of them die while each is looked at.
  for (const {cgroups} of held) killNow(cgroups.filter(isOwn))
  for (const {id, cgroups} of held) if (!killCgroups(cgroups.filter(isOwn))) throw unending(id)
  // In cgroups that cannot be seen from here.
  for (const one of containers) if (one.cgroups.length > 0 && !held.includes(one)) signalAll(one, KILL, as)
  // Nobody is in its cgroup yet, or it has none.
  const single = containers.filter(({first, cgroups}) => first === undefined || cgroups.length === 0)
  send(
    single.map(one => signalStep({...one, id: ''}, KILL)),
    KILL,
    as,
  )
  awaitProcesses(
    containers.map(({supervisor}) => supervisor),
    as,
  )
}

/**
 * Removes the state of a container that has ended, and, if asked to, its root first.
 * @returns the exit status
 */
export function removeContainer(container: Container, root: Made | undefined, as: string): number {
  if (root) {
    const status = removeRoot(container.root, root, as)
    if (status !== 0) return status
  }
  const left = remove(container)?.left ?? []
  if (left.length > 0) throw new HewError(`${container.id}: ${left.join('; ')}`)
  return 0
}
