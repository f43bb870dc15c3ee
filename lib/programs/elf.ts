import {readSync} from 'node:fs'
import {ElfError, MEMORY, Parts, type Pread, VIEW} from './parts.ts'

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

export {ElfError}

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
const NOTE_DLOPEN = 0x407c0c0a
/** The name in such a note, 'FDO' and a NUL, as a number. */
const FDO = 0x46444f00

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
 * @param have so much of the file's beginning was read already, by readHead
 */
export function parseElf(pread: Pread, size: number, have?: number): Elf {
  const file = new Parts(pread, size, have)
  if (size < 4 || !isElf(MEMORY)) throw new ElfError('not an ELF file')
  if (size < LAYOUT[32].ehdr) throw new ElfError('the file ends within the ELF header')
  const bits = MEMORY[4]!
  const order = MEMORY[5]!
  if (bits !== 1 && bits !== 2) throw new ElfError(`unknown ELF class ${bits}`)
  if (order !== 1 && order !== 2) throw new ElfError(`unknown ELF byte order ${order}`)
  return new Image(file, bits === 2 ? 64 : 32, order === 1).read()
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

/** The fields of one file, in its class and byte order. */
class Image {
  readonly #layout: (typeof LAYOUT)[32 | 64]
  readonly #word: 4 | 8
  /** Where the program headers are in the file, and how many bytes they have. */
  #headers = 0
  #headersSize = 0

  constructor(
    readonly file: Parts,
    readonly bits: 32 | 64,
    readonly little: boolean,
  ) {
    this.#layout = LAYOUT[bits]
    this.#word = bits === 64 ? 8 : 4
  }

  /** An address or a size, somewhere in MEMORY. What a double cannot hold exactly is past the end of any file. */
  #address(at: number): number {
    const first = VIEW.getUint32(at, this.little)
    if (this.#word === 4) return first
    const second = VIEW.getUint32(at + 4, this.little)
    return this.little ? second * 2 ** 32 + first : first * 2 ** 32 + second
  }

  read(): Elf {
    const {little} = this
    const at = this.file.at(0, this.#layout.ehdr)
    const elf: Elf = {
      class: this.bits,
      littleEndian: little,
      osabi: MEMORY[at + 7]!,
      type: VIEW.getUint16(at + 16, little),
      machine: VIEW.getUint16(at + 18, little),
      flags: VIEW.getUint32(at + this.#layout.flags, little),
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
    if (elf.type === ET_EXEC || elf.type === ET_DYN) this.#readSegments(at, elf)
    return elf
  }

  #readSegments(ehdr: number, elf: Elf): void {
    const {phoff, phentsize, phnum, phdr} = this.#layout
    const count = VIEW.getUint16(ehdr + phnum, this.little)
    if (count === 0) return
    const size = VIEW.getUint16(ehdr + phentsize, this.little)
    if (size !== phdr) throw new ElfError(`its program headers have ${size} bytes each instead of ${phdr}`)
    if (count * phdr > PHDRS_MAX) throw new ElfError(`it has ${count} program headers`)
    this.#headers = this.#address(ehdr + phoff)
    this.#headersSize = count * phdr
    const table = this.file.at(this.#headers, this.#headersSize)
    let interp = -1
    let dynamic = -1
    const notes: number[] = []
    for (let header = 0; header < this.#headersSize; header += phdr) {
      const type = VIEW.getUint32(table + header, this.little)
      if (type === PT_INTERP && interp < 0) interp = header
      else if (type === PT_DYNAMIC && dynamic < 0) dynamic = header
      else if (type === PT_NOTE) notes.push(header)
    }
    if (interp >= 0) elf.interp = this.#readInterp(interp)
    if (dynamic >= 0) this.#readDynamic(dynamic, elf)
    for (const header of notes) this.#readNotes(header, elf)
  }

  /** An address or a size in a program header. */
  #segment(header: number, field: 'offset' | 'vaddr' | 'filesz' | 'align'): number {
    return this.#address(this.file.at(this.#headers + header, this.#layout.phdr) + this.#layout[field])
  }

  /** The rules are the kernel's (load_elf_binary): at most PATH_MAX bytes, and the last of them a NUL. */
  #readInterp(header: number): string {
    const filesz = this.#segment(header, 'filesz')
    if (filesz < 2 || filesz > PATH_MAX) throw new ElfError(`the name of its interpreter has ${filesz} bytes`)
    const at = this.file.at(this.#segment(header, 'offset'), filesz)
    if (MEMORY[at + filesz - 1] !== 0) throw new ElfError('the name of its interpreter has no end')
    return MEMORY.toString('utf8', at, MEMORY.indexOf(0, at))
  }

  /** From an address to where it is in the file, and to where the part of the file that is mapped there ends. */
  #locate(address: number): {start: number; end: number} {
    const {phdr} = this.#layout
    for (let header = 0; header < this.#headersSize; header += phdr) {
      const at = this.file.at(this.#headers + header, phdr)
      if (VIEW.getUint32(at, this.little) !== PT_LOAD) continue
      const vaddr = this.#address(at + this.#layout.vaddr)
      const filesz = this.#address(at + this.#layout.filesz)
      if (address < vaddr || address >= vaddr + filesz) continue
      const offset = this.#address(at + this.#layout.offset)
      return {start: offset + (address - vaddr), end: offset + filesz}
    }
    throw new ElfError('its dynamic section refers to an address that is not in the file')
  }

  #readDynamic(header: number, elf: Elf): void {
    elf.dynamic = true
    const offset = this.#segment(header, 'offset')
    const filesz = this.#segment(header, 'filesz')
    const size = 2 * this.#word
    const length = Math.min(filesz, DYNAMIC_MAX * size, Math.max(0, this.file.size - offset))
    const section = this.file.at(offset, length)
    let soname: number | undefined
    let rpath: number | undefined
    let runpath: number | undefined
    let table: number | undefined
    let tableSize = Number.POSITIVE_INFINITY
    /** Tag and offset of each. */
    const names: number[] = []
    let tag = -1
    for (let at = section; at + size <= section + length && tag !== DT_NULL; at += size) {
      tag = this.#address(at)
      const value = this.#address(at + this.#word)
      switch (tag) {
        case DT_NEEDED:
        case DT_AUXILIARY:
        case DT_FILTER:
          if (names.push(tag, value) > 2 * NEEDED_MAX)
            throw new ElfError(`it needs more than ${NEEDED_MAX} libraries`)
          break
        case DT_STRTAB:
          table = value
          break
        case DT_STRSZ:
          tableSize = value
          break
        case DT_SONAME:
          soname = value
          break
        case DT_RPATH:
          rpath = value
          break
        case DT_RUNPATH:
          runpath = value
          break
        case DT_FLAGS_1:
          elf.flags1 = value
      }
    }
    if (tag !== DT_NULL && length === DYNAMIC_MAX * size)
      throw new ElfError(`its dynamic section has over ${DYNAMIC_MAX} entries`)
    if (tag !== DT_NULL && length < filesz) throw new ElfError('it ends within its dynamic section')
    if (names.length === 0 && soname === undefined && rpath === undefined && runpath === undefined) return
    if (table === undefined) throw new ElfError('its dynamic section has no string table')
    const {start, end} = this.#locate(table)
    const stop = Math.min(end, start + tableSize)
    const {file} = this
    if (soname !== undefined) elf.soname = file.string(start + soname, stop, PATH_MAX)
    if (rpath !== undefined) elf.rpath = file.string(start + rpath, stop, SEARCH_PATH_MAX)
    if (runpath !== undefined) elf.runpath = file.string(start + runpath, stop, SEARCH_PATH_MAX)
    for (let i = 0; i < names.length; i += 2) {
      const name = file.string(start + names[i + 1]!, stop, PATH_MAX)
      if (names[i] === DT_NEEDED) elf.needed.push(name)
      else elf.filters.push({name, required: names[i] === DT_FILTER})
    }
  }

  /** The loader does not look at these notes, so damaged ones do not keep a file from being used. */
  #readNotes(header: number, elf: Elf): void {
    const offset = this.#segment(header, 'offset')
    const filesz = this.#segment(header, 'filesz')
    if (filesz > NOTES_MAX || offset + filesz > this.file.size) return
    const unit = this.#segment(header, 'align') === 8 ? 8 : 4
    const first = this.file.at(offset, filesz)
    const end = first + filesz
    for (let at = first; at + 12 <= end; ) {
      const nameSize = VIEW.getUint32(at, this.little)
      const size = VIEW.getUint32(at + 4, this.little)
      const start = at + Math.ceil((12 + nameSize) / unit) * unit
      if (start + size > end) return
      const isDlopen = VIEW.getUint32(at + 8, this.little) === NOTE_DLOPEN
      if (isDlopen && nameSize === 4 && VIEW.getUint32(at + 12) === FDO)
        elf.dlopen.push(...parseDlopen(MEMORY.toString('utf8', start, start + size)))
      at = start + Math.ceil(size / unit) * unit
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
