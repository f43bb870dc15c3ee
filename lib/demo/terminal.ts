import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'
import {HewError, reason} from '../errors.ts'
import {mounts} from '../kernel.ts'
import {outside, SHELL} from '../root/outside.ts'
import {quote} from '../shell.ts'
import {madeByHand, type Own, type Turn, variables} from './lesson.ts'
import type {Who} from './page.ts'

/** Longer than any line takes that is not stuck; most take seconds. */
const TIMEOUT_MS = 10 * 60_000
/** What is asked to end gets this long before it is killed. */
const PATIENCE_MS = 3000

export interface Answer {
  /** stdout and stderr, in the order in which they were written. */
  text: string
  /** As a shell has it. */
  status: number
}

/** Where lines are typed: a directory for each side. All that they make is gone when it is closed. */
export class Terminal {
  private readonly directory = workplace()

  /**
   * @param hew the binary that lines call hew; @param interrupted ends the line that runs
   * @throws HewError nothing can be typed here
   */
  constructor(
    private readonly own: Own,
    private readonly hew: string,
    private readonly interrupted: AbortSignal,
  ) {
    for (const name of ['bin', 'hand', 'hew']) fs.mkdirSync(path.join(this.directory, name))
    fs.symlinkSync(hew, path.join(this.directory, 'bin/hew'))
  }

  /** Types a line, and waits until nobody writes to its output any more. */
  async type(who: Who, {line, terminal}: Turn): Promise<Answer> {
    const $ = await outside()
    const typed = terminal ? `script -qc ${quote(line)} /dev/null` : line
    const running = $({
      cwd: path.join(this.directory, who),
      env: this.environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that nothing outlives the line.
      detached: true,
    })`exec sh -c ${`exec 2>&1\n${typed}`}`
    const group = running.pid!
    const end = (): void => void endGroup(group)
    this.interrupted.addEventListener('abort', end)
    if (this.interrupted.aborted) end()
    const timer = setTimeout(end, TIMEOUT_MS)
    const {exitCode, signal, stdout} = await running
    clearTimeout(timer)
    this.interrupted.removeEventListener('abort', end)
    await endGroup(group)
    return {text: stdout, status: exitCode ?? 128 + (signal ? os.constants.signals[signal] : 0)}
  }

  private environment(): Record<string, string | undefined> {
    // What is looked for in outputs is there in English and without colours.
    const fixed = {LC_ALL: 'C', NO_COLOR: '1', PATH: `${this.directory}/bin:${process.env.PATH}`}
    return {...process.env, ...fixed, ...variables(this.own)}
  }

  /** Removes what lines have left, however far they came. */
  async close(): Promise<void> {
    const $ = (await outside())({stdio: ['ignore', 'pipe', 'pipe']})
    await $`${this.hew} rm -f --root ${this.own.name}`
    await $`${this.hew} rm --stale`
    const below = (mounts('self') ?? []).filter(({point}) => point.startsWith(`${this.directory}/`))
    for (const {point} of below.reverse()) await $`umount ${point}`
    for (const directory of madeByHand(this.own)) await removed(directory)
    fs.rmSync(this.directory, {recursive: true, force: true})
  }
}

function workplace(): string {
  try {
    fs.accessSync(SHELL, fs.constants.X_OK)
  } catch (error) {
    throw new HewError(
      `the lesson is typed into ${SHELL}: ${reason(error)}: 'hew check' tells what this machine is`,
    )
  }
  try {
    return fs.mkdtempSync(path.join(os.tmpdir(), 'hew-demo-'))
  } catch (error) {
    throw new HewError(
      `the lesson takes a directory in ${os.tmpdir()}: ${reason(error)}: TMPDIR=DIR names another place`,
    )
  }
}

/** TERM comes first: hew then cleans up after itself. */
async function endGroup(group: number): Promise<void> {
  if (!signalled(group, 'SIGTERM')) return
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(20))
    if (!signalled(group, 0)) return
  signalled(group, 'SIGKILL')
}

/** False when nobody is left in the group. */
function signalled(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal)
  } catch {
    return false
  }
}

/** A cgroup goes once those who were in it have ended. */
async function removed(directory: string): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; fs.existsSync(directory); await sleep(20))
    try {
      return fs.rmdirSync(directory)
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
}
