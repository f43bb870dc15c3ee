import {type Outcome, run, type Spawning} from '../support.ts'

/** The script beside this file, which says what they are; for tests that talk to what runs. */
export const FRESH = `${import.meta.dirname}/fresh`

/** What a fresh privileged container is made of. */
export type Kind = 'debian' | 'busybox' | 'hew'

/**
 * Runs a command to its end as PID 1 of a fresh privileged container. Root, and cgroup v2 as the only hierarchy: the probe
 * `cgroup2`.
 * @param words the command's path in there, and its arguments; hew is /hew in a `hew`, and on the PATH in the others
 */
export function inFreshContainer(kind: Kind, words: string[], options?: Spawning): Outcome {
  return run(FRESH, [kind, ...words], options)
}
