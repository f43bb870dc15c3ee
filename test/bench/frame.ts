import {type ChildProcess, type SpawnOptions, spawn} from 'node:child_process'
import {once} from 'node:events'
import {existsSync, readFileSync} from 'node:fs'
import {resolve} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'

/** What benches are given to work with. */
export interface Setting {
  /** A directory of their own, which is removed afterwards. */
  folder: string
  /** Only to see that it works: as little as there can be, once. */
  quick: boolean
}

/** One way to do what a bench measures. */
export interface Peer {
  name: string
  /** Why it cannot run here, or undefined. */
  lacking?: string | undefined
  /** Throws when what it does is not right. It is its warm-up as well. */
  check(): void | Promise<void>
  /** Does it once. @returns how much it took, in the bench's unit */
  measure(): number | Promise<number>
  /** Fewer than the bench has: it is slow. */
  rounds?: number
}

/** What was measured of one peer, in the bench's unit. */
export interface Figures {
  peer: string
  median: number
  /** The middle 80%. */
  low: number
  high: number
  /** To the first peer, in the same round: the median. */
  ratio: number
}

export interface Row extends Partial<Figures> {
  peer: string
  /** Why there are no figures. */
  lacking?: string
}

/** What issue 6 asks for. */
export interface Target {
  peer: string
  /** In words; the number stands behind it. */
  words: string
  /** @param median of a peer */
  atMost(median: (peer: string) => number): number
}

export interface Bench {
  name: string
  title: string
  unit: 'ms' | 'KiB' | '%'
  rounds: number
  /** All others are compared with the first. */
  peers: Peer[]
  targets?: Target[]
  /** Its heading in the chart, where it is shown there. */
  chart?: string
  /** Whatever happens. */
  end?(): void | Promise<void>
}

export interface Result {
  name: string
  title: string
  unit: Bench['unit']
  chart?: string
  rows: Row[]
  targets: {peer: string; words: string; limit: number; median: number; met: boolean}[]
}

export const DIST = resolve(import.meta.dirname, '../../dist')
export const HEW = `${DIST}/hew`

/** Why a program cannot be run, or undefined. */
export function notInstalled(program: string): string | undefined {
  const found = program.includes('/')
    ? existsSync(program)
    : process.env.PATH!.split(':').some(directory => existsSync(`${directory}/${program}`))
  return found ? undefined : 'not installed'
}

/** What hew is not yet, or cannot be, on this machine is no peer either. */
export const takesRoot = (): string | undefined => (process.getuid!() === 0 ? undefined : 'takes root')

export type Line = readonly [program: string, ...words: string[]]

/** What runs now. */
const running = new Set<ChildProcess>()
let interrupt: NodeJS.Signals | undefined

/** The signal that has interrupted us. What ran then was ended; what is started from then on cleans up. */
export const interruption = (): NodeJS.Signals | undefined => interrupt

/** Ctrl-C and TERM end what runs, and then whoever has begun something undoes it. */
export function interruptible(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      interrupt = signal
      for (const child of running) child.kill('SIGTERM')
    })
}

/** @throws when we were interrupted: between two steps of something long */
export function goOn(): void {
  if (interrupt) throw new Error(`ended by ${interrupt}`)
}

/** What is ended when we are interrupted. */
export function started([program, ...words]: Line, options: SpawnOptions): ChildProcess {
  const child = spawn(program, words, options)
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(part as Buffer)
  return Buffer.concat(parts).toString()
}

/** Runs to the end. @returns what it printed @throws with what it said, when its status is not 0 */
export async function output(line: Line): Promise<string> {
  const child = started(line, {stdio: ['ignore', 'pipe', 'pipe']})
  const [stdout, stderr, [status, signal]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close'),
  ])
  if (status === 0) return stdout
  throw new Error(
    `${line.join(' ').slice(0, 200)}: ${signal ?? `status ${status}`}: ${stderr.trimEnd().slice(0, 500)}`,
  )
}

