import type {Resources, Throttle} from '../document/oci.ts'
import {HewError} from '../errors.ts'
import {type DeviceLimit, noLimit} from './values.ts'

/** A line that is written to a file of a cgroup. */
export interface Setting {
  controller: string
  file: string
  value: string
  /** Where the kernel has no such file there is nothing to limit. */
  optional?: boolean
}

/** What `hew limit` was asked for; undefined where nothing was said, null where a limit is lifted. */
export interface Wishes {
  memory?: number | null | undefined
  /** On top of the memory. Nothing said, and a memory limit: none. */
  swap?: number | null | undefined
  memoryHigh?: number | null | undefined
  cpu?: {quota: number; period: number} | null | undefined
  cpuWeight?: number | undefined
  pids?: number | null | undefined
  cpus?: string | undefined
  devices: DeviceLimit[]
  files: [file: string, value: string][]
}

const NONE = -1
const orNone = (value: number | null): number => value ?? NONE
const orMax = (value: number | null): string => (value === null ? 'max' : `${value}`)

const THROTTLES: Record<DeviceLimit['key'], keyof NonNullable<Resources['blockIO']>> = {
  rbps: 'throttleReadBpsDevice',
  wbps: 'throttleWriteBpsDevice',
  riops: 'throttleReadIOPSDevice',
  wiops: 'throttleWriteIOPSDevice',
}

/** linux.resources with the wishes in it, in OCI's terms; what these have no field for goes into `unified`. */
export function resources(before: Resources, wishes: Wishes): Resources {
  const {memory, swap, memoryHigh, cpu, cpuWeight, pids, cpus, devices, files} = wishes
  const limit = memory === undefined ? (before.memory?.limit ?? NONE) : orNone(memory)
  const unified = {
    ...before.unified,
    ...(memoryHigh !== undefined && {'memory.high': orMax(memoryHigh)}),
    ...(cpuWeight !== undefined && {'cpu.weight': `${cpuWeight}`}),
    ...Object.fromEntries(files),
  }
  const blockIO = {...before.blockIO}
  for (const {key, major, minor, rate} of devices) {
    const name = THROTTLES[key] as 'throttleReadBpsDevice'
    const others = (blockIO[name] ?? []).filter(other => other.major !== major || other.minor !== minor)
    blockIO[name] = [...others, {major, minor, rate}]
  }
  // OCI counts memory and swap together.
  const swapping = memory !== undefined || swap !== undefined
  const total = limit === NONE || swap === null ? NONE : limit + (swap ?? 0)
  const result: Resources = {
    ...before,
    memory: {...before.memory, ...(memory !== undefined && {limit}), ...(swapping && {swap: total})},
    cpu: {
      ...before.cpu,
      ...(cpu !== undefined && (cpu ?? {quota: NONE})),
      ...(cpus !== undefined && {cpus}),
    },
    pids: {...before.pids, ...(pids !== undefined && {limit: orNone(pids)})},
    blockIO,
    unified,
  }
  for (const key of ['memory', 'cpu', 'pids', 'blockIO', 'unified'] as const)
    if (Object.keys(result[key] ?? {}).length === 0) delete result[key]
  return result
}

/** One field of linux.resources: the file and the value that it is in v2, and in v1. Undefined: it needs none there. */
interface Row {
  of(resources: Resources): number | string | undefined
  v2?(value: never, resources: Resources): [file: string, value: string | number] | undefined
  v1?(value: never, resources: Resources): [file: string, value: string | number] | undefined
}

const unlimited = (value: number): string | number => (value < 0 ? 'max' : value)

/** cgroup v1's 2 to 262144 (1024 is the usual), as v2's 1 to 10000 (100 is the usual), and back. */
const weightOf = (shares: number): number => {
  const power = Math.log2(Math.min(Math.max(shares, 2), 262144))
  return Math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))
}
const sharesOf = (weight: number): number => Math.max(2, Math.round((weight * 1024) / 100))

/** From config-linux.md to cgroup-v2.rst and to the files of cgroup-v1/, in an order in which they can be written. */
const TABLE: Row[] = [
  {
    of: r => r.memory?.limit,
    v2: (bytes: number) => ['memory.max', unlimited(bytes)],
    v1: (bytes: number) => ['memory.limit_in_bytes', bytes],
  },
  {
    of: r => r.memory?.swap,
    v2: (total: number, {memory}) => ['memory.swap.max', total < 0 ? 'max' : total - (memory?.limit ?? 0)],
    v1: (total: number) => ['memory.memsw.limit_in_bytes', total],
  },
  {
    of: r => r.memory?.reservation,
    v2: (bytes: number) => ['memory.low', unlimited(bytes)],
    v1: (bytes: number) => ['memory.soft_limit_in_bytes', bytes],
  },
  {
    of: r => r.cpu?.shares,
    v2: (shares: number) => ['cpu.weight', weightOf(shares)],
    v1: (shares: number) => ['cpu.shares', shares],
  },
  {
    of: r => r.cpu?.period,
    v2: (period: number, {cpu}) => (cpu?.quota === undefined ? ['cpu.max', `max ${period}`] : undefined),
    v1: (period: number) => ['cpu.cfs_period_us', period],
  },
  {
    of: r => r.cpu?.quota,
    v2: (quota: number, {cpu}) => ['cpu.max', `${unlimited(quota)} ${cpu?.period ?? 100_000}`],
    v1: (quota: number) => ['cpu.cfs_quota_us', quota],
  },
  {
    of: r => r.cpu?.burst,
    v2: (burst: number) => ['cpu.max.burst', burst],
    v1: (burst: number) => ['cpu.cfs_burst_us', burst],
  },
  {of: r => r.cpu?.idle, v2: (idle: number) => ['cpu.idle', idle], v1: (idle: number) => ['cpu.idle', idle]},
  {
    of: r => r.cpu?.mems || undefined,
    v2: (list: string) => ['cpuset.mems', list],
    v1: (list: string) => ['cpuset.mems', list],
  },
  {
    of: r => r.cpu?.cpus || undefined,
    v2: (list: string) => ['cpuset.cpus', list],
    v1: (list: string) => ['cpuset.cpus', list],
  },
  {
    of: r => r.pids?.limit,
    v2: (limit: number) => ['pids.max', limit <= 0 ? 'max' : limit],
    v1: (limit: number) => ['pids.max', limit <= 0 ? 'max' : limit],
  },
  {
    of: r => r.blockIO?.weight,
    v2: (weight: number) => ['io.weight', 1 + Math.floor(((weight - 10) * 9999) / 990)],
    v1: (weight: number) => ['blkio.weight', weight],
  },
]

