import * as fs from 'node:fs'
import * as path from 'node:path'
import {HewError, reason, UsageError} from '../errors.ts'
import {cgroupOf, type Hierarchy, hierarchies, read, words} from './hierarchies.ts'
import {resources, type Setting, settings, type Wishes} from './limits.ts'
import {cgroupName, inherited, type Part, parts, versionOf} from './plan.ts'
import {number, useOf} from './use.ts'
import {bandwidthText, bytesText} from './values.ts'

/** Processes that run already, and are limited together. */
export interface Target {
  /** As the user named it. */
  word: string
  /** What a cgroup that is made for it is called. */
  name: string
  /** Its processes, the first one first. */
  pids(): number[]
  /** The directory of the cgroup that it is in. */
  at(hierarchy: Hierarchy): string | undefined
  /** A cgroup that is known to be its alone. */
  own?(hierarchy: Hierarchy): string | undefined
  /** Told of a cgroup before it is made for it; what it returns takes that back. */
  given?(directory: string): () => void
}

/**
 * The processes that a word of the command line names: a PID, with all that it started; or a cgroup below the one that we
 * are in, or beside it. Undefined: no cgroup is called so.
 * @throws HewError there is no such process
 */
export function targetOf(word: string): Target | undefined {
  if (/^\d{1,10}$/.test(word)) return byPid(word)
  if (/^[A-Za-z0-9_-]+$/.test(word)) {
    const at = (h: Hierarchy): string | undefined =>
      chain(h)
        .map(above => `${above}/${word}`)
        .find(directory => fs.statSync(directory, {throwIfNoEntry: false})?.isDirectory())
    const found = hierarchies().flatMap(h => at(h) ?? [])
    const pids = (): number[] => [...new Set(found.flatMap(directory => processes(directory)))]
    if (found.length > 0) return {word, name: word, pids, at}
  }
  return undefined
}

function byPid(word: string): Target {
  const given = Number(word)
  const comm = read(`/proc/${given}/comm`)
  if (comm === undefined) throw new HewError(`there is no process ${word}`)
  // The PID that a shell has of `hew enter ... &` is the supervisor's, who stays outside of what is limited.
  const [child] = comm === 'hew:supervisor' ? words(`/proc/${given}/task/${given}/children`) : []
  const pid = child === undefined ? given : Number(child)
  const name = cgroupName(`${(read(`/proc/${pid}/comm`) ?? comm).replaceAll('/', '-')}-${pid}`)
  return {word, name, pids: () => [pid, ...descendants(pid)], at: h => cgroupOf(pid, h)}
}

/** All that a process started, and that nobody else has adopted. */
export function descendants(pid: number): number[] {
  const parents = new Map<number, number[]>()
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    // The name in parentheses may hold anything: proc_pid_stat(5).
    const parent = Number(
      read(`/proc/${name}/stat`)
        ?.replace(/^.*\) . /s, '')
        .split(' ')[0],
    )
    parents.set(parent, [...(parents.get(parent) ?? []), Number(name)])
  }
  const below = (of: number): number[] => (parents.get(of) ?? []).flatMap(child => [child, ...below(child)])
  return below(pid)
}

function processes(directory: string): number[] {
  return words(`${directory}/cgroup.procs`).map(Number)
}

/** The cgroup that hew is in, and those above it: what is in one of these may be moved to one of its own. */
function chain(h: Hierarchy): string[] {
  const own = cgroupOf('self', h)
  if (own === undefined) return []
  const steps = own.slice(h.mount.length).split('/').slice(1)
  return [h.mount, ...steps.map((_, i) => `${h.mount}/${steps.slice(0, i + 1).join('/')}`)].reverse()
}

/** The cgroup that is the target's alone, or undefined. */
function ownCgroup(target: Target, h: Hierarchy): string | undefined {
  const known = target.own?.(h)
  if (known !== undefined) return known
  const at = target.at(h)
  const above = chain(h)
  if (at === undefined || above.includes(at) || !above.includes(path.dirname(at))) return undefined
  const own = target.pids()
  return processes(at).every(pid => own.includes(pid)) ? at : undefined
}

