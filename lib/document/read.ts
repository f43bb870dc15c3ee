import * as fs from 'node:fs'
import {HewError, reason} from '../errors.ts'
import {read} from '../kernel.ts'
import {pause} from '../pause.ts'
import {connect, connected} from '../stdio.ts'

/** A document larger than this is none: the largest that runc's own tests have is under 20 KB. */
const MOST_BYTES = 4 << 20

/** After so much silence people wonder. */
const SILENCE_MS = 5000

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = [0x7b, 0x5b]
const CLOSE = [0x7d, 0x5d]
const SPACE = [0x20, 0x09, 0x0a, 0x0d]

/**
 * Finds the end of a JSON object in bytes that come piece by piece, without understanding more of it than that.
 * It also knows how many bytes are still to come at the least, so that a reader may ask for that many at once.
 */
class ObjectEnd {
  private depth = 0
  private inString = false
  private escaped = false
  private beginning = true

  /** The fewest bytes that the object still needs: every open bracket, and an open string, has to be closed. */
  get atLeast(): number {
    return Math.max(1, this.depth + (this.inString ? 1 : 0))
  }

  /** True before the first byte that is no white space. */
  get empty(): boolean {
    return this.depth === 0
  }

  /** Takes the next bytes; the index behind the object's closing brace, or -1. Throws when this is no object. */
  take(bytes: Buffer): number {
    for (let i = 0; i < bytes.length; i++) if (this.step(bytes[i]!)) return i + 1
    return -1
  }

  private step(byte: number): boolean {
    if (this.inString) {
      if (this.escaped) this.escaped = false
      else if (byte === BACKSLASH) this.escaped = true
      else if (byte === QUOTE) this.inString = false
      else if (byte < 0x20) throw noDocument()
      return false
    }
    if (SPACE.includes(byte)) return false
    if (this.depth === 0 && byte !== OPEN[0]) throw noDocument()
    if (this.beginning && this.depth === 1 && byte !== QUOTE && byte !== CLOSE[0]) throw noDocument()
    if (this.depth === 1) this.beginning = false
    if (byte === QUOTE) this.inString = true
    else if (OPEN.includes(byte)) this.depth++
    else if (CLOSE.includes(byte)) return --this.depth === 0
    return false
  }
}

function noDocument(): HewError {
  return new HewError(
    'what comes through the pipe is no document: it should be one line of JSON, from mkroot, copy-deps or limit',
  )
}

/**
 * Reads one JSON object from a descriptor, to its closing brace and the newline behind it, and not a byte further: the
 * rest belongs to the command in the container.
 *
 * A pipe cannot be looked into without taking bytes out, and one read for each byte is slow. But an object that is n
 * brackets deep has n bytes to come at the least, so that many are read at once.
 * @param silent what to do, once, when nothing has come for a while. To notice takes some milliseconds more: not for those whom people wait for
 * @throws HewError an empty or cut-off stream, or one that is no JSON object
 */
export function readDocument(fd: number, silent?: () => void): unknown {
  let text: string
  try {
    const handed = fd === 0 ? connected().input : undefined
    text = handed
      ? fromMemory(handed)
      : fs.fstatSync(fd).isFile()
        ? fromFile(fd)
        : fromStream(silent ? nonBlocking(fd) : fd, silent)
  } catch (error) {
    if (error instanceof HewError) throw error
    throw new HewError(`the document cannot be read from the pipe: ${reason(error)}`)
  }
  try {
    return JSON.parse(text)
  } catch {
    throw noDocument()
  }
}

function fromStream(fd: number, silent?: () => void): string {
  let patient = Date.now() + SILENCE_MS
  const waiting = (): void => {
    if (Date.now() < patient) return
    patient = Number.POSITIVE_INFINITY
    silent?.()
  }
  const end = new ObjectEnd()
  const bytes = Buffer.allocUnsafe(MOST_BYTES >> 6)
  const parts: Buffer[] = []
  let total = 0
  let fill = 0
  for (;;) {
    const wanted = Math.min(end.atLeast, bytes.length - fill)
    const n = readSome(fd, bytes.subarray(fill, fill + wanted), waiting)
    if (n === 0) throw cutOff(end.empty)
    const complete = end.take(bytes.subarray(fill, fill + n)) >= 0
    fill += n
    total += n
    if (total > MOST_BYTES) throw noDocument()
    if (complete) break
    if (fill === bytes.length) {
      parts.push(Buffer.from(bytes))
      fill = 0
    }
  }
  const newline = Buffer.alloc(1)
  checkEndOfLine(readSome(fd, newline) === 1 ? newline[0] : undefined)
  return Buffer.concat([...parts, bytes.subarray(0, fill)]).toString()
}

/** In `hew -c` what the command before has printed; the rest of it is left there. */
function fromMemory(bytes: Buffer): string {
  const end = new ObjectEnd()
  const at = end.take(bytes)
  if (at < 0) throw cutOff(end.empty)
  checkEndOfLine(bytes[at])
  connect(bytes.subarray(at + 1), connected().output)
  return bytes.toString('utf8', 0, at)
}

function checkEndOfLine(next: number | undefined): void {
  if (next !== undefined && next !== 0x0a)
    throw new HewError('the document does not end with its line: more text follows its closing brace')
}

/** A regular file is searched without moving its offset, which is then moved to the document's end in one read. */
function fromFile(fd: number): string {
  const position = Number(/^pos:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1])
  const end = new ObjectEnd()
  const piece = Buffer.allocUnsafe(1 << 16)
  for (let length = 0; length < MOST_BYTES; ) {
    const n = fs.readSync(fd, piece, 0, piece.length, position + length)
    if (n === 0) throw cutOff(end.empty)
    const at = end.take(piece.subarray(0, n))
    if (at >= 0) {
      const next = Buffer.alloc(1)
      const newline = fs.readSync(fd, next, 0, 1, position + length + at) === 1 && next[0] === 0x0a
      const whole = Buffer.alloc(length + at + (newline ? 1 : 0))
      fs.readSync(fd, whole, 0, whole.length, null)
      return whole.toString()
    }
    length += n
  }
  throw noDocument()
}

/** Not even the beginning of a document came. */
export class NoDocument extends HewError {}

function cutOff(empty: boolean): HewError {
  return empty
    ? new NoDocument('nothing came through the pipe: the command before it failed, or it prints no document')
    : new HewError('the document in the pipe is cut off: the command before it failed')
}

/** The same pipe, and not the descriptor that others share: theirs stays as it is. */
function nonBlocking(fd: number): number {
  // The write end of a pipe would become one to read from.
  if (!fs.fstatSync(fd).isFIFO() || /^flags:\s+\d*1$/m.test(read(`/proc/self/fdinfo/${fd}`) ?? '')) return fd
  try {
    return fs.openSync(`/proc/self/fd/${fd}`, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  } catch {
    // A pipe of another user.
    return fd
  }
}

/** One read(2); an empty pipe that is non-blocking is waited for. */
function readSome(fd: number, into: Buffer, waiting?: () => void): number {
  for (;;) {
    try {
      return fs.readSync(fd, into, 0, into.length, null)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      waiting?.()
      pause(2)
    }
  }
}
