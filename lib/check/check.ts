import {SEE_CHECK} from '../errors.ts'

/** fine: it is there. limited: a part of it is, or something has to be done first. missing: it is not there. */
export type Standing = 'fine' | 'limited' | 'missing'

/** One thing that was found out. */
export interface Check {
  /** Its name for scripts; it stays. */
  id: string
  group: string
  title: string
  status: Standing
  /** `hew enter` does not work without it. */
  needed: boolean
  /** What was found: an error's name, a path, a version. */
  found: string
  /** What hew cannot do. Both are absent when it is fine, or takes something that is told in another line. */
  means?: string
  /** What to type, or what else to change. */
  fix?: string
}

/** What a check comes to, before it is known how it is called. */
export type Finding = Pick<Check, 'status' | 'found' | 'means' | 'fix'>

export const fine = (found: string): Finding => ({status: 'fine', found})

export const missing = (found: string, means: string, fix: string): Finding => ({
  status: 'missing',
  found,
  means,
  fix,
})

export const limited = (found: string, means: string, fix: string): Finding => ({
  ...missing(found, means, fix),
  status: 'limited',
})

/** Nothing of its own is to be said: what it stands on is not there. */
export const without = (title: string): Finding => ({status: 'missing', found: `takes: ${title}`})

/** An error, without the advice to look here. */
export const why = (error: string): string => error.trim().replaceAll(SEE_CHECK, '')
