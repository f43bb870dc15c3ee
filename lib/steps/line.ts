import {echo, quote} from '../shell.ts'
import type {FunctionName} from './functions.ts'

/**
 * A line that a person types; a call of a function, which a script then has at its top (functions.ts); or words before the
 * command, which starts as they say: `chroot "$root" bash`.
 */
export type Line = string | Call | Before | AtEnd | Whole | Cannot

interface Call {
  name: FunctionName
  words: string[]
  /** More words of the same kind may follow: calls in a row become one. */
  more?: boolean
}

/**
 * Words before a command, in the order of their places: around the container, who it ends with, its namespaces, in these before its
 * shell, in that shell before the root is entered, how that is entered, in there, the command itself, and what stands behind it: then the shell stays.
 */
interface Before {
  before: string
  place: (typeof PLACES)[number]
  /** What comes behind it in the plan is done in there. */
  begins?: boolean
}

export const PLACES = [
  'around',
  'bound',
  'birth',
  'within',
  'own',
  'root',
  'inside',
  'command',
  'behind',
] as const

/** What is done when the script ends, however it ends; of several the last one first. */
interface AtEnd {
  atEnd: string
  /** The function that it calls. */
  name?: FunctionName
}

/** Words before a shell that does all of the script, and what stands behind it. `replaces`: that shell takes the place of the script's. */
interface Whole {
  whole: string
  behind: string
  replaces?: boolean
}

/**
 * What no shell can do of a step: a comment in its place. `asked`: it was asked for, and so the script says at its end that it is
 * left out, and ends with LEFT_OUT where all else went well.
 */
interface Cannot {
  cannot: string
  asked?: boolean
}

/** The status of a script that has done all but what no shell can. */
export const LEFT_OUT = 3

/** A line with a reason of its own. */
export interface Reasoned {
  line: Line
  because: string
}

/** The call of a function; words that are safe stay as they are. */
export function call(name: FunctionName, ...words: string[]): Call {
  return {name, words}
}

/** The call of a function that does the same with each of its words. */
export function callEach(name: FunctionName, word: string): Call {
  return {name, words: [word], more: true}
}

/** Words before the command; none where they are empty. */
export function before(place: Before['place'], words: string): Before {
  return {before: words, place}
}

/** A line as it is typed. */
export function typed(line: Line): string {
  if (typeof line === 'string') return line
  if ('cannot' in line) return ''
  if ('whole' in line) return line.whole
  if ('atEnd' in line) return `trap ${quote(line.atEnd)} EXIT`
  return 'before' in line ? line.before : [line.name, ...line.words.map(quote)].join(' ')
}

/** What no shell can do. */
export const isCannot = (line: Line): line is Cannot => typeof line === 'object' && 'cannot' in line

/** A value into a file of a cgroup; `optional`: where the kernel has no such file there is nothing to write. */
export function setting(file: string, value: string, optional: boolean | undefined): string {
  const at = quote(file)
  return `${optional ? `[ ! -e ${at} ] || ` : ''}${echo(value)} >${at}`
}

/** The check of steps that only the kernel can refuse. */
export const unchecked = (): undefined => undefined
