import type {ChildProcessByStdio} from 'node:child_process'
import * as fs from 'node:fs'
import type {Readable, Writable} from 'node:stream'
import {EXIT, HewError, reason} from './errors.ts'
import {packaged} from './launch.ts'
import {visible} from './shell.ts'
import {connected, end} from './stdio.ts'
import {type Plan, refusal, type Step, told, words} from './step.ts'

/** The kernel's MAX_ARG_STRLEN: no single word of an execve can be longer. */
const LONGEST_WORD = 128 * 1024
/** Words and their pointers together; the kernel allows a quarter of the stack's limit, 2 MiB of 8. */
const MOST_WORDS = 1_500_000

/** So many steps on one process each fit into the environment of a stage. */
export const AT_ONCE = 2000

/** What a stage prints for the next command of `hew -c`: a document, or one line for each entry of a listing. */
const MOST_PRINTED = 1 << 26

/** How a plan is carried out. */
export interface Manner {
  /** How messages begin, e.g. `hew enter`. */
  as: string
  /** What ps shows behind `hew-stage`. */
  title: string
  /** Each step is said when it is done, as the line that a person types. */
  explain?: boolean
}

/** A plan as the stage's words. */
export function encode(plan: Plan, {as, explain = false}: Pick<Manner, 'as' | 'explain'>): string[] {
  const list = ['as', as]
  for (const step of plan) addStep(list, step, explain)
  return list
}

function addStep(list: string[], step: Step, explain: boolean): void {
  const line = explain ? visible(told(step)) : ''
  if (line !== '') list.push('explain', line)
  words(step, list)
}

/** The stage's program: the binary itself, under another name; while developing, what `make` has put beside it. */
export function program(): string {
  if (packaged) return '/proc/self/exe'
  const built = new URL('../dist/hew-stage', import.meta.url).pathname
  if (!fs.existsSync(built)) throw new HewError('dist/hew-stage is not built: run make first')
  return built
}

/**
 * Checks the plan, and becomes the stage that carries it out: nothing of Node stays behind.
 *
 * The words are the stage's environment, in order: `0=word 1=word ...`. The environment and not the arguments, since
 * /proc/PID/cmdline is everyone's to read and steps hold --env secrets.
 * @throws HewError the plan's refusal; whatever fails later is the stage's to say
 */
export function become(plan: Plan, manner: Manner): never {
  const why = refusal(plan)
  if (why !== undefined) throw new HewError(why)
  const {title} = manner
  const {input, output} = connected()
  const list = encode(input ? [{do: 'stdin', text: input.toString()}, ...plan] : plan, manner)
  const size = Buffer.byteLength(list.join('')) + 24 * list.length
  const fits = size < MOST_WORDS && list.every(isShort)
  if (!fits && plan.some(step => step.do === 'exec'))
    throw new HewError('the document is too large to be entered')
  // process.execve aborts the process when the kernel refuses: what may be refused takes the pipe.
  if (fits && !output && process.execve) process.execve(program(), ['hew-stage', title], variables(list))
  end(spawn(list, title, fits))
}

/**
 * Carries a plan out in a child, while this process waits.
 * @returns the exit status
 */
export function carryOut(plan: Plan, manner: Manner): number {
  return spawn(encode(plan, manner), manner.title, true)
}

/** What a plan printed that was carried out in a child. */
export interface Printed {
  /** The exit status; 128+n for signal n. */
  status: number
  stdout: string
  stderr: string
}

/**
 * Carries a plan out in a child that has no terminal, and gives back what it prints.
 * @param handed descriptors that it gets, from 3 on
 * @throws HewError it cannot be started
 */
export function printedBy(
  plan: Plan,
  {as, title}: Pick<Manner, 'as' | 'title'>,
  handed: number[] = [],
): Printed {
  const {spawnSync} = process.getBuiltinModule('node:child_process')
  const {status, signal, stdout, stderr, error} = spawnSync(program(), [title], {
    argv0: 'hew-stage',
    env: variables(encode(plan, {as})),
    stdio: ['pipe', 'pipe', 'pipe', ...handed], // and not 'ignore': there may be no /dev/null
    encoding: 'utf8',
  })
  if (error) throw new HewError(`cannot start the stage: ${reason(error)}`)
  return {status: status ?? killed(signal!), stdout, stderr}
}

