import {spawnSync} from 'node:child_process'
import {existsSync, mkdtempSync, readFileSync, rmSync, statfsSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join, resolve} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'

/** The built binary: every behaviour is shown on it. */
export const HEW = resolve(import.meta.dirname, '../dist/hew')

export interface Outcome {
  stdout: string
  stderr: string
  /** The exit status, or 128+n for signal n, as a shell has it. */
  status: number
}

export interface Spawning {
  input?: string | Buffer
  env?: Record<string, string | undefined>
  cwd?: string
  uid?: number
  gid?: number
  timeout?: number
}

/** Runs a program to its end; no terminal, an empty stdin unless `input` says otherwise. */
export function run(program: string, words: string[], options: Spawning = {}): Outcome {
  const {input = '', timeout = 60_000, env, ...rest} = options
  const done = spawnSync(program, words, {
    input,
    timeout,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 28,
    env: {PATH: process.env.PATH, HOME: process.env.HOME, ...env},
    ...rest,
  })
  // Who ends may leave what it was given unread.
  if (done.error && !done.status && (done.error as NodeJS.ErrnoException).code !== 'EPIPE') throw done.error
  const number = done.signal ? 128 + signals[done.signal]! : (done.status ?? -1)
  return {stdout: done.stdout.toString(), stderr: done.stderr.toString(), status: number}
}

const signals: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
  SIGABRT: 6,
}

/** `hew ...` */
export function hew(...words: string[]): Outcome {
  return run(HEW, words)
}

/** A shell line in which `hew` is the built binary. */
export function shell(line: string, options: Spawning = {}): Outcome {
  return run('/bin/sh', ['-c', `hew() { '${HEW}' "$@"; }; ${line}`], options)
}

/** Names that a script must not stumble over. */
export const HOSTILE = [
  'a b',
  "it's",
  '"quoted"',
  '$(touch pwned)',
  '`touch pwned`',
  '-rf',
  'new\nline',
  'end\n',
  '\\back',
  '*',
  '#',
  'é😀',
]

