/** What a made-up ELF file says. */
export interface Made {
  class?: 32 | 64
  littleEndian?: boolean
  machine?: number
  type?: number
  flags?: number
  osabi?: number
  interp?: string
  needed?: string[]
  auxiliary?: string[]
  filter?: string[]
  soname?: string
  rpath?: string
  runpath?: string
  flags1?: number
  /** JSON texts, one note each. */
  dlopen?: string[]
  /** Bytes between the headers and the string table, to push it onto other pages. */
  padding?: number
}

/** So that an address is never an offset. */
const BASE = 0x10000

/**
 * Writes an ELF file with a header, program headers and a dynamic section, and nothing that could be executed. The
 * default is a library for x86-64.
 */
export function makeElf(made: Made = {}): Buffer {
  const bits = made.class ?? 64
  const little = made.littleEndian ?? true
  const [ehdr, phdr, word] = bits === 64 ? [64, 56, 8] : [52, 32, 4]
  const strings: Buffer[] = [Buffer.alloc(1)]
  const add = (text: string) => {
    const offset = Buffer.concat(strings).length
    strings.push(Buffer.from(`${text}\0`))
    return offset
  }
  const dynamic: [number, number][] = []
  for (const name of made.needed ?? []) dynamic.push([1, add(name)])
  for (const name of made.auxiliary ?? []) dynamic.push([0x7ffffffd, add(name)])
  for (const name of made.filter ?? []) dynamic.push([0x7fffffff, add(name)])
  if (made.soname !== undefined) dynamic.push([14, add(made.soname)])
  if (made.rpath !== undefined) dynamic.push([15, add(made.rpath)])
  if (made.runpath !== undefined) dynamic.push([29, add(made.runpath)])
  if (made.flags1 !== undefined) dynamic.push([0x6ffffffb, made.flags1])

  const uint = (size: number, value: number) => {
    const bytes = Buffer.alloc(size)
    for (let i = 0; i < size; i++) {
      bytes[little ? i : size - 1 - i] = Math.floor(value / 256 ** i) % 256
    }
    return bytes
  }
  const note = (text: string) => {
    const description = Buffer.from(`${text}\0`)
    const padding = Buffer.alloc(-description.length & 3)
    return Buffer.concat([
      uint(4, 4),
      uint(4, description.length),
      uint(4, 0x407c0c0a),
      Buffer.from('FDO\0'),
      description,
      padding,
    ])
  }

  const interp = made.interp === undefined ? Buffer.alloc(0) : Buffer.from(`${made.interp}\0`)
  const notes = Buffer.concat((made.dlopen ?? []).map(note))
  const table = Buffer.concat(strings)
  const count = 2 + (made.interp === undefined ? 0 : 1) + (notes.length > 0 ? 1 : 0)
  const align = (offset: number) => Math.ceil(offset / 8) * 8
  const interpAt = align(ehdr! + count * phdr!)
  const notesAt = align(interpAt + interp.length)
  const tableAt = align(notesAt + notes.length + (made.padding ?? 0))
  const dynamicAt = align(tableAt + table.length)
  dynamic.push([5, BASE + tableAt], [10, table.length], [0, 0])
  const section = Buffer.concat(dynamic.flatMap(([tag, value]) => [uint(word!, tag), uint(word!, value)]))
  const size = dynamicAt + section.length

  const header = (type: number, offset: number, length: number, align = 8) => {
    const address = BASE + offset
    const fields = [offset, address, address, length, length].map(value => uint(word!, value))
    const access = uint(4, 6)
    return bits === 64
      ? Buffer.concat([uint(4, type), access, ...fields, uint(word!, align)])
      : Buffer.concat([uint(4, type), ...fields, access, uint(word!, align)])
  }
  const headers = [header(1, 0, size), header(2, dynamicAt, section.length)]
  if (made.interp !== undefined) headers.push(header(3, interpAt, interp.length))
  if (notes.length > 0) headers.push(header(4, notesAt, notes.length, 4))

  const file = Buffer.alloc(size)
  const ident = Buffer.alloc(16)
  ident.set([0x7f, 0x45, 0x4c, 0x46, bits === 64 ? 2 : 1, little ? 1 : 2, 1, made.osabi ?? 0])
  Buffer.concat([
    ident,
    uint(2, made.type ?? 3),
    uint(2, made.machine ?? 62),
    uint(4, 1),
    uint(word!, 0),
    uint(word!, ehdr!),
    uint(word!, 0),
    uint(4, made.flags ?? 0),
    ...[ehdr!, phdr!, count, 0, 0, 0].map(value => uint(2, value)),
    ...headers,
  ]).copy(file)
  interp.copy(file, interpAt)
  notes.copy(file, notesAt)
  table.copy(file, tableAt)
  section.copy(file, dynamicAt)
  return file
}
