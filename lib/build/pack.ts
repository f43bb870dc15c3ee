/**
 * Joins the parts of the binary: `tsx lib/build/pack.ts LAUNCHER NODE OUT`.
 *
 * The launcher's ELF image comes first, so that the result is an ELF file; then Node, ld.so and the libraries that
 * Node names, each at a multiple of the page size, so that the launcher can map them; then the table of contents
 * (lib/stage/launch.h has its layout, lib/stage/launch.c is its only reader).
 */
import {execFileSync} from 'node:child_process'
import {chmodSync, closeSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync} from 'node:fs'
import * as path from 'node:path'
import {readElf} from '../programs/elf.ts'
import {withoutLocales} from './locales.ts'

const PT_LOAD = 1
const PT_DYNAMIC = 2
const PF_X = 1
const PF_W = 2
/** The dynamic section's tags of tables that are read in order to relocate (elf.h has the names). */
const TABLES = {
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  RELA: 7,
  REL: 17,
  JMPREL: 23,
  RELR: 36,
  GNU_HASH: 0x6ffffef5,
  VERSYM: 0x6ffffff0,
  VERDEF: 0x6ffffffc,
  VERNEED: 0x6ffffffe,
}

const PAGE = 4096
/** Node's text is so large that it pays to let the kernel map it in pages of this size. */
const HUGE_PAGE = 2 * 1024 * 1024
const MAGIC = '\x7fhewtoc\n'
const VERSION = 2
/** Of lib/build/bake.ts, for the launcher to fill in. */
const SEED = '--random-seed='
const PARTS_MAX = 16
const NAME_SIZE = 32
const PART_SIZE = NAME_SIZE + 3 * 8

interface Part {
  name: string
  bytes: Buffer
  /** How much of a library's start is read before it is relocated. */
  head: number
}

const [launcher, node, output] = process.argv.slice(2) as [string, string, string]
const work = path.dirname(output)

const program = elf(node)
const loader = path.basename(program.interp!)
const parts: Part[] = [
  {name: 'node', bytes: withoutLocales(readFileSync(node)), head: 0},
  library(loader),
  ...program.needed.filter(name => name !== loader).map(library),
]
parts[1]!.bytes = withoutPreloadFile(parts[1]!.bytes)
join(readFileSync(launcher), parts)

function elf(file: string) {
  const fd = openSync(file, 'r')
  try {
    return readElf(fd, statSync(file).size)
  } finally {
    closeSync(fd)
  }
}

/** A library of this machine, as the compiler's linker finds it, stripped. */
function library(name: string): Part {
  const found = execFileSync('gcc', [`-print-file-name=${name}`], {encoding: 'utf8'}).trim()
  if (!path.isAbsolute(found)) throw new Error(`${name}, which Node needs, is not on this machine`)
  const stripped = path.join(work, name)
  execFileSync('strip', ['-o', stripped, found])
  const bytes = readFileSync(stripped)
  rmSync(stripped)
  return {name, bytes, head: head(bytes)}
}

/**
 * The first segment of a library as the GNU linker lays it out has the headers, symbols, strings, versions and
 * relocations, and no code. The launcher counts on ld.so reading nothing else before it relocates. Of a library that is
 * laid out in another way all is head.
 */
function head(bytes: Buffer): number {
  const [first, ...others] = segments(bytes, PT_LOAD)
  const tables = dynamicPointers(bytes)
  const constant = others.filter(segment => !(segment.flags & PF_W))
  const early = tables.every(at => !constant.some(({vaddr, size}) => at >= vaddr && at < vaddr + size))
  return early && first!.offset === 0 && !(first!.flags & PF_X) ? first!.size : bytes.length
}

interface Segment {
  flags: number
  offset: number
  vaddr: number
  size: number
}

function segments(bytes: Buffer, type: number): Segment[] {
  const [start, size, count] = [
    Number(bytes.readBigUInt64LE(32)),
    bytes.readUInt16LE(54),
    bytes.readUInt16LE(56),
  ]
  return Array.from({length: count}, (_, i) => start + i * size)
    .filter(at => bytes.readUInt32LE(at) === type)
    .map(at => ({
      flags: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 8)),
      vaddr: Number(bytes.readBigUInt64LE(at + 16)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
    }))
}

function dynamicPointers(bytes: Buffer): number[] {
  const tags = new Set(Object.values(TABLES))
  return segments(bytes, PT_DYNAMIC).flatMap(({offset, size}) =>
    Array.from({length: size / 16}, (_, i) => offset + i * 16)
      .filter(at => tags.has(Number(bytes.readBigUInt64LE(at))))
      .map(at => Number(bytes.readBigUInt64LE(at + 8))),
  )
}

/**
 * /etc/ld.so.preload is for the programs of the root that hew happens to run in; what it names there
 * need not fit to this libc. An empty name is never found.
 */
function withoutPreloadFile(bytes: Buffer): Buffer {
  const at = bytes.indexOf('/etc/ld.so.preload\0')
  if (at < 0 || bytes.indexOf('/etc/ld.so.preload\0', at + 1) >= 0)
    throw new Error('this ld.so does not name /etc/ld.so.preload once')
  bytes[at] = 0
  return bytes
}

function seedDigits(node: Buffer): number {
  const at = node.indexOf(`${SEED}00000000`)
  if (at < 0 || node.indexOf(`${SEED}00000000`, at + 1) >= 0)
    throw new Error(`the options in Node's executable have no single ${SEED}`)
  return at + SEED.length
}

function join(launcher: Buffer, parts: Part[]): void {
  const table = Buffer.alloc(PARTS_MAX * PART_SIZE + 8 + 2 * 4 + MAGIC.length)
  const fd = openSync(`${output}.new`, 'w', 0o755)
  let size = writeSync(fd, launcher)
  for (const [i, {name, bytes, head}] of parts.entries()) {
    size += writeSync(fd, Buffer.alloc(-size & ((i === 0 ? HUGE_PAGE : PAGE) - 1)))
    const entry = i * PART_SIZE
    table.write(name, entry, NAME_SIZE - 1, 'latin1')
    for (const [j, value] of [size, bytes.length, head].entries())
      table.writeBigUInt64LE(BigInt(value), entry + NAME_SIZE + j * 8)
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
    size += bytes.length
  }
  const end = PARTS_MAX * PART_SIZE
  table.writeBigUInt64LE(BigInt(seedDigits(parts[0]!.bytes)), end)
  table.writeUInt32LE(parts.length, end + 8)
  table.writeUInt32LE(VERSION, end + 12)
  table.write(MAGIC, end + 16, 'latin1')
  writeSync(fd, table)
  closeSync(fd)
  chmodSync(`${output}.new`, 0o755)
  renameSync(`${output}.new`, output)
}
