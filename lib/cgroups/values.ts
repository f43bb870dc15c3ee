import * as fs from 'node:fs'
import {UsageError} from '../errors.ts'
import {read} from '../kernel.ts'

const UNITS = ['', 'K', 'M', 'G', 'T']
const PAGE = 4096

/**
 * `80M` in bytes: 1024 to each step, as the kernel has it. `max` is undefined.
 * @throws UsageError it is none, with the name of its option
 */
export function size(option: string, word: string): number | undefined {
  if (word === 'max') return undefined
  const [, number = '', unit = '', suffix = ''] =
    /^(\d+(?:\.\d+)?)([KMGTkmgt]?)((?:[Ii]?[Bb])?)$/.exec(word) ?? []
  if (number === '')
    throw new UsageError(
      `${option} ${word}: it is a number of bytes, with K, M, G or T behind it, as in 80M, or max`,
    )
  const bytes = Math.floor(Number(number) * 1024 ** UNITS.indexOf(unit.toUpperCase()))
  if (unit !== '' && suffix.length === 1)
    throw new UsageError(
      `${option} ${word}: ${unit.toUpperCase()}B is 1000 to some and 1024 to others: write ${number}${unit.toUpperCase()} (1024), or the number of bytes`,
    )
  if (bytes > Number.MAX_SAFE_INTEGER)
    throw new UsageError(`${option} ${word}: no machine has that much: max lifts the limit`)
  return bytes
}

/**
 * As size(), and something can run in it.
 * @throws UsageError
 */
export function memory(option: string, word: string): number | undefined {
  const bytes = size(option, word)
  if (bytes !== undefined && bytes < PAGE)
    throw new UsageError(`${option} ${word}: that is less than a page of memory: 80M is 80 MiB`)
  return bytes
}

/** Bytes as people write them: 80 MiB. */
export function bytesText(bytes: number): string {
  let step = 0
  while (bytes >= 1024 && step < UNITS.length - 1) {
    bytes /= 1024
    step++
  }
  return `${Number(bytes.toFixed(1))} ${step === 0 ? 'bytes' : `${UNITS[step]}iB`}`
}

/** CPUs that are there: `0-3,8` of sysfs, as numbers. */
function online(): number[] {
  return cpuList(read('/sys/devices/system/cpu/online') ?? '0')
}

function cpuList(list: string): number[] {
  return list.split(',').flatMap(range => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({length: last! - first! + 1}, (_, i) => first! + i)
  })
}

export interface Bandwidth {
  quota: number
  period: number
}

/** The kernel's own period, and the shortest quota that it takes: sched-bwc.rst. */
const PERIOD = 100_000
const LONGEST_PERIOD = 1_000_000
const SHORTEST_QUOTA = 1000

/**
 * `5%` of one CPU, or `1.5` CPUs, as quota and period of CFS in microseconds; `max` is undefined.
 * @throws UsageError
 */
export function bandwidth(word: string): Bandwidth | undefined {
  if (word === 'max') return undefined
  const [, number, percent] = /^(\d+(?:\.\d+)?)(%?)$/.exec(word) ?? []
  if (number === undefined)
    throw new UsageError(
      `--cpu ${word}: it is a percentage of one CPU, as in 5%, a number of CPUs, as in 1.5, or max`,
    )
  const cores = Number(number) / (percent ? 100 : 1)
  const most = online().length
  if (cores > most)
    throw new UsageError(
      `--cpu ${word}: this machine has ${most === 1 ? 'one CPU' : `${most} CPUs`}: at most ${percent ? `${most * 100}%` : most}${percent || Number(number) > 100 ? '' : `; a percentage is written ${number}%`}`,
    )
  const period = cores * PERIOD < SHORTEST_QUOTA ? LONGEST_PERIOD : PERIOD
  const quota = Math.round(cores * period)
  if (quota < SHORTEST_QUOTA) throw new UsageError(`--cpu ${word}: the kernel gives no less than 0.1%`)
  return {quota, period}
}

/** Quota and period as a person would have said them. */
export function bandwidthText({quota, period}: Bandwidth): string {
  return `${Number(((quota / period) * 100).toFixed(2))}% of a CPU`
}

