import * as fs from 'node:fs'
import * as path from 'node:path'
import {HewError, reason} from '../errors.ts'
import {
  cgroupOf,
  type Hierarchy,
  hierarchies,
  isKernelsRoot,
  read,
  systemdRuns,
  topmost,
  unitOf,
  words,
} from './hierarchies.ts'
import {delegation} from './plan.ts'
import {sweepEnded, writeValue} from './running.ts'

/** The controllers that a container is limited by, where the kernel has them. */
export const CONTROLLERS = ['cpuset', 'cpu', 'io', 'memory', 'hugetlb', 'pids', 'rdma', 'misc']

export interface Preparation {
  /** Those to enable; all of CONTROLLERS that are available where nothing is said. */
  controllers?: string[] | undefined
  /** The name of the cgroup that takes the processes up. */
  evacuateTo: string
  /** Mounts cgroup2 there, where no hierarchy is mounted. */
  mount(at: string): void
}

/** What was found, and what was done. */
export interface Prepared {
  found: string
  cgroup?: string
  moved: number
  before: string[]
  after: string[]
}

/**
 * Makes the tree of cgroups ready for limits: no process is left in the topmost cgroup, and its controllers are enabled for
 * those below it. Can be run again, or twice at once.
 * @throws HewError it is not ours to rearrange, or the kernel refuses; what was moved stays moved
 */
export function prepare(preparation: Preparation): Prepared {
  const h = unified(preparation)
  if (h === undefined)
    return {found: 'v1, whose controllers need no preparation', moved: 0, before: [], after: []}
  if (h.readOnly)
    throw new HewError(
      `${h.mount} is read-only, as in a container without --privileged: start that one with 'docker run --privileged'`,
    )
  const top = topOf(h, preparation.evacuateTo)
  sweepEnded(top)
  const wanted = available(top, preparation.controllers)
  const before = words(`${top}/cgroup.subtree_control`)
  const kernels = isKernelsRoot(top)
  if (!kernels) repair(top)
  // What enables cpu or pids beside processes turns the cgroup into a threaded one: first nobody is left, then +.
  const moved = enable(top, wanted, () => (kernels ? 0 : evacuate(top, `${top}/${preparation.evacuateTo}`)))
  const kind = kernels ? "the kernel's own root: its processes can stay" : "not the kernel's own root"
  return {
    found: `v2, ${kind}`,
    cgroup: top,
    moved,
    before,
    after: words(`${top}/cgroup.subtree_control`),
  }
}

/** The tree of v2; undefined where v1 has the controllers. */
function unified({mount}: Preparation): Hierarchy | undefined {
  let found = hierarchies()
  if (found.length === 0) {
    mount('/sys/fs/cgroup')
    found = hierarchies()
  }
  const v2 = found.find(h => h.version === 2)
  // A hybrid machine's tree of v2 has what v1 has left over: nobody waits for that.
  const useful = v2?.controllers.some(name => USUAL.includes(name))
  return useful || !found.some(h => h.version === 1) ? v2 : undefined
}

const USUAL = ['cpu', 'io', 'memory', 'pids']

/** The cgroup to prepare: the topmost that is ours. */
function topOf(h: Hierarchy, evacuateTo: string): string {
  const own = cgroupOf('self', h)
  if (own === undefined)
    throw new HewError(
      `the cgroup that hew is in cannot be seen below ${h.mount}: it is the tree of another cgroup namespace, mount cgroup2 anew`,
    )
  if (systemdRuns()) return delegated(own)
  if (!isKernelsRoot(h.mount)) return topmost(h, own)
  return own !== h.mount && path.basename(own) === evacuateTo ? path.dirname(own) : own
}

/** systemd moves processes and sets controllers as it sees fit, but for units with Delegate=yes: CGROUP_DELEGATION.md. */
function delegated(own: string): string {
  const unit = unitOf(own)
  if (unit !== undefined && delegates(unit)) return unit
  throw new HewError(
    `systemd manages the cgroups of this machine, and they are left as they are: start '${delegation()} sh', and hew in there`,
  )
}

