import {spawnSync} from 'node:child_process'
import {existsSync} from 'node:fs'
import {resolve} from 'node:path'

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
  unit: 'ms' | 'KiB'
  rounds: number
  /** All others are compared with the first. */
  peers: Peer[]
  targets?: Target[]
  /** Whatever happens. */
  end?(): void
}

export interface Result {
  name: string
  title: string
  unit: Bench['unit']
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

/** Runs to the end. @returns what it printed @throws with what it said, when its status is not 0 */
export function output([program, ...words]: Line): string {
  const {status, signal, stdout, stderr, error} = spawnSync(program, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
    encoding: 'utf8',
  })
  if (status === 0) return stdout
  throw new Error(
    `${program} ${words.join(' ').slice(0, 200)}: ${error?.message ?? signal ?? `status ${status}`}: ${stderr.slice(0, 500)}`,
  )
}

/** A whole process, from spawn to exit. @returns milliseconds */
export function time([program, ...words]: Line): number {
  const begin = process.hrtime.bigint()
  const {status} = spawnSync(program, words, {stdio: 'ignore'})
  const end = process.hrtime.bigint()
  if (status !== 0) throw new Error(`${program}: status ${status}`)
  return Number(end - begin) / 1e6
}

/** A peer that is a line of words: `before` is not timed, `check` sees what it has left and printed. */
export function timed(
  name: string,
  line: Line,
  {
    before,
    check,
    ...rest
  }: Pick<Peer, 'lacking' | 'rounds'> & {before?: () => void; check?: (stdout: string) => void} = {},
): Peer {
  return {
    name,
    ...rest,
    check: () => {
      before?.()
      const stdout = output(line)
      check?.(stdout)
    },
    measure: () => {
      before?.()
      return time(line)
    },
  }
}

const quantile = (sorted: number[], q: number): number => sorted[Math.floor((sorted.length - 1) * q)]!
const ascending = (list: number[]): number[] => list.toSorted((a, b) => a - b)

/** Checks each peer, and then measures them in turns, so that whatever else the machine does slows all of them. */
export async function run(bench: Bench, rounds = bench.rounds): Promise<Result> {
  const {name, title, unit, targets = []} = bench
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
        if (round < (peer.rounds ?? rounds)) values.get(peer)!.push(await peer.measure())
    const base = values.get(measured[0]!)!
    const rows = bench.peers.map((peer): Row => {
      const list = values.get(peer)
      return list ? {peer: peer.name, ...figures(list, base)} : {peer: peer.name, lacking: lacking.get(peer)!}
    })
    const median = (name: string): number => rows.find(({peer}) => peer === name)?.median ?? Number.NaN
    // Without figures there is nothing to judge.
    const judgements = targets.map(target => judged(target, median))
    const known = judgements.filter(({limit, median}) => !Number.isNaN(limit + median))
    return {name, title, unit, rows, targets: known}
  } finally {
    bench.end?.()
  }
}

/** hew's own results have to be right; a peer's that are not are no figure to compare with. */
async function failure(peer: Peer): Promise<string | undefined> {
  try {
    await peer.check()
    return undefined
  } catch (error) {
    if (peer.name.startsWith('hew')) throw error
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
