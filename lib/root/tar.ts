/**
 * Reads tar archives: POSIX ustar and pax (pax(1)), and GNU tar's own format (its manual, "Basic Tar Format").
 *
 * Names, link targets and attributes are bytes that need not be UTF-8. Here they are strings with one character for
 * each byte (latin1), as nothing is done with them but to hand them on.
 */

/** What an entry is; for the ones that are not files, no bytes follow. */
export type Kind = 'file' | 'directory' | 'symlink' | 'link' | 'character' | 'block' | 'fifo'

export interface Header {
  kind: Kind
  /** As it is written in the archive, with whatever `..` and slashes it has. */
  path: string
  /** Of a symlink as it is, of a hard link another entry's path. */
  target: string
  mode: number
  uid: number
  gid: number
  /** Nanoseconds since 1970. */
  mtime: bigint
  size: number
  major: number
  minor: number
  xattrs: [name: string, value: Buffer][]
}

export interface Entry {
  header: Header
  /** The file's bytes; those that are not asked for are skipped. */
  body: AsyncIterable<Buffer>
}

/** An archive that is damaged, cut off, or in a dialect that hew does not read. */
export class TarError extends Error {}

const BLOCK = 512
/** pax records and GNU long names are kept in memory; no real ones come near this. */
const LONGEST_EXTENSION = 1 << 20

/** The entries of an archive, in its order. */
export async function* entries(archive: AsyncIterable<Uint8Array>): AsyncGenerator<Entry> {
  const bytes = new Bytes(archive)
  const global = new Map<string, Buffer>()
  let local = new Map<string, Buffer>()
  let first = true
  for (;;) {
    const block = await headerBlock(bytes, first)
    if (!block) break
    first = false
    const type = String.fromCharCode(block[TYPE]!)
    if ('xXg'.includes(type) || type === 'L' || type === 'K') {
      const text = await extension(bytes, block)
      if (type === 'g') for (const [key, value] of records(text)) global.set(key, value)
      else if (type === 'L') local.set('path', untilNul(text))
      else if (type === 'K') local.set('linkpath', untilNul(text))
      else local = new Map([...local, ...records(text)])
      continue
    }
    if (type === 'V') {
      await skip(bytes.body(size(block, local)))
      continue
    }
    const header = headerOf(block, type, new Map([...global, ...local]))
    local = new Map()
    const body = bytes.body(header.size)
    yield {header, body}
    await skip(body)
  }
  // What is behind the end is only padding, but the checksum of a compressed archive comes after it.
  await bytes.drain()
}

/** A header, or undefined at the archive's end: a block of zeros and another one, or nothing more. */
async function headerBlock(bytes: Bytes, first: boolean): Promise<Buffer | undefined> {
  const block = await bytes.exactly(BLOCK)
  if (!block) throw new TarError(first ? 'it is empty' : 'it is cut off: its end is missing')
  if (isZero(block)) {
    const second = await bytes.exactly(BLOCK)
    if (second && !isZero(second))
      throw new TarError('it is damaged: a block of zeros is in the middle of it')
    return undefined
  }
  if (!checksumHolds(block))
    throw new TarError(first ? 'it is no tar archive' : 'it is damaged: the checksum of a header is wrong')
  return block
}

async function extension(bytes: Bytes, block: Buffer): Promise<Buffer> {
  const length = number(block, ...SIZE)
  if (length > LONGEST_EXTENSION) throw new TarError('it is damaged: an extended header has an absurd size')
  const parts: Buffer[] = []
  for await (const part of bytes.body(length)) parts.push(part)
  return Buffer.concat(parts)
}

// ---- a header's fields: offset and length ----

type Field = [offset: number, length: number]
const NAME: Field = [0, 100]
const MODE: Field = [100, 8]
const UID: Field = [108, 8]
const GID: Field = [116, 8]
const SIZE: Field = [124, 12]
const MTIME: Field = [136, 12]
const CHECKSUM: Field = [148, 8]
const TYPE = 156
const LINKNAME: Field = [157, 100]
const MAGIC: Field = [257, 8]
const MAJOR: Field = [329, 8]
const MINOR: Field = [337, 8]
const PREFIX: Field = [345, 155]

function isZero(block: Buffer): boolean {
  return block.every(byte => byte === 0)
}

