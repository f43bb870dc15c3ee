import * as fs from 'node:fs'
import {parentOf, words} from '../kernel.ts'

/** Processes that belong together: one with all that it started, and whatever is in some cgroups. */
export interface Members {
  pid?: number
  groups: string[]
}

/** Their PIDs, as they are now. */
export function members({pid, groups}: Members): number[] {
  const family = pid === undefined ? [] : [pid, ...descendants(pid)]
  return [...new Set([...family, ...groups.flatMap(processes)])]
}

/** All that a process started, and that nobody else has adopted. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number[]>()
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = parentOf(Number(name))
    if (parent === undefined) continue
    parents.set(parent, [...(parents.get(parent) ?? []), Number(name)])
  }
  const below = (of: number): number[] => (parents.get(of) ?? []).flatMap(child => [child, ...below(child)])
  return below(pid)
}

/** The PIDs in a cgroup. */
export function processes(directory: string): number[] {
  return words(`${directory}/cgroup.procs`).map(Number)
}
