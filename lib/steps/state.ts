import type {Table} from '../step.ts'
import {unchecked} from './line.ts'

/** Steps before `clone` by which other commands come to know of a container. */
export interface StateSteps {
  /** The rest is done by a process of its own; the caller's prints the state when the command runs, and ends. */
  detach: object
  /**
   * From here on the stage writes state.json. `head`: its text up to the supervisor; `where`: the PID namespace and the boot
   * that the supervisor's PID counts in; `keep`: it stays when the container has ended.
   */
  state: {directory: string; head: string; where: string; keep: boolean}
}

export const stateSteps: Table<StateSteps> = {
  detach: {
    because: 'It runs on when the terminal is gone. setsid(1)',
    shell: () => 'setsid',
    words: () => [],
    check: unchecked,
  },
  state: {
    because: '',
    shell: () => '',
    words: s => [s.directory, s.head, s.where, s.keep ? 'keep' : 'remove'],
    check: unchecked,
  },
}
