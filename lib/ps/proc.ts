import * as fs from 'node:fs'

/** A process, as /proc tells of it (proc(5)). All text in it is the process's own: hostile. */
export interface Process {
  pid: number
  ppid: number
  /** The name that it has given itself: 15 bytes, any. */
  comm: string
  /** Its arguments, as they are now: up to 64 KiB; none for a kernel thread and a zombie. */
  args: string[]
  /** R, S, D, T, t, Z, X, I: proc_pid_stat(5). */
  state: string
  /** A thread of the kernel's. */
  kernel: boolean
  /** The CPU time that it has used, in seconds. */
  cpuSeconds: number
  /** When it was started, in clock ticks since the machine's boot: with its PID, who it is. */
  start: number
  /** Its resident memory. */
  memoryBytes: number
  /** Its effective user, as our user namespace counts. */
  uid: number
  /** Its PIDs in the PID namespaces below that of /proc, from the outside in. */
  inner: number[]
}

/** sysconf(_SC_CLK_TCK): USER_HZ is 100 on every Linux that hew runs on. */
export const TICKS = 100
const PAGE = 4096
/** include/linux/sched.h */
const PF_KTHREAD = 0x00200000

const piece = Buffer.allocUnsafe(1 << 16)

/**
 * Reads the first 64 KiB of a file of the kernel's into `piece`, until the next call.
 * @returns how many bytes; -1 where it cannot be read, or its process has ended
 */
function fill(path: string): number {
  // Thousands of files are read in a row: readFileSync() would ask for the size first, and for the end behind it.
  let fd: number
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY)
  } catch {
    return -1
  }
  try {
    return fs.readSync(fd, piece, 0, piece.length, null)
  } catch {
    return -1
  } finally {
    fs.closeSync(fd)
  }
}

/** The first 64 KiB of a file of the kernel's, as text; undefined where it cannot be read, or its process has ended. */
export function textOf(path: string): string | undefined {
  const length = fill(path)
  return length < 0 ? undefined : piece.toString('utf8', 0, length)
}

type Stat = Pick<Process, 'ppid' | 'comm' | 'state' | 'kernel' | 'cpuSeconds' | 'start' | 'memoryBytes'>

/** Fields 4 to 24 of proc_pid_stat(5), of one process after the other. */
const numbers = new Float64Array(21)
const SPACE = 0x20
const ZERO = 0x30

/** What the first bytes of a buffer, a /proc/PID/stat, say; undefined when they are none. */
export function parseStat(line: Buffer, length: number): Stat | undefined {
  // The name is in parentheses and may hold any byte but NUL, parentheses and newlines too: the last one ends it.
  const open = line.indexOf('(')
  let close = length - 1
  while (close > open && line[close] !== 0x29) close--
  if (open < 0 || close <= open || length < close + 5) return undefined
  // By hand: a string for each of the fifty fields would be garbage, five thousand times.
  let field = 0
  let value = 0
  for (let i = close + 4; i < length && field < numbers.length; i++) {
    const byte = line[i]!
    if (byte === SPACE) {
      numbers[field++] = value
      value = 0
    } else if (byte >= ZERO) value = 10 * value + byte - ZERO
  }
  if (field < numbers.length) return undefined
  return {
    comm: line.toString('utf8', open + 1, close),
    state: String.fromCharCode(line[close + 2]!),
    ppid: numbers[0]!,
    kernel: (numbers[5]! & PF_KTHREAD) !== 0,
    cpuSeconds: (numbers[10]! + numbers[11]!) / TICKS,
    start: numbers[18]!,
    memoryBytes: numbers[20]! * PAGE,
  }
}

/** The user and the PIDs that /proc/PID/status has. Its name comes first, and with its newlines escaped. */
export function parseStatus(text: string): Pick<Process, 'uid' | 'inner'> {
  return {
    uid: Number(field(text, '\nUid:\t')[1] ?? Number.NaN),
    inner: field(text, '\nNSpid:\t').slice(1).map(Number),
  }
}

/** True once the whole line with the PIDs is in the text. */
function hasPids(text: string): boolean {
  const at = text.indexOf('\nNSpid:\t')
  return at >= 0 && text.indexOf('\n', at + 1) >= 0
}

function field(text: string, name: string): string[] {
  const at = text.indexOf(name)
  return at < 0 ? [] : text.slice(at + name.length, text.indexOf('\n', at + 1)).split('\t')
}

/** The arguments in /proc/PID/cmdline: each ends with a NUL, unless the process has overwritten them. */
export function parseArgs(text: string): string[] {
  if (text === '') return []
  return (text.endsWith('\0') ? text.slice(0, -1) : text).split('\0')
}

/**
 * All that is shown of a process; undefined when it has ended.
 * @param before what it was a moment ago: its user, PIDs and arguments are only read again when it has executed something else
 */
export function readProcess(pid: number, before?: Process): Process | undefined {
  const stat = parseStat(piece, fill(`/proc/${pid}/stat`))
  if (!stat) return undefined
  const {ppid, comm, state, kernel, cpuSeconds, start, memoryBytes} = stat
  if (before && before.start === start && before.comm === comm)
    return {...before, ppid, state, cpuSeconds, memoryBytes}
  const length = fill(`/proc/${pid}/status`)
  if (length < 0) return undefined
  // The groups come in between, and may be thousands: mostly the first fifth is all that is needed.
  const text = piece.toString('latin1', 0, Math.min(length, 400))
  const {uid, inner} = parseStatus(hasPids(text) ? text : piece.toString('latin1', 0, length))
  const args = parseArgs((kernel ? undefined : textOf(`/proc/${pid}/cmdline`)) ?? '')
  return {pid, ppid, comm, state, kernel, cpuSeconds, start, memoryBytes, uid, inner, args}
}

/** A namespace of a process (namespaces(7)), as in `mnt:[4026531841]`; undefined where that is not ours to see. */
export function namespace(pid: number | 'self', kind: string): string | undefined {
  try {
    return fs.readlinkSync(`/proc/${pid}/ns/${kind}`)
  } catch {
    return undefined
  }
}

/** How long the machine runs, in seconds: start times count from there. */
export function uptime(): number {
  return Number(textOf('/proc/uptime')?.split(' ')[0])
}