/**
 * A whole number in a range; `max` is undefined where that is meant.
 * @throws UsageError
 */
export function count(option: string, word: string, least: number, most: number): number {
  const number = /^\d{1,16}$/.test(word) ? Number(word) : Number.NaN
  if (!(number >= least && number <= most))
    throw new UsageError(`${option} ${word}: it is a whole number from ${least} to ${most}`)
  return number
}

/**
 * `0-2,4`: CPUs that are there.
 * @throws UsageError
 */
export function cpuset(word: string): string {
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(word) || word.length > 1000)
    throw new UsageError(`--cpuset ${word}: it is a list of CPUs, as in 0-2,4`)
  const there = online()
  for (const range of word.split(',')) {
    const [first = 0, last = first] = range.split('-').map(Number)
    if (first > last) throw new UsageError(`--cpuset ${word}: ${range} runs backwards`)
    if (!there.includes(first) || !there.includes(last))
      throw new UsageError(
        `--cpuset ${word}: there is no such CPU: this machine has ${read('/sys/devices/system/cpu/online')}`,
      )
  }
  return word
}

/** What `--io` limits on one device. */
export interface DeviceLimit {
  major: number
  minor: number
  key: 'rbps' | 'wbps' | 'riops' | 'wiops'
  /** 0: none. */
  rate: number
}

/**
 * `/dev/sda:rbps=1M,wiops=100` or `8:0:...`, the keys of io.max.
 * @throws UsageError
 */
export function deviceLimits(word: string): DeviceLimit[] {
  const [, device, settings] = /^(.+):([^:]+)$/.exec(word) ?? []
  if (!device || !settings?.includes('='))
    throw new UsageError(`--io ${word}: it is DEVICE:KEY=RATE, as in /dev/sda:rbps=1M,wiops=100`)
  const number = deviceNumber(word, device)
  return settings.split(',').map(setting => {
    const [key, rate = '', ...rest] = setting.split('=')
    if ((key !== 'rbps' && key !== 'wbps' && key !== 'riops' && key !== 'wiops') || rest.length > 0)
      throw new UsageError(`--io ${word}: ${setting}: there are rbps, wbps, riops and wiops`)
    const bytes = size(`--io ${key}`, rate) ?? 0
    if (bytes === 0 && rate !== 'max')
      throw new UsageError(`--io ${word}: ${setting}: nothing could be read or written at all`)
    return {...number, key, rate: bytes}
  })
}

function deviceNumber(word: string, device: string): {major: number; minor: number} {
  const [, major, minor] = /^(\d{1,4}):(\d{1,7})$/.exec(device) ?? []
  if (major && minor) return {major: Number(major), minor: Number(minor)}
  const file = fs.statSync(device, {throwIfNoEntry: false})
  if (!file?.isBlockDevice()) throw new UsageError(`--io ${word}: ${device} is no block device`)
  return {major: (file.rdev >>> 8) & 0xfff, minor: (file.rdev & 0xff) | ((file.rdev >>> 12) & 0xfff00)}
}

/** Why a cgroup has no such file to set, or undefined: a path, or one that moves, freezes and kills. */
export function noLimit(file: string, value: string): string | undefined {
  if (!/^[a-z0-9_]+(\.[A-Za-z0-9_]+)+$/.test(file))
    return `${file} is no file of a cgroup: they are named as memory.max is`
  if (file.startsWith('cgroup.') && !file.startsWith('cgroup.max.')) return `${file} is no limit`
  return /[\0\n]/.test(value) ? 'its value is more than one line' : undefined
}

/**
 * `FILE=VALUE` of a cgroup's own files.
 * @throws UsageError
 */
export function assignment(word: string): [file: string, value: string] {
  const [, file, value] = /^([^=]*)=(.*)$/s.exec(word) ?? []
  if (!file || !value) throw new UsageError(`--set ${word}: it is FILE=VALUE, as in memory.low=20M`)
  const why = noLimit(file, value)
  if (why) throw new UsageError(`--set ${word}: ${why}`)
  return [file, value]
}
