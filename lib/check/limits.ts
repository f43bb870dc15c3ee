import * as fs from 'node:fs'
import {cgroupOf, type Hierarchy} from '../cgroups/hierarchies.ts'
import {type Setting, settings} from '../cgroups/limits.ts'
import {inherited, parts, versionOf} from '../cgroups/plan.ts'
import type {Resources} from '../document/oci.ts'
import {reason} from '../errors.ts'
import {read, writeValue} from '../kernel.ts'
import {why} from './check.ts'

/** What `hew limit` writes for an option, in a modest size. */
export const LIMITS: {controller: string; option: string; resources(): Resources}[] = [
  {controller: 'memory', option: '--memory', resources: () => ({memory: {limit: 1 << 26}})},
  {controller: 'cpu', option: '--cpu', resources: () => ({cpu: {quota: 50_000, period: 100_000}})},
  {controller: 'pids', option: '--pids', resources: () => ({pids: {limit: 100}})},
  {controller: 'cpuset', option: '--cpuset', resources: () => ({cpu: {cpus: ownCpu()}})},
  {controller: 'io', option: '--io', resources: () => ({blockIO: {throttleReadBpsDevice: someDisk()}})},
]

function ownCpu(): string {
  return /^Cpus_allowed_list:\t(\d+)/m.exec(read('/proc/self/status') ?? '')?.[1] ?? '0'
}

/** Where there is no disk in sight, the file is looked for, and nothing is written. */
function someDisk(): {major: number; minor: number; rate: number}[] {
  const [name] = fs.existsSync('/sys/block') ? fs.readdirSync('/sys/block') : []
  const [major = 0, minor = 0] = (read(`/sys/block/${name}/dev`) ?? '').split(':').map(Number)
  return [{major, minor, rate: 1 << 30}]
}

/** A cgroup's name that nobody else has, as long as this process lives. */
const NAME = `hew-check-${process.pid}`

/**
 * Limits a cgroup of its own, as `limit | enter` would, and removes it.
 * @returns why it cannot be done, or undefined
 */
export function tried(resources: Resources, found: Hierarchy[]): string | undefined {
  try {
    const limits = settings(resources, versionOf(found))
    for (const {hierarchy, above, settings} of parts(limits, found))
      inNewCgroup(above, directory => {
        for (const setting of [...inherited(hierarchy, above, settings), ...settings])
          write(directory, setting)
      })
    return undefined
  } catch (error) {
    return why(reason(error))
  }
}

function write(directory: string, {file, value, optional}: Setting): void {
  if (optional && !fs.existsSync(`${directory}/${file}`)) return
  if (value.startsWith('0:0 ')) fs.accessSync(`${directory}/${file}`, fs.constants.W_OK)
  else writeValue(`${directory}/${file}`, value)
}

/** It goes when Ctrl-C comes, too: the handler waits for the end of all this. */
function inNewCgroup<T>(above: string, use: (directory: string) => T): T {
  const directory = `${above}/${NAME}`
  const wait = (): void => {}
  process.on('SIGINT', wait)
  process.on('SIGTERM', wait)
  fs.mkdirSync(directory)
  try {
    return use(directory)
  } finally {
    fs.rmdirSync(directory)
    process.off('SIGINT', wait)
    process.off('SIGTERM', wait)
  }
}

/** Whether cgroups of v2 have a file, for example `cgroup.kill`; undefined where none can be made to look. */
export function hasFile(h: Hierarchy, name: string): boolean | undefined {
  const own = cgroupOf('self', h)
  try {
    if (own === undefined) return undefined
    return inNewCgroup(own, directory => fs.existsSync(`${directory}/${name}`))
  } catch {
    // The root of the whole machine is the one cgroup without.
    return own !== undefined && fs.existsSync(`${own}/cgroup.type`)
      ? fs.existsSync(`${own}/${name}`)
      : undefined
  }
}