/** A whole process, from spawn to exit. @returns milliseconds */
export async function time(line: Line): Promise<number> {
  const begin = process.hrtime.bigint()
  const [status] = await once(started(line, {stdio: 'ignore'}), 'exit')
  const end = process.hrtime.bigint()
  if (status !== 0) throw new Error(`${line[0]}: status ${status}`)
  return Number(end - begin) / 1e6
}

/** The most memory that a process has, of whatever it executes (VmHWM, proc_pid_status(5)). @returns KiB */
export async function peakMemory(line: Line): Promise<number> {
  const child = started(line, {stdio: 'ignore'})
  const ended = once(child, 'exit')
  let most = 0
  while (child.exitCode === null && child.signalCode === null) {
    most = Math.max(most, highWater(child.pid!))
    await Promise.race([ended, sleep(5)])
  }
  if (child.exitCode !== 0) throw new Error(`${line[0]}: status ${child.exitCode}`)
  return most
}

function highWater(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** A peer that is a line of words: `before` is not timed, `check` sees what it has left and printed. */
export function timed(
  name: string,
  line: Line,
  {
    before,
    check,
    ...rest
  }: Pick<Peer, 'lacking' | 'rounds'> & {
    before?: () => void | Promise<void>
    check?: (stdout: string) => void | Promise<void>
  } = {},
): Peer {
  return {
    name,
    ...rest,
    check: async () => {
      await before?.()
      const stdout = await output(line)
      await check?.(stdout)
    },
    measure: async () => {
      await before?.()
      return time(line)
    },
  }
}

const quantile = (sorted: number[], q: number): number => sorted[Math.floor((sorted.length - 1) * q)]!
const ascending = (list: number[]): number[] => list.toSorted((a, b) => a - b)

/** Checks each peer, and then measures them in turns, so that whatever else the machine does slows all of them. */
export async function run(bench: Bench, rounds = bench.rounds): Promise<Result> {
  const {name, title, unit, chart, targets = []} = bench
  try {
    const lacking = new Map<Peer, string>()
    for (const peer of bench.peers) {
      const why = peer.lacking ?? (await failure(peer))
      if (why !== undefined) lacking.set(peer, why)
    }
    const measured = bench.peers.filter(peer => !lacking.has(peer))
    const values = new Map(measured.map(peer => [peer, [] as number[]]))
    for (let round = 0; round < rounds; round++)
      for (const peer of measured)
        if (round < (peer.rounds ?? rounds)) {
          goOn()
          values.get(peer)!.push(await peer.measure())
        }
    const base = values.get(measured[0]!)!
    const rows = bench.peers.map((peer): Row => {
      const list = values.get(peer)
      return list ? {peer: peer.name, ...figures(list, base)} : {peer: peer.name, lacking: lacking.get(peer)!}
    })
    const median = (name: string): number => rows.find(({peer}) => peer === name)?.median ?? Number.NaN
    // Without figures there is nothing to judge.
    const judgements = targets.map(target => judged(target, median))
    const known = judgements.filter(({limit, median}) => !Number.isNaN(limit + median))
    return {name, title, unit, ...(chart !== undefined && {chart}), rows, targets: known}
  } finally {
    await bench.end?.()
  }
}

/** hew's own results have to be right; a peer's that are not are no figure to compare with. */
async function failure(peer: Peer): Promise<string | undefined> {
  goOn()
  try {
    await peer.check()
    return undefined
  } catch (error) {
    if (peer.name.startsWith('hew') || interrupt) throw error
    return `fails: ${(error as Error).message.split('\n')[0]}`
  }
}

function figures(list: number[], base: number[]): Omit<Figures, 'peer'> {
  const sorted = ascending(list)
  const ratios = ascending(list.map((value, i) => value / base[i]!))
  return {
    median: quantile(sorted, 0.5),
    low: quantile(sorted, 0.1),
    high: quantile(sorted, 0.9),
    ratio: quantile(ratios, 0.5),
  }
}

function judged({peer, words, atMost}: Target, median: (peer: string) => number): Result['targets'][number] {
  const [limit, is] = [atMost(median), median(peer)]
  return {peer, words, limit, median: is, met: is <= limit}
}