/** Files of v2 that v1 has under another name: for `unified`. */
const V1_FILES: Record<string, (value: string) => [file: string, value: string | number][]> = {
  'memory.max': value => [['memory.limit_in_bytes', value === 'max' ? NONE : value]],
  'memory.low': value => [['memory.soft_limit_in_bytes', value === 'max' ? NONE : value]],
  'cpu.weight': value => [['cpu.shares', sharesOf(Number(value))]],
  'cpu.max': value => {
    const [quota = '', period = '100000'] = value.split(' ')
    return [
      ['cpu.cfs_period_us', period],
      ['cpu.cfs_quota_us', quota === 'max' ? NONE : quota],
    ]
  },
  'cpu.max.burst': value => [['cpu.cfs_burst_us', value]],
}

/** The controller that a file belongs to, as v2 names it. */
const controllerOf = (file: string): string => (file.startsWith('blkio.') ? 'io' : file.split('.', 1)[0]!)

function setting([file, value]: [string, string | number], optional = false): Setting {
  return {controller: controllerOf(file), file, value: `${value}`, ...(optional && {optional})}
}

/**
 * What has to be written to a cgroup so that linux.resources hold for it.
 * @param version the kind of cgroups that a controller has here, as v1 and hybrid machines mix them
 * @throws HewError what v1 has no such limit for, or what cannot be had
 */
export function settings(
  resources: Resources,
  version: (controller: string) => 1 | 2 | undefined,
): Setting[] {
  if (resources.memory?.disableOOMKiller)
    throw new HewError('refused: linux.resources.memory.disableOOMKiller: cgroup v2 has no such thing')
  const files = [
    ...Object.entries(resources.unified ?? {}),
    ...(resources.hugepageLimits ?? []).map(({pageSize}) => [`hugetlb.${pageSize}.max`, ''] as const),
  ]
  for (const [file, value] of files) {
    const why = noLimit(file, value)
    if (why) throw new HewError(`refused: linux.resources: ${why}`)
  }
  const inForce = (of: {v1: Setting[]; v2: Setting[]}): Setting[] => {
    const kind = version((of.v2[0] ?? of.v1[0])?.controller ?? '')
    return kind === 1 ? of.v1 : of.v2
  }
  const rows = TABLE.flatMap(row => {
    const value = row.of(resources) as never
    // 0 is what runtimes written in Go take for nothing said.
    if (value === undefined || value === null || value === 0) return []
    // No swap on top where the kernel counts none: nothing is left open.
    const optional = row.of === TABLE[1]!.of && resources.memory?.swap === resources.memory?.limit
    const made = [row.v1?.(value, resources), row.v2?.(value, resources)].map(entry =>
      entry ? [setting(entry, optional)] : [],
    )
    return inForce({v1: made[0]!, v2: made[1]!})
  })
  const pages = (resources.hugepageLimits ?? []).flatMap(({pageSize, limit}) =>
    inForce({
      v1: [setting([`hugetlb.${pageSize}.limit_in_bytes`, limit])],
      v2: [setting([`hugetlb.${pageSize}.max`, limit])],
    }),
  )
  const devices = Object.entries(THROTTLES).flatMap(([key, name]) =>
    ((resources.blockIO?.[name] ?? []) as Throttle[]).flatMap(({major, minor, rate}) =>
      inForce({
        v1: [setting([`blkio.${V1_THROTTLES[key as DeviceLimit['key']]}`, `${major}:${minor} ${rate}`])],
        v2: [setting(['io.max', `${major}:${minor} ${key}=${rate === 0 ? 'max' : rate}`])],
      }),
    ),
  )
  const unified = Object.entries(resources.unified ?? {}).flatMap(([file, value]) =>
    inForce({
      v1: (V1_FILES[file]?.(value) ?? [[file, value] as [string, string]]).map(entry => setting(entry)),
      v2: [setting([file, value])],
    }),
  )
  return [...rows, ...pages, ...devices, ...unified]
}

const V1_THROTTLES: Record<DeviceLimit['key'], string> = {
  rbps: 'throttle.read_bps_device',
  wbps: 'throttle.write_bps_device',
  riops: 'throttle.read_iops_device',
  wiops: 'throttle.write_iops_device',
}
