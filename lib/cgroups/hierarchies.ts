import * as fs from 'node:fs'
import * as path from 'node:path'
import {isVisible, type Mounted, mounts, read, words} from '../kernel.ts'

/** A mounted tree of cgroups: the one of v2, or one of those of v1 (cgroups(7)). */
export interface Hierarchy {
  version: 1 | 2
  /** v1: those it was mounted with. v2: those that the topmost cgroup in sight may pass on. */
  controllers: string[]
  /** Where it is mounted. */
  mount: string
  /** The cgroup that is seen there, as /proc/PID/cgroup would name it: not `/` in many containers. */
  root: string
  readOnly: boolean
}

/** v1 calls the controller of block devices otherwise; limits are named as in v2. */
const V1_NAMES: Record<string, string> = {blkio: 'io'}

/** Every hierarchy that is mounted here and can be seen. */
export function hierarchies(all = mounts('self') ?? []): Hierarchy[] {
  const found = all.flatMap(mount =>
    ['cgroup', 'cgroup2'].includes(mount.type) && isVisible(mount, all) ? hierarchy(mount) : [],
  )
  const one = (h: Hierarchy): string => (h.version === 2 ? 'v2' : h.controllers.join())
  // One that is mounted twice: where it can be written, and where more of it is seen.
  found.sort((a, b) => Number(a.readOnly) - Number(b.readOnly) || a.root.length - b.root.length)
  return found.filter((h, i) => found.findIndex(other => one(other) === one(h)) === i)
}

function hierarchy({type, point: mount, root, options}: Mounted): Hierarchy[] {
  const readOnly = options.includes('ro')
  if (type === 'cgroup2')
    return [{version: 2, controllers: words(`${mount}/cgroup.controllers`), mount, root, readOnly}]
  const controllers = options
    .filter(option => V1_CONTROLLERS.includes(option))
    .map(name => V1_NAMES[name] ?? name)
  // name=systemd and its like track processes and limit nothing.
  return controllers.length === 0 ? [] : [{version: 1, controllers, mount, root, readOnly}]
}

const V1_CONTROLLERS = [
  'blkio',
  'cpu',
  'cpuacct',
  'cpuset',
  'freezer',
  'hugetlb',
  'memory',
  'pids',
  'rdma',
  'misc',
]

/** The directory of the cgroup that a process is in, or undefined where that cannot be seen from here. */
export function cgroupOf(pid: number | 'self', hierarchy: Hierarchy): string | undefined {
  return cgroupIn(read(`/proc/${pid}/cgroup`) ?? '', hierarchy)
}

/** The same, of what /proc/PID/cgroup holds. */
export function cgroupIn(text: string, {version, controllers, mount, root}: Hierarchy): string | undefined {
  const line = text.split('\n').find(line => {
    const [id, list = ''] = line.split(':')
    const own = list.split(',').map(name => V1_NAMES[name] ?? name)
    return version === 2 ? id === '0' : controllers.every(name => own.includes(name))
  })
  const named = line?.split(':').slice(2).join(':')
  // A process outside of our cgroup namespace: `/../other`. One whose cgroup was removed: `/gone (deleted)`.
  if (named === undefined || named.startsWith('/..') || named.endsWith(' (deleted)')) return undefined
  if (root === '/') return named === '/' ? mount : mount + named
  return named === root || named.startsWith(`${root}/`) ? mount + named.slice(root.length) : undefined
}

/** True for the root of the whole machine: it alone has no type, and no limits. */
export function isKernelsRoot(directory: string): boolean {
  return read(`${directory}/cgroup.procs`) !== undefined && read(`${directory}/cgroup.type`) === undefined
}

/** True where systemd runs the machine, and the tree of cgroups with it: sd_booted(3). */
export function systemdRuns(): boolean {
  return fs.existsSync('/run/systemd/system')
}

/** The part of a path that is a unit of systemd's, up to the innermost: /a.slice/b.scope of /a.slice/b.scope/c. */
export function unitOf(directory: string): string | undefined {
  return /^.*\.(scope|service)(?=\/|$)/.exec(directory)?.[0]
}

/** Limits a cgroup has itself; a process that leaves it escapes from them. */
const LIMITS: [file: string, none: RegExp][] = [
  ['memory.max', /^max$/],
  ['memory.high', /^max$/],
  ['memory.swap.max', /^max$/],
  ['cpu.max', /^max /],
  ['cpuset.cpus', /^$/],
  ['pids.max', /^max$/],
  ['io.max', /^$/],
]

function limitsNothing(directory: string): boolean {
  return LIMITS.every(([file, none]) => {
    const value = read(`${directory}/${file}`)
    return value === undefined || none.test(value)
  })
}

/** True where we may make cgroups, and move processes into them and out. */
export function isOurs(directory: string): boolean {
  try {
    for (const file of [directory, `${directory}/cgroup.procs`]) fs.accessSync(file, fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The highest cgroup above this one that is ours to divide: the unit that systemd has left to us, or as far as we may write. */
export function topmost(h: Hierarchy, own: string): string {
  const unit = systemdRuns() ? unitOf(own) : undefined
  if (unit !== undefined || !isOurs(own)) return unit ?? h.mount
  let at = own
  while (at !== h.mount && isOurs(path.dirname(at))) at = path.dirname(at)
  return at
}

/**
 * The cgroup in which hew makes others, with these controllers enabled for them; or undefined.
 *
 * v1: the own one. v2: the own one or, since nothing can be enabled in one that holds processes, the nearest above it:
 * `cgroup-init` has moved us down. No limit is left behind on the way, nor a unit of systemd's.
 */
export function place(
  h: Hierarchy,
  needed: string[],
  own: string | undefined = cgroupOf('self', h),
): string | undefined {
  if (h.version === 1 || own === undefined) return own
  const top = topmost(h, own)
  for (let at = own; ; at = at.replace(/\/[^/]*$/, '')) {
    const enabled = words(`${at}/cgroup.subtree_control`)
    if (needed.every(controller => enabled.includes(controller))) return at
    if (at.length <= top.length || !limitsNothing(at)) return undefined
  }
}
