/** Archives for tests, honest and hostile ones: every field of a header can be anything. */

export interface Made {
  path: string
  type?: string
  mode?: number
  uid?: number
  gid?: number
  mtime?: number
  target?: string
  major?: number
  minor?: number
  content?: string | Buffer
  /** What the header says; default: the content's. */
  size?: number
  /** pax records before it. */
  pax?: Record<string, string | Buffer>
  /** Long names as GNU tar has them. */
  gnu?: boolean
  prefix?: string
  /** Fields as they are, by offset, after everything else. */
  raw?: [offset: number, bytes: string | Buffer][]
  magic?: string
  /** Default: the right one. */
  checksum?: string
}

function octal(value: number, length: number): string {
  return `${value.toString(8).padStart(length - 1, '0')}\0`
}

/** A number as GNU tar writes those that octal digits have no room for. */
export function base256(value: bigint, length: number): Buffer {
  const bytes = Buffer.from(
    BigInt.asUintN(8 * length, value)
      .toString(16)
      .padStart(2 * length, '0'),
    'hex',
  )
  bytes[0]! |= 0x80
  return bytes
}

export function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from('\n')])
  let length = rest.length + 1
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length
  return Buffer.concat([Buffer.from(`${length}`), rest])
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)])
}

function header(made: Made, size: number): Buffer {
  const block = Buffer.alloc(512)
  const put = (offset: number, value: string | Buffer) =>
    (typeof value === 'string' ? Buffer.from(value, 'latin1') : value).copy(block, offset)
  put(0, Buffer.from(made.path).subarray(0, 100))
  put(100, octal(made.mode ?? 0o644, 8))
  put(108, octal(made.uid ?? 0, 8))
  put(116, octal(made.gid ?? 0, 8))
  put(124, octal(made.size ?? size, 12))
  put(136, octal(made.mtime ?? 0, 12))
  put(156, made.type ?? '0')
  put(157, Buffer.from(made.target ?? '').subarray(0, 100))
  put(257, made.magic ?? 'ustar\x0000')
  put(329, octal(made.major ?? 0, 8))
  put(337, octal(made.minor ?? 0, 8))
  put(345, made.prefix ?? '')
  for (const [offset, bytes] of made.raw ?? []) put(offset, bytes)
  put(148, '        ')
  const sum = block.reduce((sum, byte) => sum + byte, 0)
  put(148, made.checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `)
  return block
}

/** One entry, with what comes before and behind its header. */
export function entry(made: Made): Buffer {
  const content = Buffer.from((made.content ?? '') as string)
  const before: Buffer[] = []
  if (made.pax) {
    const records = Buffer.concat(Object.entries(made.pax).map(([key, value]) => paxRecord(key, value)))
    before.push(header({path: './PaxHeaders/x', type: 'x'}, records.length), padded(records))
  }
  for (const [type, text] of [
    ['L', made.path],
    ['K', made.target ?? ''],
  ] as const) {
    const long = Buffer.from(`${text}\0`)
    if (made.gnu && long.length > 101)
      before.push(header({path: '././@LongLink', type, magic: 'ustar  \0'}, long.length), padded(long))
  }
  return Buffer.concat([...before, header(made, content.length), padded(content)])
}

export const END = Buffer.alloc(1024)

/** A whole archive. */
export function tar(...entries: Made[]): Buffer {
  return Buffer.concat([...entries.map(entry), END])
}
