import type {Swept} from './containers/sweep.ts'
import {HewError, reason} from './errors.ts'
import {visible} from './shell.ts'
import type {Faces, Typed} from './step.ts'
import {type ActSteps, actSteps} from './steps/acts.ts'
import {type Line, typed} from './steps/line.ts'
import {type LivingSteps, livingSteps} from './steps/living.ts'

/**
 * What hew does itself, without the stage, at once: on cgroups of the machine. A step of this kind has three faces, and does not
 * compile without any of them; it is refused before it is planned.
 */
export interface ActFaces<S> extends Pick<Faces<S>, 'because'> {
  /** The line a person types instead. */
  shell(step: S): Line | Line[]
  /** Does it. What comes back undoes it; nothing where that is not meant to be. */
  run(step: S, tally: Tally): (() => void) | undefined
}

export type ActTable<Kinds> = {[K in keyof Kinds]: ActFaces<Kinds[K]>}

type Kinds = ActSteps & LivingSteps

export type Act = {[K in keyof Kinds]: {do: K} & Kinds[K]}[keyof Kinds]

const table: ActTable<Kinds> = {...actSteps, ...livingSteps}

/** What is counted on the way. */
export interface Tally {
  /** Processes that were moved. */
  moved: Set<string>
  /** Containers that had died. */
  swept: Swept[]
}

function faces(act: Act): ActFaces<Act> {
  return table[act.do] as unknown as ActFaces<Act>
}

/** Acts as the lines that a person types instead. */
export function actLines(acts: Act[]): Typed[] {
  return acts
    .flatMap(act => [faces(act).shell(act)].flat().map(line => ({line, because: faces(act).because})))
    .filter(({line}) => line !== '')
}

/**
 * Does one after the other; when one fails, those before it are undone.
 * @param tell is given each line, once it is done
 * @throws HewError what failed, behind its line where these are told
 */
export function perform(acts: Act[], tell?: (line: string) => void): Tally {
  const tally: Tally = {moved: new Set(), swept: []}
  const undo: (() => void)[] = []
  for (const act of acts) {
    const line = tell ? visible([faces(act).shell(act)].flat().map(typed).join('; ')) : ''
    try {
      const back = faces(act).run(act, tally)
      if (back) undo.unshift(back)
    } catch (error) {
      for (const back of undo) attempt(back)
      if (line === '') throw error
      throw new HewError(`${line}  # ${error instanceof HewError ? error.message : reason(error)}`)
    }
    if (line !== '') tell?.(`${line}  # ok`)
  }
  return tally
}

function attempt(back: () => void): void {
  try {
    back()
  } catch {
    // A process that has ended, or a cgroup that somebody else has removed.
  }
}
