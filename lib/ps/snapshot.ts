import * as fs from 'node:fs'
import * as path from 'node:path'
import {cgroupIn, type Hierarchy, hierarchies} from '../cgroups/hierarchies.ts'
import {type Use, useOf} from '../cgroups/use.ts'
import {KINDS} from '../container/machine.ts'
import {isFrozen} from '../containers/freeze.ts'
import {type Container as Known, STATE} from '../containers/state.ts'
import type {NamespaceType} from '../document/oci.ts'
import {type Mounted, mounts, read, words} from '../kernel.ts'
import {Sysroot} from '../sysroot.ts'
import {namespace, type Process, TICKS, uptime} from './proc.ts'
import {type Scan, scan} from './scan.ts'
import {namesIn, type Users, usersOf} from './users.ts'

/** A process of a container. */
export interface Member extends Process {
  /** Its PID as the container counts, or undefined where that is the same as ours. */
  pidInside: number | undefined
  uidInside: number
  user: string | undefined
  ageSeconds: number
  /** How many of its ancestors are in the container, too. */
  depth: number
}

/** A container at one moment. What is undefined is unknown. */
export interface Container {
  /** hew's name for it; one that was made by hand has none. */
  name: string | undefined
  status: 'creating' | 'created' | 'running' | 'frozen' | 'stopped' | 'unknown'
  /** Its first process. */
  pid: number | undefined
  /** hew's process that waits for its end, outside of it. */
  supervisor: number | undefined
  detached: boolean
  createdAt: Date | undefined
  /** The root's path, as we would reach it. */
  root: string | undefined
  /** The namespaces that are not ours, in the runtime specification's words. */
  namespaces: NamespaceType[] | undefined
  /** What its cgroup counts; empty where it has none for itself alone. */
  use: Use
  /** In the order of a tree. */
  processes: Member[]
}

export interface Snapshot {
  containers: Container[]
  /** The machine's other processes; only where they were asked for. */
  others: Member[] | undefined
}

/** What all containers of one snapshot are compared with. */
interface Here {
  uptime: number
  hierarchies: Hierarchy[]
  /** Our own cgroups: a container in one of them, or above, has none of its own. */
  cgroups: Map<Hierarchy, string | undefined>
  namespaces: [NamespaceType, string | undefined][]
  mounts: Mounted[]
  scan: Scan
  memory: Memory | undefined
}

/** What does not change while a process lives. */
interface Facts {
  users: Users
  root: string | undefined
  namespaces: NamespaceType[] | undefined
}

/** What one snapshot leaves to the next, which then reads less: `--watch`. */
export class Memory {
  scan: Scan | undefined
  readonly facts = new Map<string, Facts>()
  readonly uses = new Map<string, Use>()
  /** The containers, by key(), whose use and processes are read again; undefined: all. */
  fresh: Set<string> | undefined
  /** Their processes. */
  freshPids = new Set<number>()
}

/** What tells a container from others while it lives. */
export function keyOf({name, pid}: Pick<Container, 'name' | 'pid'>): string {
  return name ?? `${pid}`
}

/**
 * The containers of this machine and their processes: those that hew knows, and those that were isolated by hand.
 * @param known what has a state; @param all the machine's other processes, too; @param memory of the snapshot before
 */
export function snapshot(known: Known[], all: boolean, memory?: Memory): Snapshot {
  const found = hierarchies()
  const cgroups = read('/proc/self/cgroup') ?? ''
  const running = new Map<number, Known>()
  for (const one of known) if (one.life === 'alive' && one.first) running.set(one.first.pid, one)
  const before = memory?.fresh && memory.scan && {...memory.scan, fresh: memory.freshPids}
  const here: Here = {
    uptime: uptime(),
    hierarchies: found,
    cgroups: new Map(found.map(h => [h, cgroupIn(cgroups, h)])),
    namespaces: Object.entries(KINDS).map(([type, kind]) => [type as NamespaceType, namespace('self', kind)]),
    mounts: mounts('self') ?? [],
    scan: scan(all, [...running.keys()], before),
    memory,
  }
  if (memory) memory.scan = here.scan
  const groups = groupsOf(running, here.scan)
  const containers = known.map(one => container(groups.get(one) ?? [], one, here))
  const taken = new Set(groups.values())
  for (const group of here.scan.groups.values())
    if (!taken.has(group)) containers.push(container(group, undefined, here))
  return {containers, others: all ? machineProcesses(here) : undefined}
}

/** The processes of each container that has a state. */
function groupsOf(running: Map<number, Known>, {groups}: Scan): Map<Known, Process[]> {
  const found = new Map<Known, Process[]>()
  for (const group of groups.values())
    for (const {pid, start} of group) {
      const known = running.get(pid)
      if (known && known.first?.start === `${start}`) found.set(known, group)
    }
  return found
}

function container(group: Process[], known: Known | undefined, here: Here): Container {
  const first =
    group.find(({pid, inner}) => (known ? pid === known.first?.pid : inner[0] === 1)) ?? eldest(group)
  const facts = first && factsOf(first, here)
  return {
    name: known?.id,
    status: known ? statusOf(known) : 'running',
    pid: first?.pid,
    supervisor: known?.life === 'alive' ? known.supervisor.pid : undefined,
    detached: known?.detached ?? false,
    createdAt: createdAt(known, first, here),
    root: known?.root ?? facts?.root,
    namespaces: facts?.namespaces,
    use: useOfGroup(known, first, here),
    processes: tree(group).map(([process, depth]) => member(process, depth, facts?.users, here)),
  }
}

