import * as fs from 'node:fs'
import type {Duplex} from 'node:stream'
import {HewError, reason} from '../errors.ts'
import {visible} from '../shell.ts'
import {outside} from './outside.ts'
import {entries, type Header, TarError} from './tar.ts'

/**
 * An archive's entries as the stage's words (lib/stage/archive.c), a file's bytes behind its own.
 * @param archive a tar's path: plain, or compressed with gzip, xz, zstd or bzip2
 * @param line what a person types instead, to be said when all is done; '' to say nothing
 * @throws HewError it cannot be read, is damaged, or an entry's name leads out of the root
 */
export async function* entryWords(
  archive: string,
  signal: AbortSignal,
  line: string,
): AsyncGenerator<Buffer> {
  const gather = new Gather()
  if (line !== '') gather.add(Buffer.from(`explain\0${visible(line)}\0`))
  try {
    for await (const {header, body} of entries(await decompressed(archive, signal))) {
      gather.add(
        Buffer.from(
          words(header)
            .map(word => `${word}\0`)
            .join(''),
          'latin1',
        ),
      )
      for await (const part of body) {
        gather.add(part)
        if (gather.enough) yield gather.all()
      }
    }
    gather.add(Buffer.from('entries-end\0'))
    yield gather.all()
  } catch (error) {
    if (signal.aborted || error instanceof HewError) throw error
    throw new HewError(`cannot read ${archive}: ${trouble(error)}`)
  }
}

function trouble(error: unknown): string {
  const {code} = error as NodeJS.ErrnoException
  if (error instanceof TarError) return error.message
  if (code === 'Z_BUF_ERROR') return 'it is cut off: its end is missing'
  if (code?.startsWith('Z_')) return 'it is damaged: its compressed data make no sense'
  return reason(error)
}

/** Small pieces are written together. */
class Gather {
  #pieces: Buffer[] = []
  #size = 0

  add(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#size += piece.length
  }

  get enough(): boolean {
    return this.#size >= 1 << 16
  }

  all(): Buffer {
    const whole = Buffer.concat(this.#pieces)
    this.#pieces = []
    this.#size = 0
    return whole
  }
}

// ---- entries ----

/** An entry's step. All words are bytes, one in each character. */
function words(header: Header): (string | number | bigint)[] {
  const {kind, mode, uid, gid, mtime, size, major, minor} = header
  const path = inside(header.path, header.path)
  const xattrs = header.xattrs.flatMap(([name, value]) => ['entry-xattr', name, value.toString('hex')])
  const owned = [uid, gid, mtime]
  const permitted = [mode.toString(8), ...owned]
  switch (kind) {
    case 'file':
      return [...xattrs, 'entry-file', ...permitted, size, path]
    case 'directory':
      return [...xattrs, 'entry-dir', ...permitted, path]
    case 'symlink':
      return [...xattrs, 'entry-symlink', ...owned, header.target, path]
    case 'link':
      return ['entry-link', inside(header.target, header.path), path]
    case 'fifo':
      return [...xattrs, 'entry-fifo', ...permitted, path]
    default:
      return [...xattrs, 'entry-device', ...permitted, kind === 'block' ? 'b' : 'c', major, minor, path]
  }
}

/**
 * An entry's path in the root. The stage would keep `..` inside, but no honest archive has one, and whoever made this one
 * had something in mind.
 */
function inside(path: string, entry: string): string {
  const names = path.split('/').filter(name => name !== '' && name !== '.')
  if (names.includes('..')) {
    const shown = visible(Buffer.from(entry, 'latin1').toString())
    throw new HewError(`the archive has an entry that leads out of the root: ${shown}`)
  }
  return `/${names.join('/')}`
}

// ---- compression ----

interface Compression {
  magic: string
  tool: string
  package: string
}

const GZIP = '1f8b'
const TOOLS: Compression[] = [
  {magic: 'fd377a585a00', tool: 'xz', package: 'xz-utils'},
  {magic: '28b52ffd', tool: 'zstd', package: 'zstd'},
  {magic: '425a68', tool: 'bzip2', package: 'bzip2'},
]

/** A pipe is polled: a thread that waits in read(2) for what never comes would keep hew from ending. */
function opened(archive: string, signal: AbortSignal): AsyncIterable<Buffer> {
  const fd = fs.openSync(archive, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  if (!fs.fstatSync(fd).isFIFO()) return fs.createReadStream(archive, {fd, highWaterMark: 1 << 18, signal})
  const {Socket} = process.getBuiltinModule('node:net')
  return new Socket({fd, readable: true, writable: false, signal})
}

/** The archive itself, whatever it is compressed with. It may be a pipe: nothing is read twice. */
async function decompressed(archive: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  const iterator = opened(archive, signal)[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const {value: first} = await iterator.next()
  const whole = async function* (): AsyncGenerator<Buffer> {
    if (first) yield first
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value
  }
  const begins = (magic: string): boolean => first?.toString('hex', 0, 6).startsWith(magic) ?? false
  if (begins(GZIP)) {
    const {createGunzip} = await import('node:zlib')
    return through(whole(), createGunzip())
  }
  const compression = TOOLS.find(({magic}) => begins(magic))
  return compression ? byTool(compression, whole(), archive) : whole()
}

/** What goes wrong before it is thrown to whoever reads the transform. */
async function through(bytes: AsyncIterable<Buffer>, transform: Duplex): Promise<AsyncIterable<Buffer>> {
  const {pipeline, Readable} = await import('node:stream')
  return pipeline(Readable.from(bytes), transform, () => {})
}

async function* byTool(
  {tool, package: name}: Compression,
  bytes: AsyncIterable<Buffer>,
  archive: string,
): AsyncGenerator<Buffer> {
  const [$, {Readable}] = await Promise.all([outside(), import('node:stream')])
  const input = Readable.from(bytes)
  // zx keeps all that a program prints; this is a whole root.
  const store = {stdout: new Oblivion(), stderr: [], stdall: new Oblivion()}
  const running = $({input, store})`${tool} -dc`
  input.on('error', error => running.stdout.destroy(error))
  running.stdin.on('error', () => {}) // It has ended, and says why.
  yield* running.stdout as AsyncIterable<Buffer>
  const {exitCode, stderr} = await running
  if (exitCode === 127)
    throw new HewError(
      `${archive} is compressed with ${tool}, which is not installed: apt-get install ${name}`,
    )
  const said = stderr
    .split('\n')[0]!
    .replace(/^.*stdin\S*\s*:\s*/, '')
    .trim()
  if (exitCode !== 0) throw new HewError(`cannot read ${archive}: ${tool} says: ${said}`)
}

/** A list that keeps nothing. */
class Oblivion extends Array<Buffer> {
  override push(): number {
    return 0
  }
}
