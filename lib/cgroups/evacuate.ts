import * as fs from 'node:fs'
import {HewError, reason} from '../errors.ts'
import {read, words, writeValue} from '../kernel.ts'

/**
 * Somebody has enabled cpu or pids before the processes had left: the cgroup is "domain threaded" since, what is below it
 * "domain invalid", and no process can be moved there (cgroup-v2.rst, Threads).
 */
export function repair(top: string): void {
  const type = (): string | undefined => read(`${top}/cgroup.type`)
  if (type() === 'domain threaded') {
    const enabled = words(`${top}/cgroup.subtree_control`)
    if (enabled.length > 0)
      attempt(`${top}/cgroup.subtree_control`, enabled.map(name => `-${name}`).join(' '))
  }
  const found = type()
  if (found === 'domain') return
  const threaded = fs
    .readdirSync(top, {withFileTypes: true})
    .find(entry => entry.isDirectory() && read(`${top}/${entry.name}/cgroup.type`) === 'threaded')
  throw new HewError(
    threaded
      ? `the cgroup ${top} is "${found}", since ${top}/${threaded.name} is "threaded": a cgroup cannot be made a domain again, remove that one first`
      : `the cgroup ${top} is "${found}": memory and io cannot be limited below it; start hew outside of it`,
  )
}

function attempt(file: string, value: string): void {
  try {
    writeValue(file, value)
  } catch (error) {
    throw new HewError(`cannot write '${value}' to ${file}: ${reason(error)}`)
  }
}

/** So long may their number not have fallen before we say that it never will. */
const PATIENCE_MS = 20_000

/**
 * Moves every process of a cgroup, until none is left: they fork meanwhile, and end.
 * @param moved is told of each
 * @throws HewError some cannot be moved; what was moved stays moved
 */
export function evacuate(from: string, to: string, moved: Set<string>): void {
  let fewest = Number.POSITIVE_INFINITY
  let until = 0
  for (;;) {
    const left = words(`${from}/cgroup.procs`)
    if (left.length === 0) return
    if (left.length < fewest) {
      fewest = left.length
      until = Date.now() + PATIENCE_MS
    } else if (Date.now() > until)
      throw new HewError(`processes keep coming to ${from}: ${left.slice(0, 5).join(', ')} are there now`)
    make(to)
    const stuck = left.filter(pid => !move(pid, to, moved))
    // 0: a process that our PID namespace has no number for. To write 0 would mean ourselves.
    const outside = stuck.filter(pid => pid === '0').length
    if (outside > 0 && stuck.length === left.length)
      throw new HewError(
        `${outside} ${outside === 1 ? 'process' : 'processes'} in ${from} cannot be moved from here, as they belong to another PID namespace: somebody entered the container from outside (docker exec, nsenter), and has to leave`,
      )
  }
}

function make(directory: string): void {
  try {
    fs.mkdirSync(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new HewError(`cannot make the cgroup ${directory}: ${reason(error)}`)
  }
}

/** False for a process that cannot be moved from here. */
function move(pid: string, to: string, moved: Set<string>): boolean {
  if (pid === '0') return false
  try {
    writeValue(`${to}/cgroup.procs`, pid)
    moved.add(pid)
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
    throw new HewError(`cannot move the process ${pid} to ${to}: ${reason(error)}`)
  }
  return true
}

/**
 * Enables controllers for the cgroups below one. A process that comes in between evacuation and enabling makes the kernel say
 * EBUSY: then both once more.
 * @param again evacuates once more
 * @throws HewError the kernel refuses
 */
export function enable(top: string, controllers: string[], again: () => void): void {
  const file = `${top}/cgroup.subtree_control`
  for (let tries = 0; ; tries++) {
    const enabled = words(file)
    const missing = controllers.filter(name => !enabled.includes(name))
    if (missing.length === 0) return
    try {
      writeValue(file, missing.map(name => `+${name}`).join(' '))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || tries >= 100)
        throw new HewError(`cannot enable ${missing.join(', ')} in ${top}: ${reason(error)}`)
      again()
    }
  }
}
