import {spawn, spawnSync} from 'node:child_process'
import {readFileSync} from 'node:fs'
import {resolve} from 'node:path'
import type {Readable} from 'node:stream'
import {parseArgs} from 'node:util'
import {quote} from '../../lib/shell.ts'

/**
 * The test kernel: Debian's user-mode-linux, an ordinary process that boots on this machine's own root, which it cannot
 * change. cgroup v2 is its only hierarchy. It runs one command and is gone.
 *
 *     guest.ts [--memory 1G] [--timeout SECONDS] [COMMAND]      without a COMMAND: a shell at the terminal
 *
 * Exit status: the command's; 124 when its time was up, 125 when the guest died.
 */

const PROJECT = resolve(import.meta.dirname, '../..')

export interface GuestOptions {
  stdin?: string | Buffer
  /** Milliseconds, the boot included; then the guest is killed. Default: five minutes. */
  timeout?: number
  /** What the kernel takes for `mem=`: no more than what is used of it is taken from the machine. Default: 1G. */
  memory?: string
  /** Told what the command writes, as it writes it. */
  onOutput?: (stream: 'stdout' | 'stderr', data: Buffer) => void
}

export interface GuestOutcome {
  stdout: Buffer
  stderr: Buffer
  /** As a shell has it: 128+n for signal n. */
  status: number
}

/** The guest gave back no exit status: it died, or its time was up. */
export class GuestError extends Error {
  constructor(
    why: string,
    readonly timedOut: boolean,
    readonly stdout: Buffer,
    readonly stderr: Buffer,
    console: string,
  ) {
    super(`${why}; the last lines of its console:\n${console}`)
  }
}

/**
 * Boots a guest, runs a shell line in it as root, in the project's directory, and gives back what it wrote.
 * What the command leaves running is killed when it ends.
 */
export async function inGuest(command: string, options: GuestOptions = {}): Promise<GuestOutcome> {
  const {stdin = '', timeout = 5 * 60_000, memory = '1G', onOutput} = options
  const guest = boot({command, memory})
  // A guest that dies early does not read it.
  guest.stdin!.on('error', () => {}).end(stdin)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = guest.kill('SIGKILL')
  }, timeout)
  const [, terminal, , out, err, end] = guest.stdio as Readable[]
  const [lines, stdout, stderr, status] = await Promise.all([
    collect(terminal!),
    collect(out!, data => onOutput?.('stdout', data)),
    collect(err!, data => onOutput?.('stderr', data)),
    collect(end!),
  ])
  clearTimeout(timer)
  if (status.length > 0) return {stdout, stderr, status: Number(status)}
  const why = timedOut ? `the guest was killed after ${timeout / 1000} s` : 'the guest died'
  throw new GuestError(why, timedOut, stdout, stderr, lastLines(lines))
}

/** A shell in a guest, at this process's terminal. */
export async function guestShell(memory = '1G'): Promise<number> {
  const mode = stty('-g')
  const [rows, columns] = stty('size').split(' ')
  const guest = boot({command: 'exec bash', memory, size: `rows ${rows} columns ${columns}`})
  const [, terminal, , , , end] = guest.stdio as Readable[]
  const [lines, status] = await Promise.all([collect(terminal!), collect(end!)])
  stty(mode)
  if (status.length > 0) return Number(status)
  throw new GuestError('the guest died', false, Buffer.of(), Buffer.of(), lastLines(lines))
}

function stty(...words: string[]): string {
  return spawnSync('stty', words, {stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8'}).stdout.trim()
}

interface Boot {
  command: string
  memory: string
  /** Of the terminal that the command is to have. */
  size?: string
}

/** Starts a guest that dies with this process, even when that is killed, and that leaves nothing behind. */
function boot({command, memory, size}: Boot) {
  const settings = {PROJECT, COMMAND: command, TERMINAL: size ? `${process.env.TERM ?? 'linux'} ${size}` : ''}
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child']
  const words = [resolve(import.meta.dirname, 'boot'), memory, processor(), ...(size ? ['terminal'] : [])]
  return spawn('setpriv', ['--pdeathsig', 'KILL', ...namespaces, ...words], {
    stdio: [size ? 'ignore' : 'pipe', 'pipe', 'inherit', 'pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      SETTINGS: Object.entries(settings)
        .map(([name, value]) => `${name}=${quote(value)}`)
        .join('\n'),
    },
  })
}

let booted = process.pid

/** Another one of the processors that this process may use, each time: two guests should not share one. */
function processor(): string {
  const list = /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!
  const all = list.split(',').flatMap(range => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({length: last! - first! + 1}, (_, i) => first! + i)
  })
  return String(all[booted++ % all.length])
}

async function collect(stream: Readable, onData?: (data: Buffer) => void): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const data of stream) {
    parts.push(data)
    onData?.(data)
  }
  return Buffer.concat(parts)
}

/** What led to the end: not the registers and addresses that a panic adds. */
function lastLines(console: Buffer): string {
  const lines = console.toString().trimEnd().split(/\r?\n/)
  const panic = lines.findIndex(line => /^(<0>)?Kernel panic/.test(line))
  return lines
    .slice(0, panic < 0 ? undefined : panic + 1)
    .slice(-10)
    .join('\n')
}

async function main(): Promise<number> {
  const {values, positionals} = parseArgs({
    allowPositionals: true,
    options: {memory: {type: 'string', default: '1G'}, timeout: {type: 'string', default: '300'}},
  })
  if (positionals.length === 0) {
    if (process.stdin.isTTY && process.stdout.isTTY) return guestShell(values.memory)
    console.error('guest: no terminal for a shell: give it a command')
    return 2
  }
  const {status} = await inGuest(positionals.join(' '), {
    memory: values.memory,
    timeout: Number(values.timeout) * 1000,
    onOutput: (stream, data) => process[stream].write(data),
  })
  return status
}

if (process.argv[1] === import.meta.filename) {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(`guest: ${(error as Error).message}`)
    process.exitCode = error instanceof GuestError && error.timedOut ? 124 : 125
  }
}
