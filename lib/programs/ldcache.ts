import type {Sysroot} from '../sysroot.ts'
import {EM} from './elf.ts'

/** An entry of /etc/ld.so.cache. */
export interface CachedLibrary {
  path: string
  /** Type and ABI: FLAG_* in glibc's ldconfig.h. */
  flags: number
  /** Only for processors of some level: the path leads through a glibc-hwcaps directory. */
  hwcaps: boolean
}

const OLD_MAGIC = 'ld.so-1.7.0'
const MAGIC = 'glibc-ld.so.cache1.1'
const HEADER = 48
const ENTRY = 24

/** The entries of a library, in the file's order. */
export type LdCache = (name: string) => Iterable<CachedLibrary>

/**
 * The cache that ldconfig(8) writes, in the format of glibc 2.2 and later, alone or behind one of the format before it. A name is
 * looked up as ld.so does it (elf/dl-cache.c): by halves, in entries that ldconfig has sorted downwards. Undefined when it is
 * none of these, or damaged in a way that makes ld.so ignore it.
 * @param machine whose ld.so looks: e_machine
 */
export function parseLdCache(file: Buffer, machine: number): LdCache | undefined {
  const start = findHeader(file)
  if (start === undefined) return undefined
  const cache = file.subarray(start)
  // 0: written before glibc 2.33 knew this field.
  const order = cache[28]! & 3
  if (order === 1) return undefined
  const view = new DataView(cache.buffer, cache.byteOffset, cache.length)
  const uint32 = (i: number, field: number) => view.getUint32(HEADER + i * ENTRY + field, order !== 3)
  const count = view.getUint32(20, order !== 3)
  if (count > Math.floor((cache.length - HEADER) / ENTRY)) return undefined
  const signed = SIGNED.includes(machine)

  const library = (i: number): CachedLibrary | undefined => {
    const high = uint32(i, order === 3 ? 16 : 20)
    const low = uint32(i, order === 3 ? 20 : 16)
    // Bit 62, and ten bits of ISA level: a glibc-hwcaps entry. Other bits: the processor features of old glibcs,
    // whose directories no current one searches.
    const hwcaps = (high & ~0x3ff) >>> 0 === 0x40000000
    const path = pathAt(cache, uint32(i, 8))
    if (!path?.startsWith('/') || (!hwcaps && (high !== 0 || low !== 0))) return undefined
    return {path, flags: uint32(i, 0), hwcaps}
  }
  return function* (name) {
    const wanted = Buffer.from(`${name}\0`)
    let from = 0
    let to = count
    while (from < to) {
      const middle = (from + to) >>> 1
      if (compare(wanted, cache, uint32(middle, 4), signed) < 0) from = middle + 1
      else to = middle
    }
    const end = Math.min(count, from + SAME_MAX)
    for (let i = from; i < end && compare(wanted, cache, uint32(i, 4), signed) === 0; i++) {
      const found = library(i)
      if (found) yield found
    }
  }
}

/** Where the compilers' `char` has a sign: bytes from 0x80 on come before all others there. */
const SIGNED = [EM[386], EM.X86_64, EM.MIPS, EM.LOONGARCH]
const PATH_MAX = 4096
/** One name has an entry for each ABI, and for each level of processors. */
const SAME_MAX = 1024

/**
 * The order of names: numbers in them by their value, as an `int` holds it, and behind everything else (_dl_cache_libcmp). A name ends
 * with a NUL, one in the cache also where it is too long.
 */
function compare(name: Buffer, cache: Buffer, offset: number, signed: boolean): number {
  const longest = offset + PATH_MAX
  let a = 0
  let b = offset
  for (;;) {
    const x = name[a]!
    const y = b < longest ? (cache[b] ?? 0) : 0
    if (x === y && !isDigit(x)) {
      if (x === 0) return 0
      a++
      b++
      continue
    }
    if (!isDigit(x) || !isDigit(y)) {
      if (isDigit(x)) return 1
      if (isDigit(y)) return -1
      return signed ? ((x << 24) >> 24) - ((y << 24) >> 24) : x - y
    }
    let left = 0
    let right = 0
    while (isDigit(name[a])) left = (Math.imul(left, 10) + name[a++]! - ZERO) | 0
    while (b < longest && isDigit(cache[b])) right = (Math.imul(right, 10) + cache[b++]! - ZERO) | 0
    if (left !== right) return (left - right) | 0
  }
}