function delegates(unit: string): boolean {
  const {spawnSync} = process.getBuiltinModule('node:child_process')
  const manager = /\/user@\d+\.service\//.test(unit) ? ['--user'] : []
  const words = [...manager, 'show', '--property=Delegate', '--value', path.basename(unit)]
  const {stdout} = spawnSync('systemctl', words, {encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore']})
  return stdout?.trim() === 'yes'
}

function available(top: string, asked: string[] | undefined): string[] {
  const there = words(`${top}/cgroup.controllers`)
  const missing = (asked ?? []).filter(name => !there.includes(name))
  if (missing.length > 0)
    throw new HewError(`${top} has no controller ${missing.join(', ')}: it has ${there.join(', ') || 'none'}`)
  const wanted = asked ?? CONTROLLERS.filter(name => there.includes(name))
  if (wanted.length > 0) return wanted
  throw new HewError(
    `${top} has no controllers: they are not enabled in the cgroup above it (cgroup.subtree_control), or cgroup v1 has them`,
  )
}

/**
 * Somebody has enabled cpu or pids before the processes had left: the cgroup is "domain threaded" since, what is below it
 * "domain invalid", and no process can be moved there (cgroup-v2.rst, Threads).
 */
function repair(top: string): void {
  const type = (): string | undefined => read(`${top}/cgroup.type`)
  if (type() === 'domain threaded') {
    const enabled = words(`${top}/cgroup.subtree_control`)
    if (enabled.length > 0)
      attempt(`${top}/cgroup.subtree_control`, enabled.map(name => `-${name}`).join(' '))
  }
  const found = type()
  if (found === 'domain') return
  const threaded = fs
    .readdirSync(top, {withFileTypes: true})
    .find(entry => entry.isDirectory() && read(`${top}/${entry.name}/cgroup.type`) === 'threaded')
  throw new HewError(
    threaded
      ? `the cgroup ${top} is "${found}", since ${top}/${threaded.name} is "threaded": a cgroup cannot be made a domain again, remove that one first`
      : `the cgroup ${top} is "${found}": memory and io cannot be limited below it; start hew outside of it`,
  )
}

function attempt(file: string, value: string): void {
  try {
    writeValue(file, value)
  } catch (error) {
    throw new HewError(`cannot write '${value}' to ${file}: ${reason(error)}`)
  }
}

/** So long may their number not have fallen before we say that it never will. */
const PATIENCE_MS = 20_000

/** Moves every process of a cgroup, until none is left: they fork meanwhile, and end. How many that were. */
function evacuate(from: string, to: string): number {
  const moved = new Set<string>()
  let fewest = Number.POSITIVE_INFINITY
  let until = 0
  for (;;) {
    const left = words(`${from}/cgroup.procs`)
    if (left.length === 0) return moved.size
    if (left.length < fewest) {
      fewest = left.length
      until = Date.now() + PATIENCE_MS
    } else if (Date.now() > until)
      throw new HewError(`processes keep coming to ${from}: ${left.slice(0, 5).join(', ')} are there now`)
    make(to)
    const stuck = left.filter(pid => !move(pid, to, moved))
    // 0: a process that our PID namespace has no number for. To write 0 would mean ourselves.
    const outside = stuck.filter(pid => pid === '0').length
    if (outside > 0 && stuck.length === left.length)
      throw new HewError(
        `${outside} ${outside === 1 ? 'process' : 'processes'} in ${from} cannot be moved from here, as they belong to another PID namespace: somebody entered the container from outside (docker exec, nsenter), and has to leave`,
      )
  }
}

function make(directory: string): void {
  try {
    fs.mkdirSync(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new HewError(`cannot make the cgroup ${directory}: ${reason(error)}`)
  }
}

/** False for a process that cannot be moved from here. */
function move(pid: string, to: string, moved: Set<string>): boolean {
  if (pid === '0') return false
  try {
    writeValue(`${to}/cgroup.procs`, pid)
    moved.add(pid)
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
    throw new HewError(`cannot move the process ${pid} to ${to}: ${reason(error)}`)
  }
  return true
}

/** A process that comes in between evacuation and enabling makes the kernel say EBUSY: then both once more. */
function enable(top: string, controllers: string[], evacuateFirst: () => number): number {
  const file = `${top}/cgroup.subtree_control`
  let moved = 0
  for (let tries = 0; ; tries++) {
    moved += evacuateFirst()
    const enabled = words(file)
    const missing = controllers.filter(name => !enabled.includes(name))
    if (missing.length === 0) return moved
    try {
      writeValue(file, missing.map(name => `+${name}`).join(' '))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EBUSY' && tries < 100) continue
      throw new HewError(`cannot enable ${missing.join(', ')} in ${top}: ${reason(error)}`)
    }
  }
}
