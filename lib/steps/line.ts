import {quote} from '../shell.ts'
import type {FunctionName} from './functions.ts'

/** A line that a person types; or a call of a function, which a script then has at its top (functions.ts). */
export type Line = string | Call

interface Call {
  name: FunctionName
  words: string[]
}

/** The call of a function; words that are safe stay as they are. */
export function call(name: FunctionName, ...words: string[]): Call {
  return {name, words}
}

/** A line as it is typed. */
export function typed(line: Line): string {
  return typeof line === 'string' ? line : [line.name, ...line.words.map(quote)].join(' ')
}
