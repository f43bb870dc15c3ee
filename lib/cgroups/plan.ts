import * as fs from 'node:fs'
import * as path from 'node:path'
import type {Resources} from '../document/oci.ts'
import {HewError, reason, SEE_CHECK, series} from '../errors.ts'
import {read, words} from '../kernel.ts'
import type {Plan} from '../step.ts'
import {cgroupOf, type Hierarchy, isOurs, place, systemdRuns, topmost, unitOf} from './hierarchies.ts'
import {type Setting, settings} from './limits.ts'

/** What counts, in v1 hierarchy by hierarchy, for what is told at the end. */
const COUNTING = ['memory', 'cpu', 'cpuacct', 'pids']

/** How people get a part of the tree that systemd leaves to them. */
export function delegation(): string {
  const user = process.getuid!() === 0 ? '' : ' --user'
  return `systemd-run${user} --scope -p Delegate=yes`
}

/** A name for the cgroup of a root's container: no file of a cgroup can be called so, as those have dots. */
export function cgroupName(root: string): string {
  return (
    path
      .basename(root)
      .replace(/[^A-Za-z0-9_-]/g, '-')
      .slice(0, 100) || 'root'
  )
}

/** Which kind of cgroups a controller is in here. */
export function versionOf(found: Hierarchy[]): (controller: string) => 1 | 2 | undefined {
  return controller =>
    found.find(h => h.version === 1 && h.controllers.includes(controller))?.version ??
    found.find(h => h.version === 2)?.version
}

/** A hierarchy with the cgroup in it below which the container's is made, and what is written there. */
export interface Part {
  hierarchy: Hierarchy
  above: string
  settings: Setting[]
}

/**
 * Where limits go: a part for each hierarchy that has one of their controllers.
 * @throws HewError a controller is not to be had here
 */
export function parts(limits: Setting[], found: Hierarchy[]): Part[] {
  const byHierarchy = new Map<Hierarchy, Setting[]>()
  for (const setting of limits) {
    const hierarchy =
      found.find(h => h.version === 1 && h.controllers.includes(setting.controller)) ??
      found.find(h => h.version === 2)
    if (!hierarchy) throw new HewError(none(setting.controller, found))
    byHierarchy.set(hierarchy, [...(byHierarchy.get(hierarchy) ?? []), setting])
  }
  return [...byHierarchy].map(([hierarchy, settings]) => {
    const needed = [...new Set(settings.map(({controller}) => controller))].filter(name => name !== 'cgroup')
    const above = place(hierarchy, needed)
    if (above === undefined) throw new HewError(unavailable(hierarchy, needed, found))
    const why = hierarchy.version === 2 ? unfit(above) : undefined
    if (why) throw new HewError(why)
    try {
      fs.accessSync(above, fs.constants.W_OK)
    } catch (error) {
      throw new HewError(unwritable(hierarchy, above, error))
    }
    return {hierarchy, above, settings}
  })
}

function none(controller: string, found: Hierarchy[]): string {
  return found.length === 0
    ? "limits need cgroups, and none are mounted here: run 'hew cgroup-init' first"
    : `the limit of ${controller} cannot be set: this machine has no ${controller} controller${SEE_CHECK}`
}

function unavailable(h: Hierarchy, needed: string[], found: Hierarchy[]): string {
  const own = cgroupOf('self', h)
  if (own === undefined)
    return `the cgroup that hew is in cannot be seen below ${h.mount}: mount cgroup2 there anew, as a container's own`
  const within = topmost(h, own)
  const available = words(`${within}/cgroup.controllers`)
  const missing = needed.filter(controller => !available.includes(controller))
  if (missing.length > 0 && found.length > 1 && available.length === 0)
    return `the limit of ${series(missing)} cannot be set: this machine has no ${series(missing)} controller${SEE_CHECK}`
  if (systemdRuns() && (unitOf(own) === undefined || available.length === 0))
    return `systemd manages the cgroups here and has left none to us: start with '${delegation()} ...', and run 'hew cgroup-init' in there`
  if (missing.length > 0)
    return `the limit of ${series(missing)} cannot be set: ${within} has only the controllers ${available.join(', ') || 'of nobody'}${SEE_CHECK}`
  if (h.readOnly) return unwritable(h, h.mount, {code: 'EROFS'})
  const enabled = words(`${within}/cgroup.subtree_control`)
  if (needed.every(controller => enabled.includes(controller)))
    return `hew is in the cgroup ${own}, which is limited itself: a container beside it would escape from that, start hew outside of it`
  return `${series(needed)} ${needed.length > 1 ? 'are' : 'is'} not enabled for cgroups below ${within}: run 'hew cgroup-init' first`
}

