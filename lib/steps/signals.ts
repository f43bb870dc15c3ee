import type {Table} from '../step.ts'
import {unchecked} from './line.ts'

/** Steps for processes that run already. `start`: when the process started, as startOf() has it; its PID may be another's by now. */
export interface SignalSteps {
  /** `whose`: what is said to have ended when it has; nothing is said about `''`. */
  signal: {pid: number; start: string; number: number; whose: string}
  /** Until it has ended. */
  await: {pid: number; start: string}
}

export const signalSteps: Table<SignalSteps> = {
  signal: {
    because: 'A signal to the container. kill(1)',
    shell: s => `kill -${s.number} ${s.pid}`,
    words: s => [s.pid, s.start, s.number, s.whose],
    check: unchecked,
  },
  await: {
    because: 'Until it has ended. pidfd_open(2)',
    shell: s => `tail --pid=${s.pid} -f /dev/null`,
    words: s => [s.pid, s.start],
    check: unchecked,
  },
}
