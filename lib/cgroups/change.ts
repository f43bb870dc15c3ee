import * as fs from 'node:fs'
import {HewError, reason} from '../errors.ts'
import {read, writeValue} from '../kernel.ts'
import {type Members, members, processes} from './members.ts'

/** Changes of cgroups; each returns what takes it back. */
type Undo = () => void

/**
 * Makes a cgroup.
 * @throws HewError
 */
export function make(directory: string): Undo {
  try {
    fs.mkdirSync(directory)
  } catch (error) {
    throw new HewError(`cannot make the cgroup ${directory}: ${reason(error)}`)
  }
  return () => fs.rmdirSync(directory)
}

/**
 * Adds a line to a file of hew's own.
 * @throws HewError; then no part of the line is there
 */
export function note(file: string, line: string): Undo {
  const before = fs.existsSync(file) ? fs.statSync(file).size : 0
  const undo = (): void => fs.truncateSync(file, before)
  try {
    fs.appendFileSync(file, `${line}\n`, {mode: 0o600})
  } catch (error) {
    // Half a path would be another cgroup's.
    if (fs.existsSync(file)) undo()
    throw new HewError(`cannot write the cgroup ${line} to ${file}: ${reason(error)}: nothing was changed`)
  }
  return undo
}

const WHY: Record<string, string> = {
  ENOENT: 'these cgroups have no such limit',
  EINVAL: 'the kernel does not take this value',
  ERANGE: 'the kernel does not take this value',
  EBUSY: 'more than that is used now',
  ENODEV: 'there is no such device',
}

/**
 * Writes a limit.
 * @param optional where the kernel has no such file there is nothing to limit
 * @throws HewError
 */
export function limit(at: string, value: string, optional: boolean): Undo | undefined {
  const before = read(at)
  try {
    writeValue(at, value)
  } catch (error) {
    const {code} = error as NodeJS.ErrnoException
    if (optional && code === 'ENOENT') return undefined
    throw new HewError(
      `cannot set ${at} to '${value}': ${WHY[code ?? ''] ?? reason(error)}: nothing was changed`,
    )
  }
  return before === undefined ? undefined : () => writeValue(at, restored(at, value, before))
}

/** Most files take what they show; those with a line for each device take one of them. */
function restored(at: string, value: string, before: string): string {
  if (!/\/(io\.max|blkio\.throttle\.[^/]*)$/.test(at)) return before
  const [device] = value.split(' ')
  const line = before.split('\n').find(line => line.startsWith(`${device} `))
  return line ?? `${device} ${at.endsWith('/io.max') ? 'rbps=max wbps=max riops=max wiops=max' : '0'}`
}

/**
 * Moves processes from one cgroup to another, until none is left behind: they fork meanwhile.
 * @throws HewError one cannot be moved, or all have ended; then those that were moved are back
 */
export function gather(of: Members & {word: string}, from: string, to: string): Undo {
  const moved: number[] = []
  const back = (): void => {
    for (const pid of moved.reverse())
      try {
        writeValue(`${from}/cgroup.procs`, `${pid}`)
      } catch {
        // It has ended.
      }
  }
  try {
    for (let left = inside(of, from); left.length > 0; left = inside(of, from))
      for (const pid of left) if (move(pid, to)) moved.push(pid)
    if (processes(to).length === 0) throw new HewError(`${of.word} has ended`)
    fs.chmodSync(to, 0o755 | MADE_FOR_A_PROCESS)
  } catch (error) {
    back()
    throw error
  }
  return back
}

function inside(of: Members, directory: string): number[] {
  const there = new Set(processes(directory))
  return members(of).filter(pid => there.has(pid))
}

/** False when it has ended meanwhile. */
function move(pid: number, to: string): boolean {
  try {
    writeValue(`${to}/cgroup.procs`, `${pid}`)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw new HewError(
      `cannot move the process ${pid} to the cgroup ${to}: ${reason(error)}: nothing was changed`,
    )
  }
}

/** The sticky bit, which means nothing to the kernel on a cgroup: set once the process is in, so that empty means ended. */
const MADE_FOR_A_PROCESS = 0o1000

/**
 * Removes the cgroups in a directory that were made for a process, and in which nobody is any more: its end is not waited for by
 * anybody. Those that others made stay.
 */
export function sweepEnded(above: string): void {
  for (const name of fs.readdirSync(above)) {
    const directory = `${above}/${name}`
    try {
      const {mode, uid} = fs.lstatSync(directory)
      if (mode & MADE_FOR_A_PROCESS && uid === process.geteuid!()) fs.rmdirSync(directory)
    } catch {
      // EBUSY: somebody is in it. ENOENT: another hew was faster.
    }
  }
}
