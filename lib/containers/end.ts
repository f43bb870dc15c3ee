import * as fs from 'node:fs'
import {bytesText} from '../cgroups/values.ts'
import {HewError, reason} from '../errors.ts'
import {AT_ONCE, carryOut} from '../stage.ts'
import type {Plan} from '../step.ts'
import {running} from './find.ts'
import type {Identity} from './process.ts'
import {type Container, containerAt} from './state.ts'

/** How a container ended: what `enter --verdict` writes. null is what nobody counted. */
export interface Verdict {
  /** As enter ends with it. */
  exitStatus: number
  signal: number | null
  oomKills: number | null
  peakMemoryBytes: number | null
  cpuSeconds: number | null
  throttledSeconds: number | null
  forksRefused: number | null
  wallSeconds: number | null
}

/** Waits for the end of processes, which are nobody's children here: by their pidfds. */
export function awaitProcesses(processes: Identity[], as: string): void {
  for (let at = 0; at < processes.length; at += AT_ONCE) {
    const some = processes.slice(at, at + AT_ONCE)
    const plan: Plan = [
      {do: 'die-with-parent', parent: process.pid},
      ...some.map(({pid, start}) => ({do: 'await', pid, start}) as const),
    ]
    const title = ['wait', ...some.slice(0, 10).map(({pid}) => pid)].join(' ')
    const status = carryOut(plan, {as, title})
    if (status !== 0) throw new HewError('cannot wait for the end of processes', status)
  }
}

/**
 * Waits for the end of a container that runs; how it ended, or how one did that has ended.
 * @throws HewError nobody knows
 */
export function awaitEnd(container: Container, as: string): Verdict {
  const {id, directory, supervisor, life} = container
  if (life === 'foreign') running(container)
  // Held open: a container in the foreground writes it, too, and takes its state away then.
  const fd = openVerdict(directory, id)
  try {
    if (life === 'alive') awaitProcesses([supervisor], as)
    const text = fs.readFileSync(fd, 'utf8')
    if (text.endsWith('\n')) return JSON.parse(text)
  } finally {
    fs.closeSync(fd)
  }
  throw new HewError(
    containerAt(directory, id)?.life === 'dead'
      ? `the supervisor of ${id} was killed, and nobody knows how its command ended: 'hew rm --stale' cleans up`
      : `${id} ended before its command ran`,
  )
}

function openVerdict(directory: string, id: string): number {
  try {
    return fs.openSync(`${directory}/verdict.json`, 'r')
  } catch (error) {
    throw new HewError(`cannot learn how ${id} ends: ${directory}/verdict.json: ${reason(error)}`)
  }
}

/** A verdict as a person reads it. */
export function verdictText(verdict: Verdict): string {
  const {exitStatus, signal, wallSeconds, cpuSeconds, peakMemoryBytes, oomKills, forksRefused} = verdict
  const seconds = (value: number): string => `${value.toFixed(1)} s`
  const parts = [
    signal === null
      ? `ended with status ${exitStatus}`
      : `was ended by signal ${signal} (status ${exitStatus})`,
    wallSeconds === null ? '' : `after ${seconds(wallSeconds)}`,
    cpuSeconds === null ? '' : `${seconds(cpuSeconds)} of CPU`,
    peakMemoryBytes === null ? '' : `at most ${bytesText(peakMemoryBytes)} of memory`,
    oomKills ? `${oomKills} killed by the memory limit` : '',
    forksRefused ? `${forksRefused} forks refused` : '',
  ]
  return parts.filter(part => part !== '').join(', ')
}
