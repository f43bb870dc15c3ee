import * as fs from 'node:fs'
import {parentOf, words} from '../kernel.ts'

/** Processes that belong together: one with all that it started, and whatever is in some cgroups, and in those below. */
export interface Members {
  pid?: number
  groups: string[]
}

/** Their PIDs, as they are now. */
export function members({pid, groups}: Members): number[] {
  const held = processesIn(groups)
  // A container's cgroup has all of it: for a family every process of the machine is looked at.
  const family = pid === undefined || held.includes(pid) ? [] : [pid, ...descendants(pid)]
  return [...new Set([...family, ...held])]
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

/** A cgroup with all those below it, these first; none when it is gone. */
export function tree(directory: string): string[] {
  try {
    const below = fs.readdirSync(directory, {withFileTypes: true}).filter(entry => entry.isDirectory())
    return [...below.flatMap(({name}) => tree(`${directory}/${name}`)), directory]
  } catch {
    return []
  }
}

/** The processes in cgroups, and in those below them. */
export function processesIn(directories: string[]): number[] {
  const lists = directories.flatMap(tree).map(processes)
  // 0: a process of another PID namespace.
  return [...new Set(lists.flat())].filter(pid => pid > 0)
}

/** The PIDs in a cgroup. */
export function processes(directory: string): number[] {
  return words(`${directory}/cgroup.procs`).map(Number)
}