function factsOf({pid, start}: Process, here: Here): Facts {
  const known = here.memory?.facts.get(`${pid} ${start}`)
  if (known) return known
  const mounted = mounts(pid)
  const facts = {
    users: usersOf(pid, mounted),
    root: rootOf(pid, mounted, here),
    namespaces: namespacesOf(pid, here),
  }
  here.memory?.facts.set(`${pid} ${start}`, facts)
  return facts
}

function machineProcesses({scan, uptime}: Here): Member[] {
  const names = namesIn(new Sysroot('/'))
  const users: Users = {inside: uid => uid, name: uid => names.get(uid)}
  return tree(scan.others).map(([process, depth]) => member(process, depth, users, {uptime}))
}

function member(
  process: Process,
  depth: number,
  users: Users | undefined,
  {uptime}: Pick<Here, 'uptime'>,
): Member {
  const uidInside = users?.inside(process.uid) ?? process.uid
  return {
    ...process,
    depth,
    pidInside: process.inner[0],
    uidInside,
    user: users?.name(uidInside),
    ageSeconds: Math.max(0, uptime - process.start / TICKS),
  }
}

function eldest(group: Process[]): Process | undefined {
  return group.reduce<Process | undefined>((a, b) => (a && a.start <= b.start ? a : b), undefined)
}

/**
 * Parents before their children, with how deep each is. Read one after the other while they come and go, the parents may be
 * anything, even a circle.
 */
export function tree<P extends {pid: number; ppid: number}>(group: P[]): [process: P, depth: number][] {
  const here = new Set(group.map(({pid}) => pid))
  const children = new Map<number, P[]>()
  for (const one of group) {
    const parent = here.has(one.ppid) ? one.ppid : 0
    const beside = children.get(parent)
    if (beside) beside.push(one)
    else children.set(parent, [one])
  }
  const ordered: [P, number][] = []
  const seen = new Set<P>()
  // By a list of its own: a chain of processes may be longer than the stack.
  const climb = (roots: P[]): void => {
    const waiting = roots.map((one): [P, number] => [one, 0]).reverse()
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const [one, depth] = next
      if (seen.has(one)) continue
      seen.add(one)
      ordered.push(next)
      for (const child of children.get(one.pid)?.toReversed() ?? []) waiting.push([child, depth + 1])
    }
  }
  climb(children.get(0) ?? [])
  if (ordered.length < group.length) climb(group)
  return ordered
}

function statusOf({life, state, cgroups}: Known): Container['status'] {
  if (life === 'ended' || life === 'dead') return 'stopped'
  // Of another PID namespace's container nobody here knows whether it lives.
  if (life === 'foreign') return 'unknown'
  return isFrozen(cgroups) ? 'frozen' : state.status
}

function createdAt(known: Known | undefined, first: Process | undefined, here: Here): Date | undefined {
  const written = new Date(known?.state.annotations[STATE.created] ?? Number.NaN)
  if (!Number.isNaN(written.getTime())) return written
  return first && new Date(Date.now() - (here.uptime - first.start / TICKS) * 1000)
}

function namespacesOf(pid: number, {namespaces}: Here): NamespaceType[] | undefined {
  const others = namespaces.flatMap(([type, own]) => {
    const other = own && namespace(pid, KINDS[type])
    return own === undefined ? [] : [{type, other, own}]
  })
  if (others.some(({other}) => other === undefined)) return undefined
  return others.filter(({other, own}) => other !== own).map(({type}) => type)
}

/** Where we have what a process has as "/". */
function rootOf(pid: number, mounted: Mounted[] | undefined, here: Here): string | undefined {
  let seen: string
  try {
    seen = fs.readlinkSync(`/proc/${pid}/root`)
  } catch {
    return undefined
  }
  // After chroot(2) alone it is a path, in mounts that it has copied from ours.
  if (seen !== '/') return seen
  const top = mounted?.findLast(({point}) => point === '/')
  const within = (root: string): boolean =>
    root === '/' || top?.root === root || top?.root.startsWith(`${root}/`) === true
  const [mount] = here.mounts
    .filter(({device, root}) => device === top?.device && within(root))
    .sort((a, b) => b.root.length - a.root.length)
  return mount && path.join(mount.point, path.relative(mount.root, top!.root))
}

/** What the cgroup of a container counts, where it has one for itself alone. */
function useOfGroup(known: Known | undefined, first: Process | undefined, here: Here): Use {
  const {memory} = here
  const key = keyOf({name: known?.id, pid: first?.pid})
  const before = memory?.uses.get(key)
  if (before && memory?.fresh && !memory.fresh.has(key)) return before
  const text = (first && read(`/proc/${first.pid}/cgroup`)) ?? ''
  const use = useOf(
    h => known?.cgroups.find(at => at.startsWith(`${h.mount}/`)) ?? ownCgroup(cgroupIn(text, h), h, here),
    first ? here.hierarchies : [],
  )
  memory?.uses.set(key, use)
  return use
}

function ownCgroup(at: string | undefined, h: Hierarchy, here: Here): string | undefined {
  if (at === undefined || at === h.mount || `${here.cgroups.get(h)}/`.startsWith(`${at}/`)) return undefined
  // 0: a process of another PID namespace. One that was started since is nobody's yet.
  return words(`${at}/cgroup.procs`).some(pid => pid === '0' || here.scan.outside.has(Number(pid)))
    ? undefined
    : at
}
