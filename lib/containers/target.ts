import * as path from 'node:path'
import {cgroupOf, type Hierarchy} from '../cgroups/hierarchies.ts'
import type {Target} from '../cgroups/running.ts'
import {type Container, GIVEN, givenCgroups} from './state.ts'

/** A container as `hew limit` sees it: what holds its processes, and where it may get another cgroup. */
export function containerTarget({id, directory, first, cgroups, supervisor}: Container): Target {
  const pid = first?.pid ?? supervisor.pid
  // Asked again once a limit is set: it may have got one by that.
  const own = (h: Hierarchy): string | undefined =>
    [...cgroups, ...givenCgroups(directory)].find(at => at.startsWith(`${h.mount}/`))
  return {
    word: id,
    // The supervisor removes those of one name.
    name: cgroups[0] === undefined ? id : path.basename(cgroups[0]),
    pid,
    groups: cgroups,
    at: h => own(h) ?? cgroupOf(pid, h),
    own,
    notes: `${directory}/${GIVEN}`,
  }
}
