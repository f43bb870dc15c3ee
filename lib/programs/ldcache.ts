import type {Sysroot} from '../sysroot.ts'

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

/**
 * Reads the cache that ldconfig(8) writes: by library name, the entries in the file's order. The format is that of
 * glibc 2.2 and later, alone or behind one of the format before it. Undefined when it is none of these, or damaged
 * in a way that makes ld.so ignore it.
 */
export function parseLdCache(file: Buffer): Map<string, CachedLibrary[]> | undefined {
  const start = findHeader(file)
  if (start === undefined) return undefined
  const cache = file.subarray(start)
  // 0: written before glibc 2.33 knew this field.
  const order = cache[28]! & 3
  if (order === 1) return undefined
  const view = new DataView(cache.buffer, cache.byteOffset, cache.length)
  const uint32 = (at: number) => view.getUint32(at, order !== 3)
  const count = uint32(20)
  if (count > Math.floor((cache.length - HEADER) / ENTRY)) return undefined
  const string = stringsOf(cache, HEADER + count * ENTRY)
  const libraries = new Map<string, CachedLibrary[]>()
  for (let i = 0, at = HEADER; i < count; i++, at += ENTRY) {
    const [first, second] = [uint32(at + 16), uint32(at + 20)]
    const [high, low] = order === 3 ? [first, second] : [second, first]
    // Bit 62, and ten bits of ISA level: a glibc-hwcaps entry. Other bits: the processor features of old glibcs,
    // whose directories no current one searches.
    const hwcaps = (high & ~0x3ff) >>> 0 === 0x40000000
    const [name, path] = [string(uint32(at + 4)), string(uint32(at + 8))]
    if (!name || !path?.startsWith('/') || (!hwcaps && (high !== 0 || low !== 0))) continue
    const entry = {path, flags: uint32(at), hwcaps}
    const known = libraries.get(name)
    if (known) known.push(entry)
    else libraries.set(name, [entry])
  }
  return libraries
}

function findHeader(file: Buffer): number | undefined {
  const isHeader = (at: number) =>
    at + HEADER <= file.length && file.toString('latin1', at, at + MAGIC.length) === MAGIC
  if (isHeader(0)) return 0
  if (file.length < 16 || file.toString('latin1', 0, OLD_MAGIC.length) !== OLD_MAGIC) return undefined
  const end = 16 + 12 * file.readUInt32LE(12)
  // The header is aligned as the machine aligns 64-bit words: to 8 bytes, on i386 to 4.
  return [Math.ceil(end / 8) * 8, end].find(isHeader)
}

/** Strings by their offset: cut out of one text, which is much faster than decoding each. */
function stringsOf(cache: Buffer, start: number): (offset: number) => string | undefined {
  const text = cache.toString('latin1')
  const ascii = !/[\x80-\xff]/.test(text.slice(start))
  return offset => {
    const end = offset < text.length ? text.indexOf('\0', offset) : -1
    if (end < 0) return undefined
    return ascii ? text.slice(offset, end) : cache.toString('utf8', offset, end)
  }
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
