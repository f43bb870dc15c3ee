import {read} from '../kernel.ts'
import {type Hierarchy, hierarchies} from './hierarchies.ts'

/** No limit, in v1: LONG_MAX, rounded down to a page. */
const V1_NONE = 2 ** 62

/** The number in the first of the files that is there; undefined for `max`. */
export function number(directory: string | undefined, files: string[]): number | undefined {
  if (directory === undefined) return undefined
  const value = files.map(file => read(`${directory}/${file}`)).find(text => text !== undefined)
  return value === undefined || !/^\d+$/.test(value) || Number(value) >= V1_NONE ? undefined : Number(value)
}

/** The values behind the keys of a file such as cpu.stat. */
function keyed(directory: string | undefined, files: string[]): Record<string, number> {
  if (directory === undefined) return {}
  const text = files.map(file => read(`${directory}/${file}`)).find(text => text !== undefined) ?? ''
  return Object.fromEntries(
    text.split('\n').flatMap(line => {
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
export function useOf(
  at: (hierarchy: Hierarchy) => string | undefined,
  found: Hierarchy[] = hierarchies(),
): Use {
  const known = new Map<Hierarchy, string | undefined>()
  const where = (controller: string): string | undefined => {
    const h =
      found.find(h => h.version === 1 && h.controllers.includes(controller)) ??
      found.find(h => h.version === 2)
    if (h && !known.has(h)) known.set(h, at(h))
    return h && known.get(h)
  }
  const [memory, cpu, pids] = [where('memory'), where('cpu'), where('pids')]
  return {
    cgroups: Object.fromEntries(
      Object.entries({memory, cpu, pids}).filter(
        (entry): entry is [string, string] => entry[1] !== undefined,
      ),
    ),
    processes: {
      now: number(pids, ['pids.current']),
      limit: number(pids, ['pids.max']),
      refused: keyed(pids, ['pids.events']).max,
    },
    memory: {
      now: number(memory, ['memory.current', 'memory.usage_in_bytes']),
      limit: number(memory, ['memory.max', 'memory.limit_in_bytes']),
      peak: number(memory, ['memory.peak', 'memory.max_usage_in_bytes']),
      kills: keyed(memory, ['memory.events', 'memory.oom_control']).oom_kill,
    },
    cpu: cpuUse(cpu, where('cpuacct')),
  }
}

function cpuUse(cpu: string | undefined, cpuacct: string | undefined): Use['cpu'] {
  const [quota = '', period] = (cpu === undefined ? '' : (read(`${cpu}/cpu.max`) ?? '')).split(' ')
  const stat = keyed(cpu, ['cpu.stat'])
  const spent = stat.usage_usec
  return {
    seconds: spent === undefined ? seconds(number(cpuacct, ['cpuacct.usage']), 1e9) : spent / 1e6,
    throttled: stat.nr_throttled,
    throttledSeconds: seconds(stat.throttled_usec, 1e6) ?? seconds(stat.throttled_time, 1e9),
    quota: /^\d+$/.test(quota) ? Number(quota) : number(cpu, ['cpu.cfs_quota_us']),
    period: period ? Number(period) : number(cpu, ['cpu.cfs_period_us']),
  }
}

function seconds(value: number | undefined, unit: number): number | undefined {
  return value === undefined ? undefined : value / unit
}
