import * as fs from 'node:fs'
import {constants} from 'node:os'
import {EXIT, HewError} from './errors.ts'
import {packaged} from './launch.ts'
import {type Plan, refusal, words} from './step.ts'

/** The kernel's MAX_ARG_STRLEN: no single word of an execve can be longer. */
const LONGEST_WORD = 128 * 1024
/** Words and their pointers together; the kernel allows a quarter of the stack's limit, 2 MiB of 8. */
const MOST_WORDS = 1_500_000

/** A plan as the stage's words. */
export function encode(plan: Plan, as: string): string[] {
  return ['as', as, ...plan.flatMap(step => words(step, errno))]
}

function errno(name: string): number {
  return name === 'any' ? 0 : constants.errno[name as keyof typeof constants.errno]
}

/** The stage's program: the binary itself, under another name; while developing, what `make` has put beside it. */
function program(): string {
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
 * @param as how messages begin, e.g. `hew enter`; @param title what ps shows behind `hew-stage`
 * @throws HewError the plan's refusal; whatever fails later is the stage's to say
 */
export function become(plan: Plan, as: string, title: string): never {
  const why = refusal(plan)
  if (why !== undefined) throw new HewError(why)
  const list = encode(plan, as)
  const size = list.reduce((sum, word) => sum + Buffer.byteLength(word) + 24, 0)
  const fits = size < MOST_WORDS && list.every(word => Buffer.byteLength(word) < LONGEST_WORD)
  if (!fits && plan.some(step => step.do === 'exec'))
    throw new HewError('the document is too large to be entered')
  const environment = Object.fromEntries((fits ? list : ['words-from', '0']).entries())
  // process.execve aborts the process when the kernel refuses: what may be refused takes the pipe.
  if (fits && process.execve) process.execve(program(), ['hew-stage', title], environment)
  const {spawnSync} = process.getBuiltinModule('node:child_process')
  const done = spawnSync(program(), [title], {
    argv0: 'hew-stage',
    env: environment,
    stdio: [fits ? 'inherit' : 'pipe', 'inherit', 'inherit'],
    ...(fits ? {} : {input: list.map(word => `${word}\0`).join('')}),
  })
  process.exit(done.status ?? EXIT.hew)
}
