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
  /** What hew cannot do; absent when it is fine. */
  means?: string
  /** What to type, or what else to change; absent where nothing can be done. */
  fix?: string
}

/** What a check comes to, before it is known how it is called. */
export type Finding = Pick<Check, 'status' | 'found' | 'means' | 'fix'>

export const fine = (found: string): Finding => ({status: 'fine', found})
