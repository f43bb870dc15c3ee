import * as fs from 'node:fs'
import {mounts} from '../kernel.ts'
import {namespace, type Process, readProcess} from './proc.ts'

/**
 * Which processes of the machine are in a container, and in which.
 *
 * A container is, first, a PID namespace right below our own, with all that was made in it: namespaces nest, and what a
 * container's container does is its own. Chrome's zygote is one too, there is nothing to tell them apart. Second, where
 * the PIDs are shared, it is a mount namespace other than ours in which every process has another root than ours: a daemon for which
 * systemd hides a few directories (ProtectSystem=, PrivateTmp=) still has the machine's, and sshd, which puts a child
 * into an empty directory, still has it itself. chroot(2) alone, and a network or user namespace alone, is no container.
 * hew's supervisor and unshare(1), which wait outside of the PID namespace, are not in it.
 */
export interface Scan {
  /** The processes of each container, in the order of their PIDs. */
  groups: Map<string, Process[]>
  /** Those that are in none; only with `all`. */
  others: Process[]
  /** The PIDs of those that are in none. */
  outside: Set<number>
  /** All that were looked at. */
  found: Map<number, Found>
}

/** What an earlier scan has found, for one a second later. */
export interface Before {
  found: Map<number, Found>
  /** Those that are in no container are passed over, unless all are wanted. */
  outside: Set<number>
  /** Whose CPU time, memory and state are read again; the others are as they were. */
  fresh: Set<number>
}

/** A process, and what of its namespaces can be seen. */
export interface Found {
  process: Process
  pidNamespace: string | undefined
  mountNamespace: string | undefined
}

/** The namespaces that make the difference between ours and a container's. */
interface Own {
  uid: number
  pid: string | undefined
  mount: string | undefined
}

/** /proc may be that of a PID namespace above our own, as under `unshare --pid` alone: what counts is whose PIDs it has. */
function own(): Own {
  const nested = (readProcess(Number(fs.readlinkSync('/proc/self')))?.inner.length ?? 0) > 0
  return {
    uid: process.geteuid!(),
    pid: namespace(nested ? 1 : 'self', 'pid'),
    mount: namespace('self', 'mnt'),
  }
}

/**
 * Reads /proc. A process that ends meanwhile is not in the result, or as it was.
 * @param all also the processes that are in no container
 * @param named PIDs of containers that are known to be some, by their state
 * @param before what need not be read again
 */
export function scan(all: boolean, named: number[] = [], before?: Before): Scan {
  const ours = own()
  const outside = new Set<number>()
  const others: Process[] = []
  const inside = new Map<number, Found>()
  const apart: Found[] = []
  const whole = new Map<number, Found>()
  const anew = lookOf(ours, all, inside)
  const look = before ? remembering(before, all, anew) : anew
  for (const name of fs.readdirSync('/proc')) {
    const pid = Number(name)
    if (!(pid > 0)) continue
    const found = look(pid)
    if (found === 'gone') continue
    if (found === 'plain') {
      outside.add(pid)
      continue
    }
    whole.set(pid, found)
    if (found.process.inner.length > 0) inside.set(pid, found)
    else if (isApart(found, ours)) apart.push(found)
    else {
      outside.add(pid)
      others.push(found.process)
    }
  }
  const isolated = withRootsOfTheirOwn(apart, named)
  for (const found of apart)
    if (isolated.has(found.mountNamespace!)) inside.set(found.process.pid, found)
    else {
      outside.add(found.process.pid)
      others.push(found.process)
    }
  const byPid = (a: Process, b: Process): number => a.pid - b.pid
  const groups = grouped(inside)
  for (const group of groups.values()) group.sort(byPid)
  return {groups, others: all ? others.sort(byPid) : [], outside, found: whole}
}

type Look = (pid: number) => Found | 'plain' | 'gone'

/** Reads of a process as little as tells what it is: of thousands most are plain, or all in one container. */
function lookOf(ours: Own, all: boolean, inside: Map<number, Found>): Look {
  return ours.uid === 0 ? asRoot(ours, all, inside) : asUser(ours, all)
}

function remembering({found, outside, fresh}: Before, all: boolean, anew: Look): Look {
  return pid => {
    if (!all && outside.has(pid)) return 'plain'
    const known = found.get(pid)
    if (!known) return anew(pid)
    if (!fresh.has(pid)) return known
    const process = readProcess(pid, known.process)
    if (!process) return 'gone'
    // Another one with the same PID.
    return process.start === known.process.start ? {...known, process} : anew(pid)
  }
}

