import type {Mounted} from '../kernel.ts'
import {Sysroot} from '../sysroot.ts'
import {textOf} from './proc.ts'

/** The id that one has in a user namespace which does not know one's own (/proc/sys/kernel/overflowuid). */
const OVERFLOW = 65534
/** A passwd(5) that is longer is none; a hostile one would be read for each container. */
const LONGEST = 1 << 20

/** The users of a container, as it sees them itself. */
export interface Users {
  /** A user of ours, inside. */
  inside(uid: number): number
  /** What the container's own /etc/passwd calls a user of its own; undefined when it does not say. */
  name(inside: number): string | undefined
}

/**
 * The users in the user namespace and the root of a process.
 * @param mounted what it has mounted
 */
export function usersOf(pid: number, mounted: Mounted[] | undefined): Users {
  const map = mapOf(pid)
  // In our own user namespace it would tell how our parent counts, and there is nothing to translate.
  const ranges = map === mapOf('self') ? undefined : parseMap(map)
  let names: Map<number, string> | undefined
  return {
    inside: uid => {
      if (!ranges) return uid
      const range = ranges.find(({outside, count}) => uid >= outside && uid < outside + count)
      return range ? range.inside + uid - range.outside : OVERFLOW
    },
    name: uid => {
      names ??= mounted && answers(mounted) ? namesIn(new Sysroot(`/proc/${pid}/root`)) : new Map()
      return names.get(uid)
    },
  }
}

function mapOf(pid: number | 'self'): string {
  return textOf(`/proc/${pid}/uid_map`) ?? ''
}

function parseMap(text: string): {inside: number; outside: number; count: number}[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      return {inside, outside, count}
    })
}

/** FUSE is served by a process, in a container by a hostile one: to whoever looks there it may never answer. */
function answers(mounted: Mounted[]): boolean {
  return mounted.every(({type}) => !/^fuse(blk)?(\.|$)/.test(type))
}

/** What a root's /etc/passwd calls the users; the first line of each counts, as with getpwuid(3). */
export function namesIn(root: Sysroot): Map<number, string> {
  const names = new Map<number, string>()
  if (root.resolve('/etc/passwd').size > LONGEST) return names
  for (const line of root.read('/etc/passwd')?.toString().split('\n') ?? []) {
    const [name, , uid = ''] = line.split(':')
    if (name && /^\d{1,10}$/.test(uid) && !names.has(Number(uid))) names.set(Number(uid), name)
  }
  return names
}
