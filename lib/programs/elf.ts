import {readSync} from 'node:fs'

/**
 * What an ELF file says about what it needs to run: elf(5), and the gABI's chapters 4 and 5. Files come from anywhere
 * (a root is hostile input), so every offset is checked against the file's size, every loop and every length has a
 * bound, and only the pages that matter are read.
 */
export interface Elf {
  class: 32 | 64
  littleEndian: boolean
  osabi: number
  /** e_type: ET_EXEC 2, ET_DYN 3; others (.o files, core dumps) have nothing to load. */
  type: number
  machine: number
  /** e_flags: where ARM, MIPS and RISC-V say which of their ABIs it is. */
  flags: number
  /** PT_INTERP: the loader, for a program that is linked dynamically. */
  interp: string | undefined
  /** Whether there is a PT_DYNAMIC at all; a file that is linked statically has none. */
  dynamic: boolean
  soname: string | undefined
  needed: string[]
  /** DT_FILTER and DT_AUXILIARY (which may be absent): the libraries that stand in for this one. */
  filters: {name: string; required: boolean}[]
  rpath: string | undefined
  runpath: string | undefined
  /** DT_FLAGS_1 */
  flags1: number
  /** What it says in its notes that it opens with dlopen(3). */
  dlopen: Dlopen[]
}

export type Priority = 'required' | 'recommended' | 'suggested'

/** One entry of `.note.dlopen`: https://systemd.io/ELF_DLOPEN_METADATA/ */
export interface Dlopen {
  /** Any one of these will do; the first is preferred. */
  sonames: string[]
  feature: string
  priority: Priority
}

/** The file is no ELF file, or one that neither the kernel nor the loader could use. */
export class ElfError extends Error {
  /** @param message the plain reason, without the path */
  constructor(message: string) {
    super(message)
    this.name = 'ElfError'
  }
}

/** pread(2) on an open file: fills the buffer from there on, and says how much it got. */
export type Pread = (into: Uint8Array, position: number) => number

export const ET_EXEC = 2
export const ET_DYN = 3
export const DF_1_NODEFLIB = 0x800

const PT_LOAD = 1
const PT_DYNAMIC = 2
const PT_INTERP = 3
const PT_NOTE = 4

const DT_NULL = 0
const DT_NEEDED = 1
const DT_STRTAB = 5
const DT_STRSZ = 10
const DT_SONAME = 14
const DT_RPATH = 15
const DT_RUNPATH = 29
const DT_FLAGS_1 = 0x6ffffffb
const DT_AUXILIARY = 0x7ffffffd
const DT_FILTER = 0x7fffffff
/** Those that say anything here. */
const TAGS = new Set([
  DT_NEEDED,
  DT_STRTAB,
  DT_STRSZ,
  DT_SONAME,
  DT_RPATH,
  DT_RUNPATH,
  DT_FLAGS_1,
  DT_AUXILIARY,
  DT_FILTER,
])

const NOTE_DLOPEN = 0x407c0c0a

const PATH_MAX = 4096
/** Nix and Guix write search paths of some ten thousand bytes. */
const SEARCH_PATH_MAX = 65536
/** The kernel's own bound on the program headers (load_elf_phdrs). */
const PHDRS_MAX = 65536
const NEEDED_MAX = 4096
const DYNAMIC_MAX = 16384
const NOTES_MAX = 65536

/** Where the fields are, in files of either class. */
const LAYOUT = {
  32: {
    ehdr: 52,
    phoff: 28,
    flags: 36,
    phentsize: 42,
    phnum: 44,
    phdr: 32,
    offset: 4,
    vaddr: 8,
    filesz: 16,
    align: 28,
  },
  64: {
    ehdr: 64,
    phoff: 32,
    flags: 48,
    phentsize: 54,
    phnum: 56,
    phdr: 56,
    offset: 8,
    vaddr: 16,
    filesz: 32,
    align: 48,
  },
} as const

interface Segment {
  type: number
  offset: number
  vaddr: number
  filesz: number
  align: number
}

/** Whether the first bytes of a file are those of an ELF file. */
export function isElf(head: Uint8Array): boolean {
  return head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46
}

/** Reads an open file, which must be a regular one of that size. Throws ElfError. */
export function readElf(fd: number, size: number): Elf {
  return parseElf((into, position) => readSync(fd, into, 0, into.length, position), size)
}

/**
 * The same from anything that can be read at a position. Never reads past `size`.
 * @param head the file's first pages, where they were read already
 */
