import {type Made, madeRoot} from '../container/plan.ts'
import {HewError} from '../errors.ts'
import {removeRoot} from '../root/remove.ts'
import {carryOut} from '../stage.ts'
import {awaitProcess} from './end.ts'
import {signalAll, signalNumber, signalStep} from './signal.ts'
import {type Container, configurationOf, containers} from './state.ts'
import {remove} from './sweep.ts'

/**
 * The root directory of a container, if it may be removed with it.
 * @param going all that are removed together
 * @throws HewError mkroot did not make it, or another container runs in it
 */
export function rootOf(container: Container, going: Container[]): Made {
  const {id, root} = container
  const made = madeRoot(configurationOf(container))
  if (!made)
    throw new HewError(
      `the root ${root} of ${id} stays: nothing says that mkroot made it for the container: remove it by hand`,
    )
  const other = containers().containers.find(
    one => one.root === root && one.life !== 'ended' && !going.some(({id}) => id === one.id),
  )
  if (other) throw new HewError(`the root ${root} of ${id} stays: ${other.id} runs in it, too`)
  return made
}

/** Ends a container at once, with all of its processes, and waits until its supervisor has cleaned up. */
export function endNow(container: Container, as: string): void {
  const {id, first, cgroups, supervisor} = container
  const KILL = signalNumber('KILL')
  if (cgroups.length > 0) signalAll(container, KILL, as)
  // Nobody is in its cgroup yet, or it has none.
  if (first === undefined || cgroups.length === 0)
    carryOut([signalStep({...container, id: ''}, KILL)], {as, title: `kill ${id}`})
  awaitProcess(supervisor, as)
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
