import * as fs from 'node:fs'
import {constants} from 'node:os'
import {ReadStream} from 'node:tty'
import {isTerminal, write} from '../cli/output.ts'
import {setFrozen} from '../containers/freeze.ts'
import {signalAll} from '../containers/signal.ts'
import {HewError, reason, UsageError} from '../errors.ts'
import {carryOut} from '../stage.ts'
import type {Plan} from '../step.ts'
import {type Action, keysOf, press} from './keys.ts'
import {Sampler} from './sampler.ts'
import {BEGINNING, type Sample, type Screen, type Style, screen, type Target, type View} from './screen.ts'
import {keyOf} from './snapshot.ts'

/** The alternate screen, and no cursor in it: xterm's private modes. */
const ENTER = '\x1b[?1049h\x1b[?25l'
const LEAVE = '\x1b[?25h\x1b[?1049l'

const ENDING = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT'] as const

/**
 * The containers, looked at again and again, until somebody quits.
 * @param words as with chosen(); @param all the machine's other processes, too
 * @throws HewError no terminal, or no such container
 */
export async function watch(words: string[], all: boolean): Promise<void> {
  if (!isTerminal(1))
    throw new UsageError('--watch is for a terminal, and stdout is none: without it there is JSON')
  if ((process.env.TERM ?? 'dumb') === 'dumb')
    throw new HewError('--watch: this terminal cannot move its cursor (TERM=dumb): hew ps, without --watch')
  // The first look may find that there is no such container: before the screen is changed.
  const sampler = new Sampler(words, all)
  const first = sampler.look(new Set())
  const input = new ReadStream(isTerminal(0) ? 0 : fs.openSync('/dev/tty', fs.constants.O_RDONLY))
  const watcher = new Watcher(sampler, first, input)
  try {
    await watcher.done
  } finally {
    watcher.leave()
    input.destroy()
  }
}

/** The loop around the screen: the only part that knows time, keys and signals. */
class Watcher {
  readonly done: Promise<void>
  #end!: (error?: unknown) => void
  #view: View = BEGINNING
  #screen: Screen = {lines: [], targets: [], shown: new Set()}
  #timer: NodeJS.Timeout | undefined
  #inside = false
  readonly #style: Style = {
    colour: !process.env.NO_COLOR,
    unicode: /utf-?8/i.test(process.env.LC_ALL || process.env.LC_CTYPE || process.env.LANG || ''),
  }

  constructor(
    readonly sampler: Sampler,
    private sample: Sample,
    readonly input: ReadStream,
  ) {
    this.done = new Promise((resolve, reject) => {
      this.#end = error => (error === undefined ? resolve() : reject(error))
    })
    for (const signal of ENDING) process.on(signal, () => this.#die(signal))
    process.on('SIGTSTP', () => this.#stop())
    process.on('SIGCONT', () => this.#safely(() => this.#enter()))
    process.stdout.on('resize', () => this.#safely(() => this.#draw()))
    input.on('data', typed => this.#safely(() => this.#type(`${typed}`)))
    input.on('end', () => this.#end())
    input.on('error', error => this.#end(new HewError(`cannot read the keys: ${reason(error)}`)))
    this.#safely(() => this.#enter())
    this.#wait()
  }

  #enter(): void {
    if (!this.#inside) {
      this.input.setRawMode(true)
      write(1, ENTER)
    }
    this.#inside = true
    this.#draw()
  }

  /** Gives the terminal back as it was. */
  leave(): void {
    if (!this.#inside) return
    this.#inside = false
    clearTimeout(this.#timer)
    try {
      this.input.setRawMode(false)
      write(1, LEAVE)
    } catch {
      // The terminal is gone.
    }
  }

  /** As anybody dies of this signal, but with the terminal in order. */
  #die(signal: NodeJS.Signals): void {
    this.leave()
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  }

  #stop(): void {
    this.leave()
    process.kill(process.pid, 'SIGSTOP')
    this.#wait()
  }

  #safely(action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#end(error)
    }
  }

  #wait(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#safely(() => this.#look()), this.#view.interval * 1000)
  }

  #look(): void {
    this.sample = this.sampler.look(this.#screen.shown)
    this.#draw()
    this.#wait()
  }

  #draw(): void {
    const {rows = 24, columns = 80} = process.stdout
    this.#screen = screen(this.sample, this.#view, rows || 24, columns || 80, this.#style)
    write(1, `\x1b[H${this.#screen.lines.join('\x1b[K\r\n')}\x1b[K\x1b[J`)
  }

  #type(typed: string): void {
    for (const key of keysOf(typed)) {
      const {view, action} = press(key, this.#view, this.#screen, target => this.#startOf(target))
      const slower = view.interval !== this.#view.interval
      this.#view = view
      if (action) this.#act(action)
      if (slower) this.#wait()
      if (!this.#inside) return
      this.#draw()
    }
  }

  #act(action: Action): void {
    try {
      switch (action.do) {
        case 'quit':
          this.leave()
          this.#end()
          return
        case 'stop':
          // As the terminal's driver would: the whole job stops.
          process.kill(0, 'SIGTSTP')
          return
        case 'kill':
          this.#kill(action)
          break
        case 'freeze':
        case 'thaw':
          this.#freeze(action.target, action.do === 'freeze')
      }
      this.sample = this.sampler.look(this.#screen.shown)
    } catch (error) {
      this.#view = {...this.#view, message: error instanceof HewError ? error.message : reason(error)}
    }
  }

  #freeze({key}: Target, frozen: boolean): void {
    const known = this.sampler.known(key)
    if (!known) throw new HewError('only a container that hew has made can be frozen')
    setFrozen(known, frozen)
  }

  /** Each process is only killed when it is still the one that was shown: its start time is compared. */
  #kill({target, whole, start}: Extract<Action, {do: 'kill'}>): void {
    const known = this.sampler.known(target.key)
    if (whole && known) {
      signalAll(known, constants.signals.SIGKILL, 'hew ps')
      return
    }
    const step = (pid: number, from: number): Plan => [
      {do: 'signal', pid, start: `${from}`, number: constants.signals.SIGKILL, whose: ''},
    ]
    const {processes = []} = this.#container(target) ?? {}
    const [first] = processes
    // The end of a PID namespace's first process is the end of all of it.
    const one = whole ? (first?.pidInside === 1 ? first.pid : undefined) : target.pid
    const plan =
      one === undefined
        ? processes.flatMap(process => step(process.pid, process.start))
        : step(one, start ?? 0)
    if (carryOut(plan, {as: 'hew ps', title: 'kill'}) !== 0)
      throw new HewError('not all of it could be killed')
  }

  #container({key}: Target) {
    return this.sample.containers.find(({container}) => keyOf(container) === key)?.container
  }

  #startOf(target: Target): number | undefined {
    const processes = target.key === '' ? this.sample.others : this.#container(target)?.processes
    const pid = target.pid ?? processes?.[0]?.pid
    return processes?.find(process => process.pid === pid)?.start
  }
}
