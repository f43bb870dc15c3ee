import * as fs from 'node:fs'
import {cgroupOf, hierarchies} from '../cgroups/hierarchies.ts'
import {tree} from '../cgroups/members.ts'
import {pause} from '../pause.ts'

/** What tells, from where we are, that a cgroup is where hew makes cgroups: below a hierarchy's root, and none that we are in. */
export function ownership(): (directory: string) => boolean {
  const places = hierarchies().map(h => ({below: `${h.mount}/`, self: `${cgroupOf('self', h)}/`}))
  return directory =>
    places.some(({below, self}) => directory.startsWith(below) && !self.startsWith(`${directory}/`))
}

/** Those of a container's cgroups that are where hew makes cgroups. */
export function ownCgroups(directories: string[]): string[] {
  return directories.length === 0 ? [] : directories.filter(ownership())
}

/** How long the kernel may take to bury the dead: a core dump, an exit that waits for a disk. */
const PATIENCE_MS = 4000

/** Waits until something holds, longer and longer between two looks; false when it does not after seconds. */
export function patiently(holds: () => boolean): boolean {
  for (let ms = 1, total = 0; !holds(); total += ms, ms = Math.min(2 * ms, 100)) {
    if (total > PATIENCE_MS) return false
    pause(ms)
  }
  return true
}

/** Removes cgroups with those below them: what has just died is in the way for a moment (EBUSY). False: some stay. */
export function removeCgroups(directories: string[]): boolean {
  return patiently(() => directories.flatMap(tree).every(removed))
}

function removed(directory: string): boolean {
  try {
    fs.rmdirSync(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
