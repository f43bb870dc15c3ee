import * as fs from 'node:fs'

/* Files of the kernel's, in /proc and in trees of cgroups: small texts that are there or not. */

/** A file of the kernel's, without the newline at its end; undefined when it cannot be read. */
export function read(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8').trimEnd()
  } catch {
    return undefined
  }
}

/** A file of the kernel's as words; none when it is not there. */
export function words(file: string): string[] {
  return (read(file) ?? '').split(/\s+/).filter(word => word !== '')
}

/** Files of cgroups are there or not, and one write is one value. */
export function writeValue(file: string, value: string): void {
  const fd = fs.openSync(file, fs.constants.O_WRONLY)
  try {
    fs.writeSync(fd, value)
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * What /proc/PID/stat says behind the name, which may hold anything: the state first, then the parent (proc_pid_stat(5), from its
 * third field on); undefined when there is no such process.
 */
export function statOf(pid: number | 'self'): string[] | undefined {
  const text = read(`/proc/${pid}/stat`)
  return text?.slice(text.lastIndexOf(') ') + 2).split(' ')
}

/** The process that started another, or has adopted it; undefined when that is gone. */
export function parentOf(pid: number): number | undefined {
  const parent = statOf(pid)?.[1]
  return parent === undefined ? undefined : Number(parent)
}

/** A mount, as a process sees it (proc_pid_mountinfo(5)). */
export interface Mounted {
  id: string
  /** What it is mounted on. */
  parent: string
  /** `major:minor` of its file system. */
  device: string
  /** What of the file system is mounted. */
  root: string
  point: string
  /** Of the mount, then of its file system. */
  options: string[]
  type: string
}

/** The mounts that a process sees; undefined where that is not ours to see. */
export function mounts(pid: number | 'self'): Mounted[] | undefined {
  let text: string
  try {
    text = fs.readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
  } catch {
    return undefined
  }
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [id = '', parent = '', device = '', root = '', point = '', own] = line.split(' ')
      const [type = '', , shared] = line.slice(line.indexOf(' - ') + 3).split(' ')
      const options = `${own},${shared}`.split(',')
      return {id, parent, device, root: unescaped(root), point: unescaped(point), options, type}
    })
}

/** Whether a mount's path leads to it: all that is mounted there, or further up, has to be below it in the tree of mounts. */
export function isVisible({id, point}: Mounted, among: Mounted[]): boolean {
  const below = new Set<string>()
  for (let at: string | undefined = id; at !== undefined && !below.has(at); ) {
    below.add(at)
    at = among.find(one => one.id === at)?.parent
  }
  return !among.some(one => !below.has(one.id) && isWithin(point, one.point))
}

const isWithin = (path: string, directory: string): boolean =>
  directory === '/' || path === directory || path.startsWith(`${directory}/`)

/** The kernel writes space, tab, newline and backslash in paths as three octal digits. */
export function unescaped(field: string): string {
  if (!field.includes('\\')) return field
  return field.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
