import {type CgroupSteps, cgroupSteps} from './steps/cgroups.ts'
import {type ContainerSteps, containerSteps} from './steps/container.ts'
import {type FileSteps, fileSteps} from './steps/files.ts'
import {type Line, type Reasoned, typed} from './steps/line.ts'
import {type ProbeSteps, probeSteps} from './steps/probe.ts'
import {type ReplaySteps, replaySteps} from './steps/replay.ts'
import {type SignalSteps, signalSteps} from './steps/signals.ts'
import {type StateSteps, stateSteps} from './steps/state.ts'

/**
 * A step has four faces, kept in one place so that they cannot drift apart. All of them must be there, or the
 * step's table does not compile.
 */
export interface Faces<S> {
  /** The reason, and the man page, for the comment above the line; the step's own `why` comes before it. */
  because: string
  /** The line, or lines, that a person types instead; POSIX sh, the root is "$root". Empty: hew's own bookkeeping. */
  shell(step: S): Line | (Line | Reasoned)[]
  /** The same for --explain, where it takes more in a script than what is done. */
  told?(step: S): Line
  /** A line at `keep`, where the stage finishes what it has put off until everything else is done. */
  finish?(step: S): Line
  /** How the stage (lib/stage) does it: the words behind the step's name. */
  words(step: S): (string | number)[]
  /** Why it cannot be done, found out before the first change; or undefined. */
  check(step: S): string | undefined
}

export type Table<Kinds> = {[K in keyof Kinds]: Faces<Kinds[K]>}

type Kinds = FileSteps & CgroupSteps & StateSteps & ContainerSteps & SignalSteps & ProbeSteps & ReplaySteps

/** errno(3) as far as there are hints for it, by number (asm-generic/errno.h): node:os has all of them, and takes 0.15 ms to load. */
export const ERRNO = {
  any: 0,
  EPERM: 1,
  ENOENT: 2,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  ENOSYS: 38,
  ENOTEMPTY: 39,
} as const

/** What a person can do when a step fails, by what the kernel has said. */
export type Hints = {[error in keyof typeof ERRNO]?: string}

/** What any step may carry besides its own fields. */
interface Notes {
  /** The reason, for the comment above the shell line. */
  why?: string
  hints?: Hints
}

export type Step = {[K in keyof Kinds]: {do: K} & Kinds[K] & Notes}[keyof Kinds]

/** What a command is about to do, in the order in which it is done. */
export type Plan = Step[]

const table: Table<Kinds> = {
  ...fileSteps,
  ...cgroupSteps,
  ...stateSteps,
  ...containerSteps,
  ...signalSteps,
  ...probeSteps,
  ...replaySteps,
}

function faces(step: Step): Faces<Step> {
  return table[step.do] as unknown as Faces<Step>
}

/** The step as words for the stage, its hints before it. @param list what they are put behind */
export function words(step: Step, list: string[] = []): string[] {
  for (const name in step.hints)
    list.push('hint', `${ERRNO[name as keyof Hints]}`, step.hints[name as keyof Hints]!)
  list.push(step.do)
  for (const word of faces(step).words(step)) list.push(`${word}`)
  return list
}

/** The step as --explain says it. */
export function told(step: Step): string {
  const {told, shell} = faces(step)
  return all((told ?? shell)(step))
    .map(one => typed(isReasoned(one) ? one.line : one))
    .filter(line => line !== '')
    .join('; ')
}

/** What a person types instead of the step, and why: one line of a script. */
export type Typed = Reasoned

const isReasoned = (one: Line | Reasoned): one is Reasoned => typeof one === 'object' && 'line' in one

function all(lines: Line | (Line | Reasoned)[]): (Line | Reasoned)[] {
  return [lines].flat().filter(line => line !== '')
}

/** A plan as the lines that a person types instead, in the order in which they are done. */
export function lines(plan: Plan): Typed[] {
  const later: Typed[] = []
  const typed = plan.flatMap(step => {
    const {because, shell, finish} = faces(step)
    if (finish) later.unshift({line: finish(step), because: FINISHING})
    const reason = step.why ?? because
    return [
      ...(step.do === 'keep' ? later.splice(0) : []),
      ...all(shell(step)).map(one => (isReasoned(one) ? one : {line: one, because: reason})),
    ]
  })
  return [...typed, ...later]
}

const FINISHING = 'What was put into these directories has changed their times. touch(1)'

/** The first reason why the plan cannot be carried out, or undefined. Changes nothing. */
export function refusal(plan: Plan): string | undefined {
  for (const step of plan) {
    const why = faces(step).check(step)
    if (why !== undefined) return why
  }
  return undefined
}
