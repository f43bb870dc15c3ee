import {mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {dirname, join} from 'node:path'
import {type Made, makeElf} from './elf-builder.ts'

/** What is to be at a path: bytes, text, an ELF file, or a link. */
export type Content = Buffer | string | {elf: Made} | {link: string}

/** Makes a tree in a new temporary directory. Files are executable unless their path is under /etc. */
export function makeTree(files: Record<string, Content>): {root: string; remove: () => void} {
  const root = mkdtempSync(join(tmpdir(), 'hew-tree-'))
  for (const [path, content] of Object.entries(files)) {
    const target = join(root, path)
    mkdirSync(dirname(target), {recursive: true})
    if (typeof content === 'object' && 'link' in content) symlinkSync(content.link, target)
    else {
      const bytes = typeof content === 'object' && 'elf' in content ? makeElf(content.elf) : content
      writeFileSync(target, bytes, {mode: path.startsWith('/etc/') ? 0o644 : 0o755})
    }
  }
  return {root, remove: () => rmSync(root, {recursive: true, force: true})}
}

export const GLIBC = '/lib64/ld-linux-x86-64.so.2'

/** A loader as far as it can be looked at: an ELF file with the strings that were compiled into it. */
export function makeLoader(made: Made, ...strings: string[]): Buffer {
  return Buffer.concat([makeElf(made), Buffer.from(`\0${strings.map(text => `${text}\0`).join('')}\0`)])
}

/** glibc's loader as Debian configures it. */
export const debianLoader = makeLoader(
  {soname: 'ld-linux-x86-64.so.2'},
  '/lib/x86_64-linux-gnu/',
  '/usr/lib/x86_64-linux-gnu/',
  '/lib/',
  '/usr/lib/',
  '',
  '/etc/ld.so.cache',
)

/** An ld.so.cache: as ldconfig writes it, in either byte order, alone or behind the old format. */
export function makeCache(
  entries: {name: string; path: string; flags?: number; hwcaps?: number}[],
  {bigEndian = false, behindOld = false, sorted = false} = {},
): Buffer {
  const header = Buffer.alloc(48 + 24 * entries.length)
  const strings: Buffer[] = []
  let end = header.length
  const add = (text: string) => {
    const at = end
    strings.push(Buffer.from(`${text}\0`))
    end += strings.at(-1)!.length
    return at
  }
  const uint32 = (value: number, at: number) =>
    bigEndian ? header.writeUInt32BE(value, at) : header.writeUInt32LE(value, at)
  // Downwards, as a loader looks for them.
  if (!sorted) entries = entries.toSorted((a, b) => (a.name < b.name ? 1 : a.name > b.name ? -1 : 0))
  header.write('glibc-ld.so.cache1.1')
  uint32(entries.length, 20)
  header[28] = bigEndian ? 3 : 2
  for (const [i, {name, path, flags = 0x303, hwcaps = 0}] of entries.entries()) {
    const at = 48 + 24 * i
    uint32(flags, at)
    uint32(add(name), at + 4)
    uint32(add(path), at + 8)
    // The upper half of a 64-bit word.
    uint32(hwcaps, bigEndian ? at + 16 : at + 20)
  }
  const cache = Buffer.concat([header, ...strings])
  if (!behindOld) return cache
  const old = Buffer.alloc(16 + 12 * 3)
  old.write('ld.so-1.7.0')
  old.writeUInt32LE(3, 12)
  return Buffer.concat([old, Buffer.alloc(-old.length & 7), cache])
}
