import * as fs from 'node:fs'
import {read, statOf} from '../kernel.ts'

/** A process for good: a PID alone is another's tomorrow. */
export interface Identity {
  pid: number
  /** When it started, in clock ticks since the boot: field 22 of proc_pid_stat(5), which execve(2) keeps. */
  start: string
  /** The inode of the PID namespace that counts so. */
  namespace: string
  /** /proc/sys/kernel/random/boot_id */
  boot: string
}

/** When the process with this PID started; undefined when there is none, or only what its parent has not yet asked for. */
export function startOf(pid: number | 'self'): string | undefined {
  const fields = statOf(pid)
  return fields === undefined || 'ZXx'.includes(fields[0]!) ? undefined : fields[19]
}

/** The PID namespace of the processes in /proc: `''` where it is not ours, and nothing can be said about anybody. */
function namespaceHere(): string {
  try {
    if (Number(fs.readlinkSync('/proc/self')) !== process.pid) return ''
    return fs.readlinkSync('/proc/self/ns/pid').slice('pid:['.length, -1)
  } catch {
    return ''
  }
}

let known: Identity | undefined

/** This process; the stage that it becomes is still the same. */
export function ownIdentity(): Identity {
  known ??= {
    pid: process.pid,
    start: startOf('self') ?? '0',
    namespace: namespaceHere() || '0',
    boot: read('/proc/sys/kernel/random/boot_id') ?? '-',
  }
  return known
}

/** `lives`, `gone`, or `foreign`: from here nobody can tell. */
export function fateOf({pid, start, namespace, boot}: Identity): 'lives' | 'gone' | 'foreign' {
  const own = ownIdentity()
  if (boot !== own.boot) return 'gone'
  if (namespace !== own.namespace || namespace === '0') return 'foreign'
  return startOf(pid) === start ? 'lives' : 'gone'
}

/** "PID START NAMESPACE BOOT", as `dev.hew.supervisor` has it. */
export function identityText({pid, start, namespace, boot}: Identity): string {
  return `${pid} ${start} ${namespace} ${boot}`
}

/** The other way round; undefined when it is none. */
export function identityOf(text: string | undefined): Identity | undefined {
  const [, pid, start, namespace, boot] = /^(\d+) (\d+) (\d+) (\S+)$/.exec(text ?? '') ?? []
  return pid && start && namespace && boot ? {pid: Number(pid), start, namespace, boot} : undefined
}
