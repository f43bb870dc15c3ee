import {availableParallelism, totalmem} from 'node:os'
import {containers, type Container as Known} from '../containers/state.ts'
import {chosen} from './choose.ts'
import {textOf} from './proc.ts'
import type {Sample, Watched} from './screen.ts'
import {type Container, keyOf, Memory, snapshot} from './snapshot.ts'

/** A figure that only grows, when it was read, and how fast it grew before that. */
interface Counted {
  value: number
  at: number
  rate: number
}

/** How many values a history keeps. */
const LONGEST = 60
/** After so many looks everything is read anew: what has become of old PIDs is then known again. */
const EVERYTHING = 10
/** What cannot be seen at the moment is read every so often: hundreds of containers are there, and three on the screen. */
const SELDOM = 5
const STATES = 3

/** Looks again and again, and at what is shown closest. */
export class Sampler {
  readonly #memory = new Memory()
  readonly #watched = new Map<string, Watched>()
  readonly #containers = new Map<string, Counted>()
  readonly #processes = new Map<string, Counted>()
  readonly #machine = {memoryBytes: totalmem(), cpus: availableParallelism()}
  #known: Known[] = []
  #looks = 0

  /** @param words what is to be shown, as with chosen(); @param all the machine's other processes, too */
  constructor(
    readonly words: string[],
    readonly all: boolean,
  ) {}

  /** The state of the container with this key, where it has one. */
  known(key: string): Known | undefined {
    return this.#known.find(({id}) => id === key)
  }

  /**
   * What there is now.
   * @param shown the containers that are on the screen
   * @throws HewError at the first look, when a word names nothing; later that has just ended
   */
  look(shown: Set<string>): Sample {
    if (this.#looks % STATES === 0) this.#known = containers().containers
    this.#forget(shown)
    const now = performance.now() / 1000
    const found = snapshot(this.#known, this.all, this.#memory)
    const {containers: wanted, others} = this.#chosen(found)
    const watched = wanted.map(container => this.#watch(container, now))
    this.#watched.clear()
    for (const one of watched) this.#watched.set(keyOf(one.container), one)
    const cores = new Map<number, number>()
    for (const process of [...wanted.flatMap(({processes}) => processes), ...(others ?? [])])
      cores.set(
        process.pid,
        this.#rate(this.#processes, `${process.pid} ${process.start}`, process.cpuSeconds, now),
      )
    this.#looks++
    return {containers: watched, others, cores, machine: this.#machine}
  }

  /** Decides what is read anew this time. */
  #forget(shown: Set<string>): void {
    const memory = this.#memory
    if (this.#looks % EVERYTHING === 0) {
      memory.fresh = undefined
      memory.facts.clear()
      this.#processes.clear()
      return
    }
    memory.fresh = new Set(shown)
    memory.freshPids = new Set()
    for (const [i, [key, {container}]] of [...this.#watched].entries()) {
      const turn = i % SELDOM === this.#looks % SELDOM
      if (turn) memory.fresh.add(key)
      // What no cgroup counts is the sum of its processes.
      if (shown.has(key) || (turn && container.use.cpu.seconds === undefined))
        for (const {pid} of container.processes) memory.freshPids.add(pid)
    }
    if (this.all) for (const pid of memory.scan?.outside ?? []) memory.freshPids.add(pid)
  }

  #chosen(found: ReturnType<typeof snapshot>): ReturnType<typeof snapshot> {
    try {
      return chosen(found, this.words)
    } catch (error) {
      if (this.#looks === 0) throw error
      return {containers: [], others: found.others}
    }
  }

  #watch(container: Container, now: number): Watched {
    const key = keyOf(container)
    const before = this.#watched.get(key)
    if (before && this.#memory.fresh && !this.#memory.fresh.has(key)) return {...before, container}
    const {use, processes} = container
    const sum = (value: (process: Container['processes'][number]) => number): number =>
      processes.reduce((total, process) => total + value(process), 0)
    const cores = this.#rate(this.#containers, key, use.cpu.seconds ?? sum(({cpuSeconds}) => cpuSeconds), now)
    const memoryBytes = use.memory.now ?? sum(process => process.memoryBytes)
    const pids = use.processes.now ?? processes.length
    const past = before?.history
    const history = {
      memory: [...(past?.memory ?? []), memoryBytes].slice(-LONGEST),
      cpu: [...(past?.cpu ?? []), cores].slice(-LONGEST),
      pids: [...(past?.pids ?? []), pids].slice(-LONGEST),
    }
    const pressure = {
      memory: pressureOf(use.cgroups.memory, 'memory'),
      cpu: pressureOf(use.cgroups.cpu, 'cpu'),
    }
    return {container, cores, memoryBytes, pids, history, pressure}
  }

  /** How fast a figure grows, by the second; 0 at the first look. What was not read again grows as before. */
  #rate(counted: Map<string, Counted>, key: string, value: number, at: number): number {
    const before = counted.get(key)
    const elapsed = at - (before?.at ?? at)
    const rate = elapsed > 0 ? Math.max(0, (value - before!.value) / elapsed) : (before?.rate ?? 0)
    counted.set(key, {value, at, rate})
    return rate
  }
}

/** avg10 of `some` (Documentation/accounting/psi.rst), in percent; undefined where the kernel does not count it. */
function pressureOf(directory: string | undefined, what: 'memory' | 'cpu'): number | undefined {
  if (directory === undefined) return undefined
  const [, average] = /^some avg10=([\d.]+)/.exec(textOf(`${directory}/${what}.pressure`) ?? '') ?? []
  return average === undefined ? undefined : Number(average)
}
