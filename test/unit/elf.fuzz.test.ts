import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {ElfError, EM, parseElf} from '../../lib/programs/elf.ts'
import {type LdCache, parseLdCache} from '../../lib/programs/ldcache.ts'
import {envCommand, parseShebang} from '../../lib/programs/script.ts'
import {type Made, makeElf} from './elf-builder.ts'

const test = suite('elf, damaged')

/** The same damage every time: mulberry32. */
function random(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const full: Made = {
  interp: '/lib64/ld-linux-x86-64.so.2',
  needed: Array.from({length: 40}, (_, i) => `lib${i}.so.1`),
  auxiliary: ['libaux.so'],
  soname: 'libme.so',
  rpath: '/a:/b:$ORIGIN',
  runpath: '/c',
  dlopen: ['[{"soname":["libx.so"],"priority":"required"}]', '{"soname":"liby.so"}'],
}

/** As many as it refers to. */
const NAMES = 44
const PAGE = 4096

const originals = [64, 32].flatMap(bits =>
  [true, false].flatMap(littleEndian =>
    [0, 9000, 30_000].map(padding => makeElf({...full, class: bits as 32 | 64, littleEndian, padding})),
  ),
)

const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]

/** Where the fields are that decide everything: the headers at the start, the dynamic section at the end. */
function target(file: Buffer, below: (n: number) => number): number {
  const region = below(4)
  if (region === 0) return below(Math.min(file.length, 64))
  if (region === 1) return below(Math.min(file.length, 320))
  return region === 2 ? file.length - 1 - below(Math.min(file.length, 800)) : below(file.length)
}

function damage(original: Buffer, below: (n: number) => number): Buffer {
  let file = Buffer.from(original)
  if (below(3) === 0) file = file.subarray(0, below(file.length + 1))
  for (
    let times = below(6) + (file.length === original.length ? 1 : 0);
    times > 0 && file.length > 8;
    times--
  ) {
    const at = target(file, below)
    const kind = below(4)
    if (kind === 0) file[at] = below(256)
    else if (kind === 1) file[at]! ^= 1 << below(8)
    else if (at + 4 <= file.length) {
      const value = kind === 2 ? EXTREMES[below(EXTREMES.length)]! : below(2 * file.length)
      if (below(2)) file.writeUInt32LE(value, at)
      else file.writeUInt32BE(value, at)
      // Mostly the magic bytes stay, or little would be tested.
      if (at < 6 && below(10)) file.set(original.subarray(0, 6))
    }
  }
  return file
}

test('10,000 damaged files give a result or an ElfError, soon, and no byte past the end is asked for', () => {
  const below = random(20240229)
  let [results, errors, slowest] = [0, 0, 0]
  const reasons = new Set<string>()
  for (let i = 0; i < 10_000; i++) {
    const file = damage(originals[i % originals.length]!, below)
    let asked = 0
    const pread = (into: Uint8Array, position: number) => {
      assert.ok(position >= 0 && position + into.length <= file.length, `file ${i}: a read past the end`)
      asked += into.length
      return file.copy(into, 0, position)
    }
    const start = performance.now()
    try {
      parseElf(pread, file.length)
      results++
    } catch (error) {
      if (!(error instanceof ElfError)) throw error
      reasons.add(error.message.replace(/\d+/g, 'N'))
      errors++
    }
    slowest = Math.max(slowest, performance.now() - start)
    // Names that jump about in a damaged table may each take a page that was read before.
    assert.ok(asked <= file.length + NAMES * PAGE, `file ${i}: more than a page for each name was read again`)
  }
  // Damage that no reader notices would make this a test of nothing, as would damage to the first bytes only.
  assert.ok(results > 1000 && errors > 3000, `${results} results, ${errors} errors`)
  assert.ok(reasons.size >= 12, [...reasons].join('\n'))
  assert.ok(slowest < 250, `${slowest} ms`)
})

test('a file that claims the largest counts costs little time and memory', () => {
  const file = makeElf({needed: ['libx.so'], padding: 1 << 20})
  const [dynamicHeader, end] = [64 + 56, 64 + 2 * 56]
  file.fill(1, end)
  file.writeUInt32LE(end, dynamicHeader + 8)
  file.writeUInt32LE(file.length - end, dynamicHeader + 32)
  const start = performance.now()
  assert.throws(
    () => parseElf((into, position) => file.copy(into, 0, position), file.length),
    (error: unknown) =>
      error instanceof ElfError && /dynamic section has over \d+ entries/.test(error.message),
  )
  assert.ok(performance.now() - start < 250)
})

const of = (cache: LdCache | undefined): number | undefined => cache && [...cache('libx.so.1')].length

test('damaged caches are ignored or read, never more', () => {
  const below = random(7)
  const strings = Buffer.from('libx.so.1\0/usr/lib/libx.so.1\0')
  const cache = Buffer.alloc(48 + 24 * 20 + strings.length)
  cache.write('glibc-ld.so.cache1.1')
  cache.writeUInt32LE(20, 20)
  for (let i = 0; i < 20; i++) {
    const at = 48 + 24 * i
    cache.writeUInt32LE(0x303, at)
    cache.writeUInt32LE(48 + 24 * 20, at + 4)
    cache.writeUInt32LE(48 + 24 * 20 + 10, at + 8)
  }
  strings.copy(cache, 48 + 24 * 20)
  const old = Buffer.alloc(16 + 12 * 3)
  old.write('ld.so-1.7.0')
  old.writeUInt32LE(3, 12)
  const both = Buffer.concat([old, Buffer.alloc(4), cache])
  assert.is(of(parseLdCache(cache, EM.X86_64)), 20)
  assert.is(of(parseLdCache(both, EM.X86_64)), 20)
  let ignored = 0
  for (let i = 0; i < 2000; i++) {
    const damaged = parseLdCache(damage(i % 2 ? cache : both, below), EM.X86_64)
    if (damaged === undefined) ignored++
    else assert.ok(of(damaged)! <= 20)
  }
  assert.ok(ignored > 100 && ignored < 1900, `${ignored}`)
})

test('any first line of a script is read in no time', () => {
  const below = random(11)
  const letters = '#!/ \t\0\n"\'\\$_-=SiuCaenv{}'
  const start = performance.now()
  for (let i = 0; i < 5000; i++) {
    const line = Array.from({length: below(300)}, () => letters[below(letters.length)]).join('')
    const shebang = parseShebang(Buffer.from(`#!${line}`))
    if (shebang) assert.ok(shebang.interpreter !== '' && !/[ \t\0\n]/.test(shebang.interpreter))
    envCommand(line)
  }
  assert.ok(performance.now() - start < 5000)
})

test.run()