/**
 * Limits what runs already, at once: all limits or none. Without a cgroup of its own it gets one.
 * @throws HewError nothing was changed
 */
export function limitRunning(target: Target, wishes: Wishes): void {
  const found = hierarchies()
  const before = wishes.swap === undefined ? {} : presentMemory(target, wishes, found)
  const wanted = parts(settings(resources(before, wishes), versionOf(found)), found)
  const change = new Change()
  for (const {above} of wanted) sweepEnded(above)
  try {
    for (const part of wanted) {
      const own = ownCgroup(target, part.hierarchy)
      if (own === undefined) moveToOwn(target, part, change)
      else {
        refuseBelowUse(target, part, own)
        for (const setting of ordered(part.settings, own)) change.set(own, setting)
      }
    }
  } catch (error) {
    change.undo()
    throw error
  }
}

/** --swap alone is on top of the limit that there is. */
function presentMemory(target: Target, wishes: Wishes, found: Hierarchy[]) {
  if (wishes.memory !== undefined) return {}
  const limit = found
    .filter(({controllers}) => controllers.includes('memory'))
    .map(h => number(target.at(h), ['memory.max', 'memory.limit_in_bytes']))
    .find(value => value !== undefined)
  if (limit === undefined) throw new UsageError('--swap is on top of --memory: say both')
  return {memory: {limit}}
}

function moveToOwn(target: Target, {hierarchy, above, settings}: Part, change: Change): void {
  const from = target.at(hierarchy)
  if (from === undefined)
    throw new HewError(`the cgroup of ${target.word} cannot be seen below ${hierarchy.mount}`)
  if (!chain(hierarchy).includes(from))
    throw new HewError(
      `${target.word} shares the cgroup ${from} with others: moved to one of its own it would escape from the limits there`,
    )
  const own = `${above}/${target.name}`
  change.make(own, target.given)
  for (const setting of [...inherited(hierarchy, above, settings), ...settings]) change.set(own, setting)
  // They fork meanwhile: again, until none is left behind.
  for (let left = inside(target, from); left.length > 0; left = inside(target, from))
    for (const pid of left) change.move(pid, from, own)
  if (processes(own).length === 0) throw new HewError(`${target.word} has ended`)
  fs.chmodSync(own, 0o755 | MADE_FOR_A_PROCESS)
}

/** The sticky bit, which means nothing to the kernel on a cgroup: set once the process is in, so that empty means ended. */
const MADE_FOR_A_PROCESS = 0o1000

/**
 * Removes the cgroups in a directory that were made for a process, and in which nobody is any more: its end is not waited for by
 * anybody. Those that others made stay.
 */
export function sweepEnded(above: string): void {
  for (const name of fs.readdirSync(above)) {
    const directory = `${above}/${name}`
    try {
      const {mode, uid} = fs.lstatSync(directory)
      if (mode & MADE_FOR_A_PROCESS && uid === process.geteuid!()) fs.rmdirSync(directory)
    } catch {
      // EBUSY: somebody is in it. ENOENT: another hew was faster.
    }
  }
}

function inside(target: Target, directory: string): number[] {
  const there = new Set(processes(directory))
  return target.pids().filter(pid => there.has(pid))
}

/** v1 holds that memory and swap together are never less than memory alone, between two writes as well. */
function ordered(list: Setting[], directory: string): Setting[] {
  const limit = list.find(({file}) => file === 'memory.limit_in_bytes')
  const total = list.find(({file}) => file === 'memory.memsw.limit_in_bytes')
  const present = Number(read(`${directory}/memory.memsw.limit_in_bytes`))
  if (!limit || !total || !(Number(limit.value) < 0 || Number(limit.value) > present)) return list
  return [total, ...list.filter(setting => setting !== total)]
}

/** v2 would kill, v1 would refuse: hew does neither, and says so. */
function refuseBelowUse(target: Target, {settings}: Part, own: string): void {
  const limit = settings.find(({file}) => file === 'memory.max' || file === 'memory.limit_in_bytes')
  const use = number(own, ['memory.current', 'memory.usage_in_bytes'])
  const bytes = Number(limit?.value)
  if (!limit || !(bytes >= 0) || use === undefined || use <= bytes) return
  const force =
    limit.file === 'memory.max'
      ? `; with --set memory.max=${bytes} the kernel takes back what it can, and kills`
      : ''
  throw new HewError(
    `${target.word} uses ${bytesText(use)} of memory now, more than ${bytesText(bytes)}: nothing was changed${force}`,
  )
}