/** Of another user's process we see no namespaces: asking would be an exception each. */
function asUser(ours: Own, all: boolean): Look {
  return pid => {
    const process = readProcess(pid)
    if (!process) return 'gone'
    const known = process.uid === ours.uid
    if (process.inner.length === 0 && !all && !known) return 'plain'
    const [pidNamespace, mountNamespace] = known ? [namespace(pid, 'pid'), namespace(pid, 'mnt')] : []
    return {process, pidNamespace, mountNamespace}
  }
}

function asRoot(ours: Own, all: boolean, inside: Map<number, Found>): Look {
  let process: Process | undefined
  return pid => {
    // The next PID is often the sibling of the last one, and nobody leaves a PID namespace for one above it.
    const likely = process !== undefined && inside.has(process.pid)
    process = likely || all ? readProcess(pid) : undefined
    if ((likely || all) && !process) return 'gone'
    if (process && process.inner.length > 0 && inside.has(process.ppid))
      return {process, pidNamespace: undefined, mountNamespace: undefined}
    const pidNamespace = process?.inner.length === 0 ? ours.pid : namespace(pid, 'pid')
    const mountNamespace = pidNamespace === ours.pid ? namespace(pid, 'mnt') : undefined
    const plain = pidNamespace !== undefined && pidNamespace === ours.pid && mountNamespace === ours.mount
    if (!all && plain) return 'plain'
    process ??= readProcess(pid)
    return process ? {process, pidNamespace, mountNamespace} : 'gone'
  }
}

function isApart({process, mountNamespace}: Found, ours: Own): boolean {
  return mountNamespace !== undefined && mountNamespace !== ours.mount && !process.kernel
}

/** The mount namespaces in which no process has our root, or whose container is known. */
function withRootsOfTheirOwn(apart: Found[], named: number[]): Set<string> {
  const found = new Set(apart.map(({mountNamespace}) => mountNamespace!))
  if (found.size === 0) return found
  const root = rootOf('self')
  const known = new Set(apart.filter(({process}) => named.includes(process.pid)).map(f => f.mountNamespace!))
  for (const {process, mountNamespace} of apart)
    if (found.has(mountNamespace!) && !known.has(mountNamespace!)) {
      const other = rootOf(process.pid)
      if (other === undefined || other === root) found.delete(mountNamespace!)
    }
  return found
}

/**
 * What a process has as "/": a mount, or (after chroot(2)) none. Told by the mounts and not by stat(2): the file system
 * there may be one of the container's own, that never answers (FUSE).
 */
function rootOf(pid: number | 'self'): string | undefined {
  const all = mounts(pid)
  if (all === undefined) return undefined
  const top = all.findLast(({point}) => point === '/')
  return top ? `${top.device} ${top.root}` : 'none'
}

/** The processes of each PID namespace right below ours, and of each mount namespace of the others. */
function grouped(found: Map<number, Found>): Map<string, Process[]> {
  const inits = new Map<string, Found>()
  for (const one of found.values())
    if (one.pidNamespace !== undefined && one.process.inner.at(-1) === 1) inits.set(one.pidNamespace, one)
  const keys = new Map<Found, string>()
  const groups = new Map<string, Process[]>()
  for (const one of found.values()) {
    const key = keyOf(one, found, inits, keys)
    const group = groups.get(key)
    if (group) group.push(one.process)
    else groups.set(key, [one.process])
  }
  return groups
}

/** Climbs to a process whose container is known: the init of a nested namespace was started by a process in the one above. */
function keyOf(
  one: Found,
  byPid: Map<number, Found>,
  inits: Map<string, Found>,
  keys: Map<Found, string>,
): string {
  const climbed = new Set<Found>()
  let key: string | undefined
  for (let at = one; key === undefined; ) {
    climbed.add(at)
    key = keys.get(at) ?? ownKey(at)
    const init = inits.get(at.pidNamespace ?? '') ?? at
    const above = byPid.get(init.process.ppid)
    if (above && !climbed.has(above)) at = above
    else key ??= at.pidNamespace ?? `alone ${at.process.pid}`
  }
  for (const each of climbed) keys.set(each, key)
  return key
}

/** What says by itself which container a process is in; undefined in a namespace of a namespace. */
function ownKey({process, pidNamespace, mountNamespace}: Found): string | undefined {
  if (process.inner.length === 0) return mountNamespace
  if (process.inner.length > 1) return undefined
  // Where we see no namespaces (another user's), the first process stands for its own.
  return pidNamespace ?? (process.inner[0] === 1 ? `init ${process.pid}` : undefined)
}