/** A directory that is gone when the process ends, whatever happens. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'hew-test-'))
  process.on('exit', () => rmSync(path, {recursive: true, force: true}))
  return path
}

/** Waits for what another process does, ten seconds at most. */
export async function until(what: string, holds: () => boolean, atMostSeconds = 10): Promise<void> {
  for (const deadline = Date.now() + 1000 * atMostSeconds; !holds(); await sleep(5))
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`)
}

/**
 * What every script for expect(1) begins with, once it has spawned a shell whose prompt is `outside> `. `running NAME`: until such a
 * program, of those below that shell, is what its terminal's keys are for, or it has none (-1); a shell starts it after the echo.
 */
export const SEE = String.raw`
    proc see {what} {
      expect {
        -re $what {}
        timeout { puts "\nNOT SEEN: $what"; exit 9 }
        eof { puts "\nENDED BEFORE: $what"; exit 9 }
      }
    }
    proc below {pid} {
      set all {}
      if {[catch {exec cat /proc/$pid/task/$pid/children} children]} { return {} }
      foreach child $children { lappend all $child {*}[below $child] }
      return $all
    }
    proc running {name} {
      set stat {\((.*)\) [^T] \S+ (\S+) \S+ \S+ (\S+) }
      for {set tries 0} {$tries < 300} {incr tries} {
        foreach pid [below [exp_pid -i $::spawn_id]] {
          if {[catch {exec cat /proc/$pid/stat} text]} continue
          if {[regexp $stat $text - comm group keys] && $comm eq $name && $keys in "$group -1"} return
        }
        sleep 0.05
      }
      puts "\nNOT RUNNING: $name"; exit 9
    }
    see {outside> }
`

interface Probe {
  /** Why a test cannot run here, or undefined. */
  lacking(): string | undefined
  /** Where CI may be without it. Everything else is there, or CI has to fail. */
  optional?: boolean
}

const program = (name: string): Probe => ({
  lacking: () =>
    (process.env.PATH ?? '').split(':').some(directory => existsSync(join(directory, name)))
      ? undefined
      : `${name} is not installed`,
})

/** Whether this runs under the test kernel (test/guest). */
export const IN_GUEST = /^vendor_id\s*: User Mode Linux$/m.test(readFileSync('/proc/cpuinfo', 'utf8'))

/**
 * What shellcheck has against a script for sh, or ''. In the test kernel, where it takes a minute, nothing: it says the same everywhere.
 * @throws it could not be asked
 */
export function shellcheck(script: string): string {
  if (IN_GUEST) return ''
  const {stdout, stderr, status} = run('shellcheck', ['-'], {input: script})
  if (stdout === '' && status !== 0) throw new Error(`shellcheck: status ${status}: ${stderr}`)
  return stdout
}

/** In the test kernel nothing is enabled for limits yet; no process has to be moved for that, it is the kernel's own root. */
export function readyForLimits(): void {
  if (IN_GUEST) hew('cgroup-init')
}

/** CGROUP2_SUPER_MAGIC of <linux/magic.h> */
const CGROUP2 = 0x63677270

/** What a fresh Debian in the guest is made of (test/guest/fresh). */
const DEBIAN = [resolve(import.meta.dirname, '../dist/build/debian'), '/'].find(root => existsSync(root))!

/** What tests may ask of a machine. A name that is not here fails the test that asks for it. */
const probes: Record<string, Probe> = {
  root: {lacking: () => (process.getuid!() === 0 ? undefined : 'this takes root')},
  guest: IN_GUEST
    ? {lacking: () => 'the test kernel does not run in the test kernel', optional: true}
    : program('linux.uml'),
  // Its shadow memory lies above what user-mode-linux has for a process.
  asan: IN_GUEST
    ? {lacking: () => 'AddressSanitizer does not run in the test kernel', optional: true}
    : program('gcc'),
  native: {
    lacking: () =>
      IN_GUEST ? 'no kernel has a part in it, and it would take minutes in the test kernel' : undefined,
    optional: true,
  },
  cgroup2: {
    lacking: () =>
      existsSync('/sys/fs/cgroup') && statfsSync('/sys/fs/cgroup').type === CGROUP2
        ? undefined
        : 'cgroup v2 is not the only hierarchy here',
    // The guest has it.
    optional: !IN_GUEST,
  },
  systemd: {
    lacking: () =>
      existsSync(join(DEBIAN, 'lib/systemd/systemd')) ? undefined : `there is no systemd in ${DEBIAN}`,
    optional: !IN_GUEST,
  },
  fuse: {
    lacking: () => (existsSync('/dev/fuse') ? undefined : 'this kernel has no FUSE'),
    optional: true,
  },
  crun: program('crun'),
  runc: program('runc'),
  busybox: program('busybox'),
  strace: program('strace'),
  expect: program('expect'),
  jq: program('jq'),
  bash: program('bash'),
  zsh: program('zsh'),
  fish: program('fish'),
  groff: program('groff'),
  mandoc: program('mandoc'),
  debootstrap: program('debootstrap'),
  'musl-gcc': program('musl-gcc'),
  newuidmap: program('newuidmap'),
  setpriv: program('setpriv'),
  setcap: program('setcap'),
}

// biome-ignore lint/suspicious/noExplicitAny: uvu's own type of a suite's context is any
type Test = {(name: string, body: () => any): void; skip(...words: any[]): void}

/**
 * The test function, or one that skips and says why. In CI a machine that lacks what it should have is a failure.
 * @param needs names of probes
 */
export function requires(test: Test, ...needs: string[]): (name: string, body: () => unknown) => void {
  for (const need of needs) {
    const probe = probes[need]
    if (!probe) throw new Error(`no probe is called ${need}`)
    const why = probe.lacking()
    if (why === undefined) continue
    return (name, body) => {
      if (process.env.CI && !probe.optional)
        return test(name, () => {
          throw new Error(`CI cannot skip this: ${why}`)
        })
      console.log(`skipped: ${name}: ${why}`)
      test.skip(name, body)
    }
  }
  return test
}