/** The sum of all bytes, its own field taken as blanks; some old ones summed signed bytes. */
function checksumHolds(block: Buffer): boolean {
  const [offset, length] = CHECKSUM
  let unsigned = 0
  let signed = 0
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= offset && i < offset + length ? 0x20 : block[i]!
    unsigned += byte
    signed += byte < 0x80 ? byte : byte - 0x100
  }
  const stated = /^ *([0-7]+)[ \0]/.exec(field(block, ...CHECKSUM))?.[1]
  return stated !== undefined && [unsigned, signed].includes(Number.parseInt(stated, 8))
}

function field(block: Buffer, offset: number, length: number): string {
  return block.toString('latin1', offset, offset + length)
}

function text(block: Buffer, [offset, length]: Field): string {
  return untilNul(block.subarray(offset, offset + length)).toString('latin1')
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

/** Octal digits, or (GNU) the first bit set and the number in base 256, two's complement. */
function number(block: Buffer, offset: number, length: number): number {
  const bytes = block.subarray(offset, offset + length)
  let value: bigint
  if (bytes[0]! & 0x80) {
    value = BigInt.asIntN(8 * length - 1, BigInt(`0x${bytes.toString('hex')}`))
  } else {
    const digits = /^[ \0]*([0-7]*)[ \0]*/.exec(field(block, offset, length))!
    if (digits[0].length < length && !/[ \0]/.test(digits[0].slice(-1)))
      throw new TarError('it is damaged: a header has no number where one should be')
    value = BigInt(`0o${digits[1] || '0'}`)
  }
  if (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER)
    throw new TarError('it is damaged: a number in a header is absurd')
  return Number(value)
}

// ---- pax ----

/** `LENGTH KEY=VALUE\n`, where LENGTH counts all of it; values are bytes. */
function records(bytes: Buffer): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  let rest = bytes
  while (rest.length > 0 && rest[0] !== 0) {
    const blank = rest.indexOf(0x20)
    const digits = rest.toString('latin1', 0, Math.max(blank, 0))
    const length = /^[1-9]\d{0,9}$/.test(digits) ? Number(digits) : 0
    const equals = rest.indexOf(0x3d)
    if (length > rest.length || equals < blank || equals >= length || rest[length - 1] !== 0x0a)
      throw new TarError('it is damaged: a pax record has no proper form')
    found.set(rest.toString('latin1', blank + 1, equals), Buffer.from(rest.subarray(equals + 1, length - 1)))
    rest = rest.subarray(length)
  }
  return found
}

/** Of a pax record; undefined where there is none, or an empty one, which takes back a global one. */
function recorded(pax: Map<string, Buffer>, key: string): string | undefined {
  return pax.get(key)?.toString('latin1') || undefined
}

function recordedNumber(pax: Map<string, Buffer>, key: string): number | undefined {
  const value = recorded(pax, key)
  if (value === undefined) return undefined
  if (!/^\d{1,15}$/.test(value)) throw new TarError(`it is damaged: the pax record ${key} is no number`)
  return Number(value)
}

/** Seconds with a fraction of any length. */
function recordedTime(pax: Map<string, Buffer>): bigint | undefined {
  const value = recorded(pax, 'mtime')
  if (value === undefined) return undefined
  const parts = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(value)
  if (!parts) throw new TarError('it is damaged: the pax record mtime is no time')
  const nanoseconds = BigInt(parts[2]!) * 1_000_000_000n + BigInt((parts[3] ?? '').slice(0, 9).padEnd(9, '0'))
  return parts[1] ? -nanoseconds : nanoseconds
}

const XATTR = 'SCHILY.xattr.'

function xattrsOf(pax: Map<string, Buffer>): [string, Buffer][] {
  return [...pax].flatMap(([key, value]) =>
    key.startsWith(XATTR) ? [[key.slice(XATTR.length), value] as [string, Buffer]] : [],
  )
}

// ---- headers ----

const KINDS: Record<string, Kind> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file', // contiguous: a matter of the disk
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
}

const UNREADABLE: Record<string, string> = {
  S: 'it has sparse files in it (tar -S), which hew does not read: make it without -S',
  M: 'it is one of several volumes, which hew does not read: join them first',
  D: 'it is an incremental dump (tar -G), which hew does not read: make a full one',
  N: 'its long names are in a form of old GNU tars, which hew does not read',
}

function size(block: Buffer, pax: Map<string, Buffer>): number {
  const value = recordedNumber(pax, 'size') ?? number(block, ...SIZE)
  if (value < 0) throw new TarError('it is damaged: an entry has a negative size')
  return value
}