/** What was changed, so that it can be taken back. */
class Change {
  private readonly done: (() => void)[] = []

  make(directory: string, tell: Target['given']): void {
    const back = tell?.(directory)
    if (back) this.done.push(back)
    try {
      fs.mkdirSync(directory)
    } catch (error) {
      throw new HewError(`cannot make the cgroup ${directory}: ${reason(error)}`)
    }
    this.done.push(() => fs.rmdirSync(directory))
  }

  set(directory: string, {file, value, optional}: Setting): void {
    const at = `${directory}/${file}`
    const before = read(at)
    try {
      writeValue(at, value)
    } catch (error) {
      const {code} = error as NodeJS.ErrnoException
      if (optional && code === 'ENOENT') return
      throw new HewError(
        `cannot set ${at} to '${value}': ${WHY[code ?? ''] ?? reason(error)}: nothing was changed`,
      )
    }
    if (before !== undefined) this.done.push(() => writeValue(at, restored(file, value, before)))
  }

  move(pid: number, from: string, to: string): void {
    try {
      writeValue(`${to}/cgroup.procs`, `${pid}`)
    } catch (error) {
      // It has ended meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return
      throw new HewError(
        `cannot move the process ${pid} to the cgroup ${to}: ${reason(error)}: nothing was changed`,
      )
    }
    this.done.push(() => writeValue(`${from}/cgroup.procs`, `${pid}`))
  }

  undo(): void {
    for (const back of this.done.reverse())
      try {
        back()
      } catch {
        // A process that has ended, or a cgroup that somebody else has removed.
      }
  }
}

const WHY: Record<string, string> = {
  ENOENT: 'these cgroups have no such limit',
  EINVAL: 'the kernel does not take this value',
  ERANGE: 'the kernel does not take this value',
  EBUSY: 'more than that is used now',
  ENODEV: 'there is no such device',
}

/** Files of cgroups are there or not, and one write is one value. */
export function writeValue(file: string, value: string): void {
  const fd = fs.openSync(file, fs.constants.O_WRONLY)
  try {
    fs.writeSync(fd, value)
  } finally {
    fs.closeSync(fd)
  }
}

/** Most files take what they show; those with a line for each device take one of them. */
function restored(file: string, value: string, before: string): string {
  if (file !== 'io.max' && !file.startsWith('blkio.throttle.')) return before
  const [device] = value.split(' ')
  const line = before.split('\n').find(line => line.startsWith(`${device} `))
  return line ?? `${device} ${file === 'io.max' ? 'rbps=max wbps=max riops=max wiops=max' : '0'}`
}

/** Limits and use of a target, for a person or as a line of JSON. */
export function useText(target: Target, json: boolean): string {
  const {cgroups, processes, memory, cpu} = useOf(target.at)
  if (json) return `${JSON.stringify({target: target.word, cgroups, processes, memory, cpu})}\n`
  const of = (now: number | undefined, limit: number | undefined, text: (value: number) => string): string =>
    `${now === undefined ? 'not counted' : text(now)}${limit === undefined ? ', no limit' : ` of ${text(limit)}`}`
  const time = (value: number | undefined, what: string): string[] =>
    value === undefined ? [] : [`${value.toFixed(1)} s ${what}`]
  const bandwidth =
    cpu.quota === undefined ? 'no limit' : bandwidthText({quota: cpu.quota, period: cpu.period ?? 100_000})
  const rows = [
    ...[...new Set(Object.values(cgroups))].map(directory => ['cgroup', directory]),
    ['memory', of(memory.now, memory.limit, bytesText)],
    ['CPU', [bandwidth, ...time(cpu.seconds, 'used'), ...time(cpu.throttledSeconds, 'held back')].join(', ')],
    ['processes', of(processes.now, processes.limit, String)],
  ]
  return rows.map(([term, text]) => `${term!.padEnd(9)}  ${text}\n`).join('')
}
