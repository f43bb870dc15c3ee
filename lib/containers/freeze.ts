import {HewError, reason} from '../errors.ts'
import {read, writeValue} from '../kernel.ts'
import {ownCgroups, patiently} from './cgroups.ts'
import type {Container} from './state.ts'

/** How a kind of cgroups stops all of its processes at once: cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst. */
const FREEZERS = [
  {file: 'cgroup.freeze', on: '1', off: '0', state: 'cgroup.events', frozen: /^frozen 1$/m},
  {file: 'freezer.state', on: 'FROZEN', off: 'THAWED', state: 'freezer.state', frozen: /^FROZEN$/},
]

interface Freezer {
  isFrozen(): boolean
  set(frozen: boolean): void
}

function freezerOf({id, cgroups}: Pick<Container, 'id' | 'cgroups'>): Freezer | undefined {
  for (const directory of ownCgroups(cgroups))
    for (const {file, on, off, state, frozen} of FREEZERS) {
      if (read(`${directory}/${file}`) === undefined) continue
      const isFrozen = (): boolean => frozen.test(read(`${directory}/${state}`) ?? '')
      const set = (wanted: boolean): void => {
        try {
          writeValue(`${directory}/${file}`, wanted ? on : off)
        } catch (error) {
          throw new HewError(
            `cannot ${wanted ? 'freeze' : 'thaw'} ${id} by ${directory}/${file}: ${reason(error)}`,
          )
        }
        // A process in an uninterruptible wait freezes when that is over.
        if (!patiently(() => isFrozen() === wanted))
          throw new HewError(
            `${id} is not yet ${wanted ? 'frozen' : 'thawed'}: one of its processes waits in the kernel`,
          )
      }
      return {isFrozen, set}
    }
  return undefined
}

/** Lets the processes in cgroups go on, where somebody has frozen them: v1's do not even die. */
export function thaw(cgroups: string[]): void {
  const freezer = freezerOf({id: cgroups[0] ?? '', cgroups})
  if (freezer?.isFrozen()) freezer.set(false)
}

/** Whether what is in these cgroups stands still. */
export function isFrozen(cgroups: string[]): boolean {
  return cgroups.some(directory =>
    FREEZERS.some(({state, frozen}) => frozen.test(read(`${directory}/${state}`) ?? '')),
  )
}

/**
 * Stops all processes of a container at once, or lets them go on; returns when all of them do.
 * @throws HewError it has no cgroup, or a process does not stop
 */
export function setFrozen(container: Container, frozen: boolean): void {
  const freezer = freezerOf(container)
  if (!freezer)
    throw new HewError(
      `${container.id} has no cgroup that could ${frozen ? 'freeze' : 'thaw'} it: none could be made where it was started`,
    )
  freezer.set(frozen)
}

/** Does something while nothing in a container can start or end; a container without a freezer goes on meanwhile. */
export function whileFrozen<T>(container: Pick<Container, 'id' | 'cgroups'>, action: () => T): T {
  const freezer = freezerOf(container)
  if (!freezer || freezer.isFrozen()) return action()
  // Whoever interrupts us now must not leave it frozen.
  const interrupt = (): void => {}
  for (const signal of INTERRUPTS) process.on(signal, interrupt)
  try {
    freezer.set(true)
    return action()
  } finally {
    freezer.set(false)
    for (const signal of INTERRUPTS) process.off(signal, interrupt)
  }
}

const INTERRUPTS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