/** Whoever enables cpu or pids in a cgroup that holds processes makes it "domain threaded", and what is made in it "domain invalid". */
function unfit(above: string): string | undefined {
  const type = read(`${above}/cgroup.type`)
  // The kernel's root has none, and may do both.
  if (type === undefined) return undefined
  const [occupied, enabled] = ['cgroup.procs', 'cgroup.subtree_control'].map(
    file => words(`${above}/${file}`).length > 0,
  )
  if (type === 'domain' && !(occupied && enabled)) return undefined
  return `the cgroup ${above} is "${type}", controllers were enabled in it while it held processes: run 'hew cgroup-init', which repairs it`
}

function unwritable(h: Hierarchy, above: string, error: unknown): string {
  if ((error as NodeJS.ErrnoException).code === 'EROFS')
    return `limits need a cgroup of their own, and ${h.mount} is read-only, as in a container without --privileged: start that one with 'docker run --privileged'`
  return `limits need a cgroup of their own, and none can be made in ${above}: ${reason(error)}: ${systemdRuns() ? `start with '${delegation()} ...'` : 'this takes root'}${SEE_CHECK}`
}

const HINTS = {
  ENOENT: 'these cgroups have no such limit',
  EINVAL: 'the kernel does not take this value',
  ERANGE: 'the kernel does not take this value',
  EBUSY: 'the kernel does not take this value here',
  ENODEV: 'there is no such device',
}

/**
 * The steps that give a container its cgroup: made, limited all or none, joined at its start, removed after its end. Also
 * without limits, where that is possible: what holds all its processes together can be listed, frozen and killed.
 * @param resources linux.resources of the document; @param counted for a verdict: in v1, too, as with limits, where nothing is limited
 * @throws HewError the limits cannot be had here: they are never left out
 */
export function cgroupPlan(resources: Resources, name: string, found: Hierarchy[], counted: boolean): Plan {
  const limits = settings(resources, versionOf(found))
  const all = [...parts(limits, found)]
  all.push(...notLimited(all, found, counted))
  if (all.length === 0) return []
  const paths = all.map(({above}) => `${above}/${name}`)
  return [
    {
      do: 'cgroup',
      name,
      above: all.map(({hierarchy, above, settings}) => ({
        version: hierarchy.version,
        path: above,
        optional: settings.length === 0,
      })),
    },
    ...all.flatMap(({hierarchy, above, settings}, cgroup) =>
      [...inherited(hierarchy, above, settings), ...settings].map(setting => ({
        do: 'cgroup-set' as const,
        cgroup,
        path: paths[cgroup]!,
        file: setting.file,
        value: setting.value,
        optional: setting.optional ?? false,
        hints: hierarchy.version === 1 ? {...HINTS, ENOENT: 'cgroup v1 has no such limit'} : HINTS,
      })),
    ),
    {do: 'cgroup-join', paths},
  ]
}

/** A cpuset of v1 begins empty, and nothing can be put into it before it has both CPUs and memory nodes. */
export function inherited(h: Hierarchy, above: string, own: Setting[]): Setting[] {
  if (h.version === 2 || !h.controllers.includes('cpuset')) return []
  return ['cpuset.mems', 'cpuset.cpus']
    .filter(file => !own.some(setting => setting.file === file))
    .map(file => ({controller: 'cpuset', file, value: read(`${above}/${file}`) ?? '0'}))
}

/** Hierarchies in which nothing is limited: that of v2, else the freezer, and those that count; none is needed. */
function notLimited(limited: Part[], found: Hierarchy[], counted: boolean): Part[] {
  const holds = found.find(h => h.version === 2) ?? found.find(h => h.controllers.includes('freezer'))
  return found.flatMap(hierarchy => {
    if (limited.some(part => part.hierarchy === hierarchy)) return []
    const counts =
      (counted || limited.length > 0) && hierarchy.controllers.some(name => COUNTING.includes(name))
    if (hierarchy !== holds && !counts) return []
    const own = cgroupOf('self', hierarchy)
    const above = place(hierarchy, hierarchy.version === 2 ? ['memory', 'pids'] : [], own) ?? own
    if (above === undefined || !isOurs(above) || (hierarchy.version === 2 && unfit(above))) return []
    return [{hierarchy, above, settings: []}]
  })
}
