import * as fs from 'node:fs'
import * as path from 'node:path'
import type {Act} from '../act.ts'
import {HewError, UsageError} from '../errors.ts'
import {read, words} from '../kernel.ts'
import {cgroupOf, type Hierarchy, hierarchies} from './hierarchies.ts'
import {resources, type Setting, settings, type Wishes} from './limits.ts'
import {members, processes} from './members.ts'
import {cgroupName, inherited, type Part, parts, versionOf} from './plan.ts'
import {MEMORY_LIMIT, MEMORY_NOW, number, placeIn, useOf} from './use.ts'
import {bandwidthText, bytesText} from './values.ts'

/** Processes that run already, and are limited together. */
export interface Target {
  /** As the user named it. */
  word: string
  /** What a cgroup that is made for it is called. */
  name: string
  /** Its first process; all that it started is the target's as well. */
  pid?: number
  /** Cgroups that are known to hold nothing else. */
  groups: string[]
  /** The directory of the cgroup that it is in. */
  at(hierarchy: Hierarchy): string | undefined
  /** A cgroup that is known to be its alone. */
  own?(hierarchy: Hierarchy): string | undefined
  /** The file in which cgroups are noted before they are made for it. */
  notes?: string
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
    if (found.length > 0) return {word, name: word, groups: found, at}
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
  return {word, name, pid, groups: [], at: h => cgroupOf(pid, h)}
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
  const own = members(target)
  return processes(at).every(pid => own.includes(pid)) ? at : undefined
}

/**
 * What limits something that runs already. Without a cgroup of its own it gets one.
 * @throws HewError it cannot be limited so
 */
export function limitActs(target: Target, wishes: Wishes, found: Hierarchy[]): Act[] {
  const before = wishes.swap === undefined ? {} : presentMemory(target, wishes, found)
  const wanted = parts(settings(resources(before, wishes), versionOf(found)), found)
  const acts = wanted.flatMap((part): Act[] => {
    const own = ownCgroup(target, part.hierarchy)
    if (own === undefined) return moveToOwn(target, part)
    refuseBelowUse(target, part, own)
    return limits(own, ordered(part.settings, own))
  })
  return [...wanted.map(({above}): Act => ({do: 'sweep-ended', path: above})), ...acts]
}

function limits(path: string, list: Setting[]): Act[] {
  return list.map(({file, value, optional = false}) => ({do: 'limit-cgroup', path, file, value, optional}))
}

/** --swap alone is on top of the limit that there is. */
function presentMemory(target: Target, wishes: Wishes, found: Hierarchy[]) {
  if (wishes.memory !== undefined) return {}
  const limit = found
    .filter(({controllers}) => controllers.includes('memory'))
    .map(h => number(placeIn(h, target.at), MEMORY_LIMIT))
    .find(value => value !== undefined)
  if (limit === undefined) throw new UsageError('--swap is on top of --memory: say both')
  return {memory: {limit}}
}

function moveToOwn(target: Target, {hierarchy, above, settings}: Part): Act[] {
  const {word, name, pid, groups, notes} = target
  const from = target.at(hierarchy)
  if (from === undefined) throw new HewError(`the cgroup of ${word} cannot be seen below ${hierarchy.mount}`)
  if (!chain(hierarchy).includes(from))
    throw new HewError(
      `${word} shares the cgroup ${from} with others: moved to one of its own it would escape from the limits there`,
    )
  const to = `${above}/${name}`
  return [
    ...(notes === undefined ? [] : [{do: 'note-cgroup', path: to, file: notes} as const]),
    {do: 'make-cgroup', path: to},
    ...limits(to, [...inherited(hierarchy, above, settings), ...settings]),
    {do: 'gather', word, from, to, groups, ...(pid !== undefined && {pid})},
  ]
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
function refuseBelowUse(target: Target, {hierarchy, settings}: Part, own: string): void {
  const limit = settings.find(({file}) => file === 'memory.max' || file === 'memory.limit_in_bytes')
  const use = number({directory: own, version: hierarchy.version}, MEMORY_NOW)
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

/** Limits and use of a target, for a person or as a line of JSON. */
export function useText(target: Target, json: boolean, found: Hierarchy[]): string {
  const {cgroups, processes, memory, cpu} = useOf(target.own ?? target.at, found)
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