/** The exit status of what a signal has ended, as a shell has it. */
function killed(signal: NodeJS.Signals): number {
  return 128 + process.getBuiltinModule('node:os').constants.signals[signal]
}

function isShort(word: string): boolean {
  return word.length < LONGEST_WORD / 3 || Buffer.byteLength(word) < LONGEST_WORD
}

function variables(list: string[]): Record<string, string> {
  return {...list} as unknown as Record<string, string>
}

function spawn(list: string[], title: string, fits: boolean): number {
  const {spawnSync} = process.getBuiltinModule('node:child_process')
  const {output} = connected()
  const done = spawnSync(program(), [title], {
    argv0: 'hew-stage',
    env: variables(fits ? list : ['words-from', '0']),
    stdio: [fits ? 'inherit' : 'pipe', output ? 'pipe' : 'inherit', 'inherit'],
    maxBuffer: MOST_PRINTED,
    ...(fits ? {} : {input: list.map(word => `${word}\0`).join('')}),
  })
  output?.push(done.stdout)
  return done.status ?? EXIT.hew
}

/** Words of a plan as bytes, for `stream`. */
export function encoded(plan: Plan, explain = false): Buffer {
  const list: string[] = []
  for (const step of plan) addStep(list, step, explain)
  return Buffer.from(list.map(word => `${word}\0`).join(''))
}

/** What makers of words for a streamed stage need to know of it. */
export interface Streaming {
  /** Aborted when the stage has ended, or hew was interrupted: no more words are wanted. */
  signal: AbortSignal
  /** The stage's PID. */
  pid: number
}

/**
 * The stage as a child that works on words while they are still being made: for plans that hold a whole archive, or
 * wait for another program. When making them fails, the stage undoes what it has done.
 * @returns its exit status; what went wrong in it, it has said itself
 * @throws what making the words throws
 */
export async function stream(
  make: (streaming: Streaming) => AsyncIterable<Uint8Array>,
  {as, title}: Manner,
): Promise<number> {
  const {spawn} = process.getBuiltinModule('node:child_process')
  const {output} = connected()
  const stage = spawn(program(), [title], {
    argv0: 'hew-stage',
    env: Object.fromEntries(['as', as, 'words-from', '0'].entries()),
    stdio: ['pipe', output ? 'pipe' : 'inherit', 'inherit'],
    // Ctrl-C in a terminal reaches a process group: the stage hears of it from here, when its words have ended.
    detached: true,
  }) as ChildProcessByStdio<Writable, Readable | null, null>
  stage.stdout?.on('data', bytes => output?.push(bytes))
  const abort = new AbortController()
  const ended = new Promise<number>((resolve, reject) => {
    stage.once('error', error => reject(new HewError(`cannot start the stage: ${reason(error)}`)))
    stage.once('close', (status, signal) => resolve(status ?? killed(signal!)))
  })
  let running = true
  const stop = (): void => {
    running = false
    abort.abort()
  }
  ended.then(stop, stop)
  stage.stdin.on('error', () => {}) // It has ended, and says why itself.
  let caught: NodeJS.Signals | undefined
  const interrupt = (signal: NodeJS.Signals): void => {
    caught ??= signal
    abort.abort()
  }
  for (const signal of INTERRUPTS) process.on(signal, interrupt)
  try {
    for await (const piece of make({signal: abort.signal, pid: stage.pid ?? -1})) {
      if (abort.signal.aborted) break
      if (!stage.stdin.write(piece))
        await Promise.race([ended, new Promise(r => stage.stdin.once('drain', r))])
    }
    if (caught) stage.kill(caught)
    stage.stdin.end()
    return await ended
  } catch (error) {
    if (!running) return await ended
    stage.kill(caught ?? 'SIGTERM')
    const status = await ended
    if (caught) return status
    throw error
  } finally {
    for (const signal of INTERRUPTS) process.off(signal, interrupt)
  }
}

const INTERRUPTS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
