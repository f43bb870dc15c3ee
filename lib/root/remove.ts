import type {Made} from '../container/plan.ts'
import {carryOut} from '../stage.ts'

/**
 * Removes a root, if it still is the directory that mkroot made: never across a mount, never through a link.
 * @param as how messages begin
 * @returns the exit status: not 0 when something had to stay, which has been said then
 */
export function removeRoot(path: string, made: Made, as: string): number {
  return carryOut([{do: 'remove-tree', path, ...made}], {as, title: `remove ${path}`})
}
