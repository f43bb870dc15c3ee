import * as path from 'node:path'
import type {Act} from '../act.ts'
import {HewError, SEE_CHECK} from '../errors.ts'
import {words} from '../kernel.ts'
import {
  cgroupOf,
  type Hierarchy,
  hierarchies,
  isKernelsRoot,
  systemdRuns,
  topmost,
  unitOf,
} from './hierarchies.ts'
import {delegation} from './plan.ts'

/** The controllers that a container is limited by, where the kernel has them. */
export const CONTROLLERS = ['cpuset', 'cpu', 'io', 'memory', 'hugetlb', 'pids', 'rdma', 'misc']

export interface Preparation {
  /** Those to enable; all of CONTROLLERS that are available where nothing is said. */
  controllers?: string[] | undefined
  /** The name of the cgroup that takes the processes up. */
  evacuateTo: string
}

/** What was found, and what is to be done. */
export interface Prepared {
  found: string
  cgroup?: string
  before: string[]
  acts: Act[]
}

const MOUNT = '/sys/fs/cgroup'

/** What has to be done before anything can be found. */
export function mounting(): Act[] {
  return hierarchies().length === 0 ? [{do: 'mount-cgroups', path: MOUNT}] : []
}

/**
 * What makes the tree of cgroups ready for limits: no process is left in the topmost cgroup, and its controllers are enabled for
 * those below it. Can be done again, or twice at once.
 * @throws HewError it is not ours to rearrange, or there are no such controllers
 */
export function prepare(preparation: Preparation): Prepared {
  const {controllers, evacuateTo} = preparation
  // Not mounted, and that is not to be changed now: it would be a container's own.
  if (hierarchies().length === 0)
    return {found: 'v2', cgroup: MOUNT, before: [], acts: acts(MOUNT, controllers ?? CONTROLLERS, evacuateTo)}
  const h = unified()
  if (h === undefined) return {found: 'v1, whose controllers need no preparation', before: [], acts: []}
  if (h.readOnly)
    throw new HewError(
      `${h.mount} is read-only, as in a container without --privileged: start that one with 'docker run --privileged'`,
    )
  const top = topOf(h, evacuateTo)
  const wanted = available(top, controllers)
  const before = words(`${top}/cgroup.subtree_control`)
  const kernels = isKernelsRoot(top)
  const kind = kernels ? "the kernel's own root: its processes can stay" : "not the kernel's own root"
  return {
    found: `v2, ${kind}`,
    cgroup: top,
    before,
    acts: kernels
      ? [
          {do: 'sweep-ended', path: top},
          {do: 'enable-controllers', path: top, controllers: wanted, to: ''},
        ]
      : acts(top, wanted, evacuateTo),
  }
}

/** What enables cpu or pids beside processes turns the cgroup into a threaded one: first nobody is left, then +. */
function acts(path: string, controllers: string[], evacuateTo: string): Act[] {
  const to = `${path}/${evacuateTo}`
  return [
    {do: 'sweep-ended', path},
    {do: 'repair-cgroup', path},
    {do: 'evacuate-cgroup', path, to},
    {do: 'enable-controllers', path, controllers, to},
  ]
}

/** The tree of v2; undefined where v1 has the controllers. */
function unified(): Hierarchy | undefined {
  const found = hierarchies()
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
    `${top} has no controllers: they are not enabled in the cgroup above it (cgroup.subtree_control), or cgroup v1 has them${SEE_CHECK}`,
  )
}
