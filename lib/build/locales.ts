/**
 * Node carries ICU's data for all the world's languages: a third of its bytes, and hew uses nothing of it. What is left is what
 * Node's own build has for `--with-intl=small-icu`: English, and all that belongs to no language.
 *
 * The data is a package ("CmnD", udata.h and ucmndata.h of ICU): a header, a sorted table of contents, the names, the items. The
 * items that stay move together, and the pages that are free then are cut out of the file: the segment becomes two.
 */

const PAGE = 4096
const PT_LOAD = 1
const EHDR = {phoff: 32, shoff: 40, phnum: 56, shnum: 60, shstrndx: 62}
const PHDR = {size: 56, offset: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40}

interface Item {
  name: string
  data: Buffer
}

/** Data of one language or country, `ja.res` or `curr/sr_Latn_BA.res`; English is what all others fall back to. */
const OF_A_LOCALE = /^(?:[a-z]+\/)?(?!en(?:_|\.))[a-z]{2,3}(?:_[A-Z0-9][A-Za-z0-9]*)*\.res$/

/**
 * The Node executable without the other languages.
 * @throws where its ICU data does not look as expected
 */
export function withoutLocales(node: Buffer): Buffer {
  const start = packageIn(node)
  const contents = start + node.readUInt16LE(start)
  const {items, end} = read(node, contents)
  const prefix = items[0]!.name.slice(0, items[0]!.name.indexOf('/') + 1)
  const kept = items.filter(({name}) => !OF_A_LOCALE.test(name.slice(prefix.length)))
  const smaller = written(kept)
  smaller.copy(node, contents)
  node.fill(0, contents + smaller.length, end)
  return cut(node, up(contents + smaller.length), down(end))
}

const up = (at: number): number => Math.ceil(at / PAGE) * PAGE
const down = (at: number): number => Math.floor(at / PAGE) * PAGE

/** Where the one package begins that has languages in it. */
function packageIn(node: Buffer): number {
  const found: number[] = []
  for (let at = node.indexOf('CmnD'); at >= 0; at = node.indexOf('CmnD', at + 1))
    if (node.readUInt16LE(at - 12 + 2) === 0x27da) found.push(at - 12)
  if (found.length !== 1) throw new Error(`there are ${found.length} packages of ICU data in this Node`)
  return found[0]!
}

/** The last item's size is nowhere: it has to be one that goes, and `end` is where it begins. */
function read(node: Buffer, contents: number): {items: Item[]; end: number} {
  const count = node.readUInt32LE(contents)
  const offsets = (i: number): [number, number] => [
    contents + node.readUInt32LE(contents + 4 + 8 * i),
    contents + node.readUInt32LE(contents + 8 + 8 * i),
  ]
  const items = Array.from({length: count - 1}, (_, i): Item => {
    const [[name, data], [, next]] = [offsets(i), offsets(i + 1)]
    if (next <= data) throw new Error('the items of the ICU data are not in the order of their names')
    return {
      name: node.toString('latin1', name, node.indexOf(0, name)),
      data: Buffer.from(node.subarray(data, next)),
    }
  })
  const [name, end] = offsets(count - 1)
  const last = node.toString('latin1', name, node.indexOf(0, name))
  if (!OF_A_LOCALE.test(last.slice(last.indexOf('/') + 1)))
    throw new Error(`the last item of the ICU data is ${last}`)
  return {items, end}
}

/** A table of contents, and what it is about. Items begin at multiples of 16, as they did. */
function written(items: Item[]): Buffer {
  const table = Buffer.alloc(4 + 8 * items.length)
  table.writeUInt32LE(items.length)
  const names = items.map(({name}) => Buffer.from(`${name}\0`, 'latin1'))
  const parts: Buffer[] = [table, ...names]
  let size = parts.reduce((sum, part) => sum + part.length, 0)
  let at = table.length
  for (const [i, {data}] of items.entries()) {
    const gap = -size & 15
    table.writeUInt32LE(at, 4 + 8 * i)
    table.writeUInt32LE(size + gap, 8 + 8 * i)
    at += names[i]!.length
    parts.push(Buffer.alloc(gap), data)
    size += gap + data.length
  }
  return Buffer.concat(parts)
}

/** Without the pages from `from` to `to`, in the middle of a segment: all else stays at its address. */
function cut(node: Buffer, from: number, to: number): Buffer {
  const [start, count] = [Number(node.readBigUInt64LE(EHDR.phoff)), node.readUInt16LE(EHDR.phnum)]
  const headers: Buffer[] = []
  const get = (header: Buffer, field: number): number => Number(header.readBigUInt64LE(field))
  const set = (header: Buffer, field: number, value: number): void => {
    header.writeBigUInt64LE(BigInt(value), field)
  }
  for (let i = 0; i < count; i++) {
    const header = Buffer.from(node.subarray(start + i * PHDR.size, start + (i + 1) * PHDR.size))
    const [offset, size] = [get(header, PHDR.offset), get(header, PHDR.filesz)]
    headers.push(header)
    if (offset >= to) set(header, PHDR.offset, offset - (to - from))
    if (offset >= to || offset + size <= from) continue
    if (header.readUInt32LE() !== PT_LOAD || offset > from || offset + size < to)
      throw new Error('the ICU data is not in the middle of a segment of Node')
    const rest = Buffer.from(header)
    for (const field of [PHDR.filesz, PHDR.memsz]) {
      set(header, field, from - offset)
      set(rest, field, get(rest, field) - (to - offset))
    }
    for (const field of [PHDR.vaddr, PHDR.paddr]) set(rest, field, get(rest, field) + (to - offset))
    set(rest, PHDR.offset, from)
    headers.push(rest)
  }
  const head = Buffer.from(node.subarray(0, from))
  const size = from + (node.length - to)
  set(head, EHDR.phoff, size + (-size & 7))
  head.writeUInt16LE(headers.length, EHDR.phnum)
  // The section headers would be wrong; nothing that runs needs them.
  set(head, EHDR.shoff, 0)
  for (const field of [EHDR.shnum, EHDR.shstrndx]) head.writeUInt16LE(0, field)
  return Buffer.concat([head, node.subarray(to), Buffer.alloc(-size & 7), ...headers])
}
