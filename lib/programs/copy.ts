import type {Plan, Step} from '../step.ts'
import type {Item} from './closure.ts'

/** What happens to files that are copied. */
export interface CopyOptions {
  /** Keep setuid and setgid bits. */
  setuid: boolean
  /** Replace what is there and differs. */
  force: boolean
  /** Hard links to the machine's files, where there can be any. */
  link: boolean
}

const TAKEN = {EEXIST: 'it is not overwritten: --force replaces it'}

/** The machine's programs and libraries, at the same paths in the root in force. */
export function copyPlan(items: Item[], {setuid, force, link}: CopyOptions): Plan {
  return items.map(({path, kind, target}): Step => {
    if (kind === 'directory') return {do: 'directory', path}
    if (kind === 'link') return {do: force ? 'relink' : 'symlink', target: target!, path, hints: TAKEN}
    return {do: 'copy', path, setuid, force, link, hints: TAKEN}
  })
}
