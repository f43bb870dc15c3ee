import {echo, quote} from '../shell.ts'
import type {FunctionName} from './functions.ts'

/**
 * A line that a person types; a call of a function, which a script then has at its top (functions.ts); or words before the
 * command, which starts as they say: `chroot "$root" bash`.
 */
export type Line = string | Call | Before

interface Call {
  name: FunctionName
  words: string[]
}

interface Before {
  before: string
}

/** The call of a function; words that are safe stay as they are. */
export function call(name: FunctionName, ...words: string[]): Call {
  return {name, words}
}

/** A line as it is typed. */
export function typed(line: Line): string {
  if (typeof line === 'string') return line
  return 'before' in line ? line.before : [line.name, ...line.words.map(quote)].join(' ')
}

/** A value into a file of a cgroup; `optional`: where the kernel has no such file there is nothing to write. */
export function setting(file: string, value: string, optional: boolean | undefined): string {
  const at = quote(file)
  return `${optional ? `[ ! -e ${at} ] || ` : ''}${echo(value)} >${at}`
}

/** The check of steps that only the kernel can refuse. */
export const unchecked = (): undefined => undefined
