import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'

/** A name in a tree: what lstat(2) says of it, or why there is nothing. */
export interface Entry {
  /** From the tree's root, through no link. */
  path: string
  kind: 'directory' | 'link' | 'file' | 'other' | 'missing'
  /** The text of a link. */
  target?: string
  mode: number
  size: number
  /** The errno's name, when it is missing. */
  why?: string
}

/** What a path leads to, through so many links. */
interface Resolved {
  entry: Entry
  links: number
}

/** An exception takes longer than the call. */
const NO_ERROR = {throwIfNoEntry: false} as const

/** The kernel's MAXSYMLINKS (path_resolution(7)). */
const LINKS_MAX = 40
const READ_MAX = 1 << 26

/**
 * A directory as a process would see it after chroot(2) into it: absolute links and `..` stay inside. It is only read,
 * and every name is asked for once, so it must not be kept while the tree changes.
 */
export class Sysroot {
  readonly #prefix: string
  readonly #entries = new Map<string, Entry>()
  readonly #resolved = new Map<string, Resolved>()
  readonly #names = new Map<string, string[]>()

  /** @param root the directory, as the caller names it */
  constructor(readonly root = '/') {
    this.#prefix = root.replace(/\/+$/, '')
    this.#entries.set('/', {path: '/', kind: 'directory', mode: 0o755, size: 0})
  }

  /** The path by which the caller reaches what is at a path of the tree that passes through no link. */
  outside(path: string): string {
    return this.#prefix + path
  }

  /** What is at a path whose directories are no links; the last name may be one. */
  lstat(path: string): Entry {
    const known = this.#entries.get(path)
    if (known) return known
    const entry = this.#lstat(path)
    this.#entries.set(path, entry)
    return entry
  }

  #lstat(path: string): Entry {
    try {
      const stat = lstatSync(this.outside(path), NO_ERROR)
      if (!stat) return missing(path, 'ENOENT')
      const {mode, size} = stat
      const type = mode & constants.S_IFMT
      if (type === constants.S_IFLNK)
        return {path, kind: 'link', mode, size, target: readlinkSync(this.outside(path))}
      const kind = type === constants.S_IFREG ? 'file' : type === constants.S_IFDIR ? 'directory' : 'other'
      return {path, kind, mode, size}
    } catch (error) {
      return missing(path, (error as NodeJS.ErrnoException).code ?? 'EIO')
    }
  }

  /** Follows a path, and all links on it, to what is there. */
  resolve(path: string): Entry {
    const known = this.#resolved.get(path)
    if (known) return known.entry
    // Most are asked for in few directories.
    const slash = path.lastIndexOf('/')
    const {entry: directory, links} = this.#resolve(slash > 0 ? path.slice(0, slash) : '/')
    if (directory.kind === 'missing') return directory
    const budget = {links}
    const entry = this.#walk(directory, path.slice(slash + 1), budget)
    this.#resolved.set(path, {entry, links: budget.links})
    return entry
  }

  #resolve(directory: string): Resolved {
    let resolved = this.#resolved.get(directory)
    if (!resolved) {
      const budget = {links: 0}
      resolved = {entry: this.#walk(this.lstat('/'), directory, budget), links: budget.links}
      this.#resolved.set(directory, resolved)
    }
    return resolved
  }

  /** The same, telling of every directory and link on the way, in an order in which they can be created. */
  trace(path: string, visit: (entry: Entry) => void): Entry {
    return this.#walk(this.lstat('/'), path, {links: 0}, visit)
  }

  #walk(from: Entry, path: string, budget: {links: number}, visit?: (entry: Entry) => void): Entry {
    let at = path.startsWith('/') ? this.lstat('/') : from
    for (let start = 0, end: number; start <= path.length; start = end + 1) {
      end = path.indexOf('/', start)
      if (end < 0) end = path.length
      const name = path.slice(start, end)
      if (at.kind !== 'directory') return missing(at.path, 'ENOTDIR')
      if (name === '' || name === '.') continue
      if (name === '..') {
        at = this.#above(at)
        continue
      }
      at = this.lstat(at.path === '/' ? `/${name}` : `${at.path}/${name}`)
      if (at.kind === 'missing') return at
      visit?.(at)
      if (at.kind !== 'link') continue
      if (++budget.links > LINKS_MAX) return missing(at.path, 'ELOOP')
      at = this.#walk(this.#above(at), at.target!, budget, visit)
      if (at.kind === 'missing') return at
    }
    return at
  }

  /** The directory that something is in. */
  #above({path}: Entry): Entry {
    return this.lstat(path.slice(0, path.lastIndexOf('/')) || '/')
  }

  /** The names in a directory, sorted; none when it is no directory. */
  list(path: string): string[] {
    const known = this.#names.get(path)
    if (known) return known
    const {kind, path: real} = this.resolve(path)
    let names: string[] = []
    try {
      if (kind === 'directory') names = readdirSync(this.outside(real)).sort()
    } catch {
      // Not readable: as good as empty.
    }
    this.#names.set(path, names)
    return names
  }

  /** Opens a regular file (a FIFO that was put in its place does not block) and closes it after use. */
  open<T>(entry: Entry, use: (fd: number, size: number) => T): T {
    const fd = openSync(
      this.outside(entry.path),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY,
    )
    try {
      const stat = fstatSync(fd)
      if (!stat.isFile()) throw Object.assign(new Error('not a regular file'), {code: 'EINVAL'})
      return use(fd, stat.size)
    } finally {
      closeSync(fd)
    }
  }

  /** A whole file, or undefined when it cannot be read (or is of an absurd size). */
  read(path: string): Buffer | undefined {
    const entry = this.resolve(path)
    if (entry.kind !== 'file' || entry.size > READ_MAX) return undefined
    try {
      return this.open(entry, (fd, size) => readAt(fd, 0, Math.min(size, READ_MAX)))
    } catch {
      return undefined
    }
  }
}

function missing(path: string, why: string): Entry {
  return {path, kind: 'missing', mode: 0, size: 0, why}
}

/** Up to `length` bytes from there; fewer where the file ends. */
export function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const got = readSync(fd, bytes, filled, length - filled, position + filled)
    if (got === 0) break
    filled += got
  }
  return bytes.subarray(0, filled)
}