export function parseElf(pread: Pread, size: number, head: Buffer = NOTHING): Elf {
  const file = new Pages(pread, size, head)
  const ident = file.bytes(0, Math.min(size, 16))
  if (!isElf(ident)) throw new ElfError('not an ELF file')
  if (size < LAYOUT[32].ehdr) throw new ElfError('the file ends within the ELF header')
  const is64 = ident[4] === 2
  if (!is64 && ident[4] !== 1) throw new ElfError(`unknown ELF class ${ident[4]}`)
  if (ident[5] !== 1 && ident[5] !== 2) throw new ElfError(`unknown ELF byte order ${ident[5]}`)
  const image = new Image(file, is64 ? 64 : 32, ident[5] === 1)
  return image.read(ident[7]!)
}

/** Whether a loader for the one takes the other: same class, byte order, machine, and variant of its ABI. */
export function sameAbi(a: Elf, b: Elf): boolean {
  if (a.class !== b.class || a.littleEndian !== b.littleEndian || a.machine !== b.machine) return false
  const mask = ABI_FLAGS[a.machine]
  if (mask === undefined) return true
  const [ours, theirs] = [a.flags & mask.bits, b.flags & mask.bits]
  return ours === theirs || (mask.zeroIsAny && (ours === 0 || theirs === 0))
}

export const EM = {
  386: 3,
  MIPS: 8,
  PPC: 20,
  PPC64: 21,
  S390: 22,
  ARM: 40,
  X86_64: 62,
  AARCH64: 183,
  RISCV: 243,
  LOONGARCH: 258,
}

/** The bits of e_flags that keep ABIs of one machine apart; on some, zero is what old compilers left there. */
const ABI_FLAGS: Record<number, {bits: number; zeroIsAny: boolean}> = {
  [EM.MIPS]: {bits: 0x420, zeroIsAny: false}, // EF_MIPS_ABI2 (n32), EF_MIPS_NAN2008
  [EM.PPC64]: {bits: 0x3, zeroIsAny: true}, // ELFv1, ELFv2
  [EM.ARM]: {bits: 0x600, zeroIsAny: true}, // EF_ARM_ABI_FLOAT_HARD, EF_ARM_ABI_FLOAT_SOFT
  [EM.RISCV]: {bits: 0x6, zeroIsAny: false}, // EF_RISCV_FLOAT_ABI
  [EM.LOONGARCH]: {bits: 0x7, zeroIsAny: false}, // EF_LOONGARCH_ABI_MODIFIER_MASK
}

const NOTHING = Buffer.alloc(0)
const PAGE = 4096

/** Nothing that is returned refers to the pages, so every file uses the same: allocating them takes longer than reading. */
const SLAB: Buffer[] = []
const SLAB_MAX = 32

/** A file that is read by the page, each page once, never past the end. One at a time. */
class Pages {
  readonly #pages = new Map<number, Buffer>()

  constructor(
    readonly pread: Pread,
    readonly size: number,
    readonly head: Buffer,
  ) {}

  #page(index: number): Buffer {
    const known = this.#pages.get(index)
    if (known) return known
    const start = index * PAGE
    const page =
      start + PAGE <= this.head.length ? this.head.subarray(start, start + PAGE) : this.#read(start)
    this.#pages.set(index, page)
    return page
  }

  #read(start: number): Buffer {
    const own = this.#pages.size
    if (own === SLAB.length && own < SLAB_MAX) SLAB.push(Buffer.allocUnsafeSlow(PAGE))
    const space = SLAB[own] ?? Buffer.allocUnsafe(PAGE)
    const page = start + PAGE <= this.size ? space : space.subarray(0, this.size - start)
    for (let filled = 0; filled < page.length; ) {
      const got = this.pread(filled === 0 ? page : page.subarray(filled), start + filled)
      if (got <= 0) throw new ElfError('the file became shorter while it was read')
      filled += got
    }
    return page
  }

  bytes(position: number, length: number): Buffer {
    if (!(position >= 0 && length >= 0 && position + length <= this.size)) {
      throw new ElfError('it refers to bytes past its own end')
    }
    if (position + length <= this.head.length) return this.head.subarray(position, position + length)
    if (length === 0) return NOTHING
    const [first, last] = [Math.floor(position / PAGE), Math.floor((position + length - 1) / PAGE)]
    const start = position - first * PAGE
    if (first === last) return this.#page(first).subarray(start, start + length)
    const pages = Array.from({length: last - first + 1}, (_, i) => this.#page(first + i))
    return Buffer.concat(pages).subarray(start, start + length)
  }

  /** The string that begins there, ended by a NUL before `end`. */
  string(position: number, end: number, longest: number): string {
    const limit = Math.min(end, this.size, position + longest)
    const parts: Buffer[] = []
    for (let at = position; at < limit; ) {
      const index = Math.floor(at / PAGE)
      const page = this.#page(index)
      const start = at - index * PAGE
      const stop = Math.min(limit - index * PAGE, page.length)
      const nul = page.indexOf(0, start)
      const ended = nul >= 0 && nul < stop
      // Most lie in one page.
      if (ended && at === position) return page.toString('utf8', start, nul)
      parts.push(page.subarray(start, ended ? nul : stop))
      if (ended) return Buffer.concat(parts).toString()
      at = index * PAGE + stop
    }
    throw new ElfError(limit < end ? 'a name in it is too long' : 'a name in it has no end')
  }
}