function headerOf(block: Buffer, type: string, pax: Map<string, Buffer>): Header {
  if (type in UNREADABLE || [...pax.keys()].some(key => key.startsWith('GNU.sparse.')))
    throw new TarError(UNREADABLE[type] ?? UNREADABLE.S)
  const path = recorded(pax, 'path') ?? nameOf(block)
  // Before ustar, a directory was a file with a slash.
  const kind = KINDS[type] === 'file' && path.endsWith('/') ? 'directory' : KINDS[type]
  if (!kind) throw new TarError(`it has an entry of a kind that hew does not know ('${type}')`)
  const target = recorded(pax, 'linkpath') ?? text(block, LINKNAME)
  if (path === '') throw new TarError('it is damaged: an entry has no name')
  const xattrs = xattrsOf(pax)
  if ([path, target, ...xattrs.map(([name]) => name)].some(word => word.includes('\0')))
    throw new TarError('it is damaged: a name has a NUL in it')
  const device = kind === 'character' || kind === 'block'
  return {
    kind,
    path,
    target,
    mode: number(block, ...MODE) & 0o7777,
    uid: id(recordedNumber(pax, 'uid') ?? number(block, ...UID)),
    gid: id(recordedNumber(pax, 'gid') ?? number(block, ...GID)),
    mtime: time(recordedTime(pax) ?? BigInt(number(block, ...MTIME)) * 1_000_000_000n),
    size: kind === 'file' ? size(block, pax) : 0,
    major: device ? id(number(block, ...MAJOR)) : 0,
    minor: device ? id(number(block, ...MINOR)) : 0,
    xattrs,
  }
}

/** What the kernel has 32 bits for; all of them set is no id: chown(2). */
function id(value: number): number {
  if (value < 0 || value >= 0xffffffff)
    throw new TarError('it is damaged: an owner or a device has an absurd number')
  return value
}

function time(nanoseconds: bigint): bigint {
  if (BigInt.asIntN(64, nanoseconds) !== nanoseconds) throw new TarError('it is damaged: a time is absurd')
  return nanoseconds
}

/** Only ustar has a prefix: GNU has times in its place. */
function nameOf(block: Buffer): string {
  const prefix = field(block, ...MAGIC).startsWith('ustar\0') ? text(block, PREFIX) : ''
  return prefix === '' ? text(block, NAME) : `${prefix}/${text(block, NAME)}`
}

// ---- bytes ----

/** Takes counted bytes from pieces of any size. */
class Bytes {
  readonly #pieces: AsyncIterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)

  constructor(archive: AsyncIterable<Uint8Array>) {
    this.#pieces = archive[Symbol.asyncIterator]()
  }

  /** Up to so many of the next bytes; undefined at the end. */
  async #some(most: number): Promise<Buffer | undefined> {
    while (this.#rest.length === 0) {
      const {done, value} = await this.#pieces.next()
      if (done) return undefined
      this.#rest = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    }
    const part = this.#rest.subarray(0, most)
    this.#rest = this.#rest.subarray(part.length)
    return part
  }

  /** So many bytes; undefined when there are none. */
  async exactly(length: number): Promise<Buffer | undefined> {
    let whole = await this.#some(length)
    while (whole && whole.length < length) {
      const more = await this.#some(length - whole.length)
      if (!more) throw cutOff()
      whole = Buffer.concat([whole, more])
    }
    return whole
  }

  /** So many bytes, once, and the padding behind them. Whoever stops in between leaves the rest for the next. */
  body(length: number): AsyncIterable<Buffer> {
    let left = length
    let padding = (BLOCK - (length % BLOCK)) % BLOCK
    const next = async (): Promise<IteratorResult<Buffer>> => {
      const part = left > 0 ? await this.#some(left) : undefined
      if (!part && left + padding > 0 && !(await this.exactly(left + padding))) throw cutOff()
      left = part ? left - part.length : 0
      padding = part ? padding : 0
      return part ? {done: false, value: part} : {done: true, value: undefined}
    }
    return {[Symbol.asyncIterator]: () => ({next})}
  }

  async drain(): Promise<void> {
    while (await this.#some(Number.POSITIVE_INFINITY));
  }
}

function cutOff(): TarError {
  return new TarError('it is cut off: its end is missing')
}

async function skip(body: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of body);
}
