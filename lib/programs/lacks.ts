import {nearest} from '../nearest.ts'
import {Sysroot} from '../sysroot.ts'
import type {Missing} from './closure.ts'

/** In words what a program lacks, or that there is no such program, with the one that was probably meant. */
export function lackText({kind, what, by, searched, why}: Missing): string {
  const nowhere = kind === 'program' && !what.includes('/') ? ' (PATH names no directory)' : ''
  const looked = searched.length > 0 ? ` (looked in ${searched.join(', ')})` : nowhere
  if (kind !== 'program' || by !== 'command line')
    return `${what}, which ${by} needs${why ? `: ${why}` : ''}${looked}`
  const meant = what.includes('/') ? undefined : nearest(what, programsIn(searched))
  return `${what}${why ? `: ${why}` : meant ? `: did you mean ${meant}?` : ''}${looked}`
}

function programsIn(directories: string[]): string[] {
  const machine = new Sysroot('/')
  return directories.flatMap(directory => machine.list(directory))
}
