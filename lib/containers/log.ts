import * as fs from 'node:fs'
import {HewError, reason} from '../errors.ts'
import {type Container, containerAt} from './state.ts'

/** A log that is followed: `log`, and `log.1` before it. The supervisor renames the one to the other when it is full. */
class Log {
  private readonly directory: string
  private fd: number

  constructor({id, directory}: Container) {
    this.directory = directory
    const fd = this.open('log')
    if (fd === undefined) throw new HewError(`${id} has no log: ${directory}/log is not there`)
    this.fd = fd
  }

  /** What was written before the file that is read now: of a full log.1. */
  *older(): Generator<Buffer> {
    const fd = this.open('log.1')
    // Renamed just now: what is read already as log.
    if (fd === undefined || inode(fd) === inode(this.fd)) return
    yield* rest(fd)
    fs.closeSync(fd)
  }

  /** What has been written since the last call. */
  *news(): Generator<Buffer> {
    for (;;) {
      yield* rest(this.fd)
      const next = this.open('log')
      if (next === undefined) return
      if (inode(next) === inode(this.fd)) return fs.closeSync(next)
      // It is renamed once it is full: nothing comes behind what is read here.
      yield* rest(this.fd)
      const done = this.fd
      this.fd = next
      const before = this.open('log.1')
      if (before !== undefined && ![inode(done), inode(next)].includes(inode(before))) yield* rest(before)
      for (const fd of [done, before]) if (fd !== undefined) fs.closeSync(fd)
    }
  }

  private open(name: string): number | undefined {
    const file = `${this.directory}/${name}`
    try {
      return fs.openSync(file, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new HewError(`cannot read ${file}: ${reason(error)}`)
    }
  }
}

function inode(fd: number): number {
  return fs.fstatSync(fd).ino
}

function* rest(fd: number): Generator<Buffer> {
  const piece = Buffer.allocUnsafe(1 << 16)
  for (let n = fs.readSync(fd, piece); n > 0; n = fs.readSync(fd, piece)) yield piece.subarray(0, n)
}

/** A kill -9 of the supervisor changes no file. */
const LOOK_MS = 500

/**
 * What a container has written, oldest first.
 * @param follow until the container ends, also what it is going to write
 * @throws HewError it has no log
 */
export async function* logOf(container: Container, follow: boolean): AsyncGenerator<Buffer> {
  if (!container.detached)
    throw new HewError(
      `${container.id} runs in the foreground: what it writes goes where the output of 'hew enter' goes, and to no log`,
    )
  const log = new Log(container)
  yield* log.older()
  for (let last = !follow; ; ) {
    yield* log.news()
    if (last) return
    // Asked before the last look: what is written before the end is read.
    last = containerAt(container.directory, container.id)?.life !== 'alive'
    if (!last) await change(container.directory)
  }
}

/** A file in a directory changes, or some time passes. */
function change(directory: string): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer)
      watcher?.close()
      resolve()
    }
    const timer = setTimeout(done, LOOK_MS)
    let watcher: fs.FSWatcher | undefined
    try {
      watcher = fs.watch(directory, done).on('error', done)
    } catch {
      // It has just been removed, or the user has no inotify instance left: the timer serves.
    }
  })
}