const ZERO = 0x30
const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= ZERO && byte <= ZERO + 9

function findHeader(file: Buffer): number | undefined {
  const isHeader = (at: number) =>
    at + HEADER <= file.length && file.toString('latin1', at, at + MAGIC.length) === MAGIC
  if (isHeader(0)) return 0
  if (file.length < 16 || file.toString('latin1', 0, OLD_MAGIC.length) !== OLD_MAGIC) return undefined
  const end = 16 + 12 * file.readUInt32LE(12)
  // The header is aligned as the machine aligns 64-bit words: to 8 bytes, on i386 to 4.
  return [Math.ceil(end / 8) * 8, end].find(isHeader)
}

/** One that could be opened. */
function pathAt(cache: Buffer, offset: number): string | undefined {
  const end = cache.subarray(offset, offset + PATH_MAX).indexOf(0)
  return end < 0 ? undefined : cache.toString('utf8', offset, offset + end)
}

/** The directories that ldconfig would search: ld.so.conf(5) with what it includes. */
export function ldSoConfDirectories(
  sysroot: Sysroot,
  path = '/etc/ld.so.conf',
  seen = new Set<string>(),
): string[] {
  const text = seen.has(path) ? undefined : sysroot.read(path)
  seen.add(path)
  const directories: string[] = []
  for (const line of text?.toString().split('\n') ?? []) {
    const [word, ...rest] = line
      .replace(/#.*/, '')
      .trim()
      .split(/[ \t]+/)
    if (!word || (word === 'hwcap' && rest.length > 0)) continue
    if (word !== 'include' || rest.length === 0) {
      // Old files have `/usr/lib=libc6`.
      directories.push(
        [word, ...rest]
          .join(' ')
          .replace(/=.*/, '')
          .replace(/(.)\/+$/, '$1'),
      )
      continue
    }
    for (const pattern of rest) {
      const absolute = pattern.startsWith('/')
        ? pattern
        : `${path.slice(0, path.lastIndexOf('/'))}/${pattern}`
      for (const file of glob(sysroot, absolute))
        directories.push(...ldSoConfDirectories(sysroot, file, seen))
    }
  }
  return [...new Set(directories)].filter(dir => dir.startsWith('/'))
}

/** glob(7) in a tree, without character classes like [:alpha:]. */
function glob(sysroot: Sysroot, pattern: string): string[] {
  let found = ['']
  for (const part of pattern.split('/').filter(Boolean)) {
    if (!/[*?[]/.test(part)) {
      found = found.map(directory => `${directory}/${part}`)
      continue
    }
    const matches = wildcard(part)
    found = found.flatMap(directory =>
      sysroot
        .list(directory || '/')
        .filter(matches)
        .map(name => `${directory}/${name}`),
    )
  }
  return found.filter(path => sysroot.resolve(path).kind !== 'missing')
}

/** fnmatch(3) for one name. Backtracks to the last star only, so that no pattern takes long. */
function wildcard(pattern: string): (name: string) => boolean {
  const tokens = pattern.match(/\[[!^]?\]?[^\]]*\]|./gs) ?? []
  return name => {
    if (name.startsWith('.') && !pattern.startsWith('.')) return false
    let [token, at, star, retry] = [0, 0, -1, 0]
    while (at < name.length || token < tokens.length) {
      if (tokens[token] === '*') {
        ;[star, retry] = [token++, at]
      } else if (at < name.length && token < tokens.length && matchesOne(tokens[token]!, name[at]!)) {
        token++
        at++
      } else if (star >= 0 && retry < name.length) {
        ;[token, at] = [star + 1, ++retry]
      } else {
        return false
      }
    }
    return true
  }
}

function matchesOne(token: string, character: string): boolean {
  if (token === '?' || token === character) return true
  if (token.length < 3) return false
  const negated = /^\[[!^]/.test(token)
  const ranges = token.slice(negated ? 2 : 1, -1).match(/.-.|./gs) ?? []
  const within = ranges.some(range => character >= range[0]! && character <= range.at(-1)!)
  return within !== negated
}
