import {read} from '../kernel.ts'
import type {Hierarchy} from './hierarchies.ts'

/** No limit, in v1: LONG_MAX, rounded down to a page. */
const V1_NONE = 2 ** 62

/** A cgroup's directory, and the kind that it is of. */
interface Place {
  directory: string
  version: Hierarchy['version']
}

/** What a file is called in v2 and in v1; undefined: there is none. */
type Names = [v2: string | undefined, v1: string | undefined]

/** Only the file that this kind has is opened: one that is not there takes longer than one that is. */
function text(place: Place | undefined, [v2, v1]: Names): string | undefined {
  const file = place?.version === 2 ? v2 : v1
  return place && file && read(`${place.directory}/${file}`)
}

/** The number in a cgroup's file; undefined for `max`, or where there is none. */
export function number(place: Place | undefined, names: Names): number | undefined {
  const value = text(place, names)
  return value === undefined || !/^\d+$/.test(value) || Number(value) >= V1_NONE ? undefined : Number(value)
}

/** The values behind the keys of a file such as cpu.stat. */
function keyed(place: Place | undefined, names: Names): Record<string, number> {
  return Object.fromEntries(
    (text(place, names) ?? '').split('\n').flatMap(line => {
      const [key = '', value = ''] = line.split(' ')
      return /^\d+$/.test(value) ? [[key, Number(value)]] : []
    }),
  )
}

/** What a cgroup may use, and what it does. What nobody counts, or nothing limits, is undefined. */
export interface Use {
  /** Its directories, by what is counted there. */
  cgroups: Record<string, string>
  /** `refused`: forks. */
  processes: {now?: number | undefined; limit?: number | undefined; refused?: number | undefined}
  /** Bytes. `kills`: by the kernel, for want of memory. */
  memory: {
    now?: number | undefined
    limit?: number | undefined
    peak?: number | undefined
    kills?: number | undefined
  }
  /** Quota and period in microseconds. `throttled`: periods at whose end it had to wait. */
  cpu: {
    seconds?: number | undefined
    throttled?: number | undefined
    throttledSeconds?: number | undefined
    quota?: number | undefined
    period?: number | undefined
  }
}

/** What a cgroup may use, and what it does. @param at its directory in a hierarchy */
export function useOf(at: (hierarchy: Hierarchy) => string | undefined, found: Hierarchy[]): Use {
  const known = new Map<Hierarchy, Place | undefined>()
  const where = (controller: string): Place | undefined => {
    const h =
      found.find(h => h.version === 1 && h.controllers.includes(controller)) ??
      found.find(h => h.version === 2)
    if (!h) return undefined
    if (!known.has(h)) known.set(h, placeIn(h, at))
    return known.get(h)
  }
  const [memory, cpu, pids] = [where('memory'), where('cpu'), where('pids')]
  return {
    cgroups: Object.fromEntries(
      Object.entries({memory, cpu, pids}).flatMap(([name, place]) =>
        place ? [[name, place.directory]] : [],
      ),
    ),
    processes: {
      now: number(pids, both('pids.current')),
      limit: number(pids, both('pids.max')),
      refused: keyed(pids, both('pids.events')).max,
    },
    memory: {
      now: number(memory, MEMORY_NOW),
      limit: number(memory, MEMORY_LIMIT),
      peak: number(memory, ['memory.peak', 'memory.max_usage_in_bytes']),
      kills: keyed(memory, ['memory.events', 'memory.oom_control']).oom_kill,
    },
    cpu: cpuUse(cpu, where('cpuacct')),
  }
}

/** Where something is in a hierarchy. @param at its directory there */
export function placeIn(h: Hierarchy, at: (hierarchy: Hierarchy) => string | undefined): Place | undefined {
  const directory = at(h)
  return directory === undefined ? undefined : {directory, version: h.version}
}

export const MEMORY_NOW: Names = ['memory.current', 'memory.usage_in_bytes']
export const MEMORY_LIMIT: Names = ['memory.max', 'memory.limit_in_bytes']
const both = (name: string): Names => [name, name]

function cpuUse(cpu: Place | undefined, cpuacct: Place | undefined): Use['cpu'] {
  const [quota = '', period] = (text(cpu, ['cpu.max', undefined]) ?? '').split(' ')
  const stat = keyed(cpu, both('cpu.stat'))
  const spent = stat.usage_usec
  return {
    seconds: spent === undefined ? seconds(number(cpuacct, [undefined, 'cpuacct.usage']), 1e9) : spent / 1e6,
    throttled: stat.nr_throttled,
    throttledSeconds: seconds(stat.throttled_usec, 1e6) ?? seconds(stat.throttled_time, 1e9),
    quota: /^\d+$/.test(quota) ? Number(quota) : number(cpu, [undefined, 'cpu.cfs_quota_us']),
    period: period ? Number(period) : number(cpu, [undefined, 'cpu.cfs_period_us']),
  }
}

function seconds(value: number | undefined, unit: number): number | undefined {
  return value === undefined ? undefined : value / unit
}