/** The fields of one file, in its class and byte order. */
class Image {
  readonly #layout: (typeof LAYOUT)[32 | 64]
  readonly #word: 4 | 8
  #segments: Segment[] = []

  constructor(
    readonly file: Pages,
    readonly bits: 32 | 64,
    readonly little: boolean,
  ) {
    this.#layout = LAYOUT[bits]
    this.#word = bits === 64 ? 8 : 4
  }

  #view(bytes: Buffer): DataView {
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  /** An address or a size. What a double cannot hold exactly is past the end of any file. */
  #address(at: DataView, offset: number): number {
    const first = at.getUint32(offset, this.little)
    if (this.#word === 4) return first
    const second = at.getUint32(offset + 4, this.little)
    return this.little ? second * 2 ** 32 + first : first * 2 ** 32 + second
  }

  read(osabi: number): Elf {
    const layout = this.#layout
    const header = this.#view(this.file.bytes(0, layout.ehdr))
    const elf: Elf = {
      class: this.bits,
      littleEndian: this.little,
      osabi,
      type: header.getUint16(16, this.little),
      machine: header.getUint16(18, this.little),
      flags: header.getUint32(layout.flags, this.little),
      interp: undefined,
      dynamic: false,
      soname: undefined,
      needed: [],
      filters: [],
      rpath: undefined,
      runpath: undefined,
      flags1: 0,
      dlopen: [],
    }
    if (elf.type !== ET_EXEC && elf.type !== ET_DYN) return elf
    this.#readSegments(header)
    const interp = this.#segments.find(segment => segment.type === PT_INTERP)
    if (interp) elf.interp = this.#readInterp(interp)
    const dynamic = this.#segments.find(segment => segment.type === PT_DYNAMIC)
    if (dynamic) this.#readDynamic(dynamic, elf)
    for (const segment of this.#segments) if (segment.type === PT_NOTE) this.#readNotes(segment, elf)
    return elf
  }

  #readSegments(header: DataView): void {
    const {phoff, phentsize, phnum, phdr, offset, vaddr, filesz, align} = this.#layout
    const count = header.getUint16(phnum, this.little)
    if (count === 0) return
    const size = header.getUint16(phentsize, this.little)
    if (size !== phdr) throw new ElfError(`its program headers have ${size} bytes each instead of ${phdr}`)
    if (count * phdr > PHDRS_MAX) throw new ElfError(`it has ${count} program headers`)
    const table = this.#view(this.file.bytes(this.#address(header, phoff), count * phdr))
    for (let at = 0; at < count * phdr; at += phdr) {
      const type = table.getUint32(at, this.little)
      if (type === 0 || type > PT_NOTE) continue
      this.#segments.push({
        type,
        offset: this.#address(table, at + offset),
        vaddr: this.#address(table, at + vaddr),
        filesz: this.#address(table, at + filesz),
        align: this.#address(table, at + align),
      })
    }
  }

  /** The rules are the kernel's (load_elf_binary): at most PATH_MAX bytes, and the last of them a NUL. */
  #readInterp({offset, filesz}: Segment): string {
    if (filesz < 2 || filesz > PATH_MAX) throw new ElfError(`the name of its interpreter has ${filesz} bytes`)
    const bytes = this.file.bytes(offset, filesz)
    if (bytes[filesz - 1] !== 0) throw new ElfError('the name of its interpreter has no end')
    return bytes.toString('utf8', 0, bytes.indexOf(0))
  }

  /** From an address to where it is in the file, and to where the part of the file that is mapped there ends. */
  #locate(address: number): {start: number; end: number} {
    for (const {type, offset, vaddr, filesz} of this.#segments) {
      if (type !== PT_LOAD || address < vaddr || address >= vaddr + filesz) continue
      return {start: offset + (address - vaddr), end: offset + filesz}
    }
    throw new ElfError('its dynamic section refers to an address that is not in the file')
  }

  #readDynamic({offset, filesz}: Segment, elf: Elf): void {
    elf.dynamic = true
    const single = new Map<number, number>()
    const names: [tag: number, value: number][] = []
    const size = 2 * this.#word
    const length = Math.min(filesz, DYNAMIC_MAX * size, Math.max(0, this.file.size - offset))
    const section = this.#view(this.file.bytes(offset, length))
    let tag = -1
    for (let at = 0; at + size <= length && tag !== DT_NULL; at += size) {
      tag = this.#address(section, at)
      if (!TAGS.has(tag)) continue
      const value = this.#address(section, at + this.#word)
      if (tag !== DT_NEEDED && tag !== DT_AUXILIARY && tag !== DT_FILTER) single.set(tag, value)
      else if (names.push([tag, value]) > NEEDED_MAX)
        throw new ElfError(`it needs more than ${NEEDED_MAX} libraries`)
    }
    if (tag !== DT_NULL && length === DYNAMIC_MAX * size)
      throw new ElfError(`its dynamic section has over ${DYNAMIC_MAX} entries`)
    if (tag !== DT_NULL && length < filesz) throw new ElfError('it ends within its dynamic section')
    elf.flags1 = single.get(DT_FLAGS_1) ?? 0
    const strings = [DT_SONAME, DT_RPATH, DT_RUNPATH].some(tag => single.has(tag)) || names.length > 0
    if (!strings) return
    const table = single.get(DT_STRTAB)
    if (table === undefined) throw new ElfError('its dynamic section has no string table')
    const {start, end} = this.#locate(table)
    const stop = Math.min(end, start + (single.get(DT_STRSZ) ?? Number.POSITIVE_INFINITY))
    const string = (offset: number, longest: number) => this.file.string(start + offset, stop, longest)
    const optional = (tag: number, longest: number) =>
      single.has(tag) ? string(single.get(tag)!, longest) : undefined
    elf.soname = optional(DT_SONAME, PATH_MAX)
    elf.rpath = optional(DT_RPATH, SEARCH_PATH_MAX)
    elf.runpath = optional(DT_RUNPATH, SEARCH_PATH_MAX)
    for (const [tag, value] of names) {
      const name = string(value, PATH_MAX)
      if (tag === DT_NEEDED) elf.needed.push(name)
      else elf.filters.push({name, required: tag === DT_FILTER})
    }
  }

  /** The loader does not look at these notes, so damaged ones do not keep a file from being used. */
  #readNotes({offset, filesz, align}: Segment, elf: Elf): void {
    if (filesz > NOTES_MAX || offset + filesz > this.file.size) return
    const notes = this.file.bytes(offset, filesz)
    const view = this.#view(notes)
    const padded = (length: number) => Math.ceil(length / (align === 8 ? 8 : 4)) * (align === 8 ? 8 : 4)
    for (let at = 0; at + 12 <= notes.length; ) {
      const nameSize = view.getUint32(at, this.little)
      const size = view.getUint32(at + 4, this.little)
      const type = view.getUint32(at + 8, this.little)
      const start = at + padded(12 + nameSize)
      if (start + size > notes.length) return
      const name = notes.toString('latin1', at + 12, at + 12 + nameSize)
      if (type === NOTE_DLOPEN && name === 'FDO\0') {
        elf.dlopen.push(...parseDlopen(notes.toString('utf8', start, start + size)))
      }
      at = start + padded(size)
    }
  }
}

/** The text of one note: an array of objects, or in the format's first version a single object. */
function parseDlopen(text: string): Dlopen[] {
  let json: unknown
  try {
    json = JSON.parse(text.replace(/\0+$/, ''))
  } catch {
    return []
  }
  return [json].flat().flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return []
    const {soname, feature, priority} = entry as Record<string, unknown>
    const sonames = [soname].flat().filter(name => typeof name === 'string' && name !== '') as string[]
    if (sonames.length === 0) return []
    return {
      sonames,
      feature: typeof feature === 'string' ? feature : '',
      priority: priority === 'required' || priority === 'suggested' ? priority : 'recommended',
    }
  })
}
