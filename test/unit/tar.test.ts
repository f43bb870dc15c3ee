import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {entries, type Header, TarError} from '../../lib/root/tar.ts'
import {base256, END, entry, type Made, paxRecord, tar} from '../tar-writer.ts'

const test = suite('tar')

async function* pieces(archive: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < archive.length; at += size) yield archive.subarray(at, at + size)
}

type Read = Header & {content: string}

async function read(archive: Buffer, size = 10_240): Promise<Read[]> {
  const found: Read[] = []
  for await (const {header, body} of entries(pieces(archive, size))) {
    const parts: Buffer[] = []
    for await (const part of body) parts.push(part)
    found.push({...header, content: Buffer.concat(parts).toString()})
  }
  return found
}

async function one(made: Made): Promise<Read> {
  const found = await read(tar(made))
  assert.is(found.length, 1)
  return found[0]!
}

async function refuses(archive: Buffer, why: RegExp): Promise<void> {
  let error: unknown
  await read(archive).catch(thrown => {
    error = thrown
  })
  assert.instance(error, TarError)
  assert.match((error as Error).message, why)
}

const text = (header: {path: string}): string => Buffer.from(header.path, 'latin1').toString()

test('all kinds of entries, their fields, their contents', async () => {
  const archive = tar(
    {path: 'd/', type: '5', mode: 0o1777, uid: 1, gid: 2, mtime: 3},
    {path: 'd/f', mode: 0o4755, uid: 0o7777777, gid: 1000, mtime: 1_700_000_000, content: 'a'.repeat(1500)},
    {path: 'd/s', type: '2', target: '../away'},
    {path: 'd/l', type: '1', target: 'd/f'},
    {path: 'd/c', type: '3', mode: 0o666, major: 1, minor: 3},
    {path: 'd/b', type: '4', major: 8, minor: 0},
    {path: 'd/p', type: '6'},
    {path: 'd/7', type: '7', content: 'contiguous'},
    {path: 'd/0', type: '\0', content: 'as before ustar', magic: '\0\0\0\0\0\0\0\0'},
    {path: 'd/old/', type: '\0', magic: '\0\0\0\0\0\0\0\0'},
  )
  const found = await read(archive)
  assert.equal(
    found.map(({path, kind}) => [path, kind]),
    [
      ['d/', 'directory'],
      ['d/f', 'file'],
      ['d/s', 'symlink'],
      ['d/l', 'link'],
      ['d/c', 'character'],
      ['d/b', 'block'],
      ['d/p', 'fifo'],
      ['d/7', 'file'],
      ['d/0', 'file'],
      ['d/old/', 'directory'],
    ],
  )
  const [directory, file, symlink, link, character] = found
  assert.equal(
    [directory!.mode, directory!.uid, directory!.gid, directory!.mtime],
    [0o1777, 1, 2, 3_000_000_000n],
  )
  assert.equal([file!.mode, file!.uid, file!.size], [0o4755, 0o7777777, 1500])
  assert.is(file!.mtime, 1_700_000_000_000_000_000n)
  assert.is(file!.content, 'a'.repeat(1500))
  assert.is(symlink!.target, '../away')
  assert.is(link!.target, 'd/f')
  assert.equal([character!.major, character!.minor], [1, 3])
})

test('pieces of any size make the same entries', async () => {
  const archive = tar(
    {path: 'a', content: 'x'.repeat(513)},
    {path: 'b', pax: {path: 'c'.repeat(300)}, content: 'y'},
    {path: 'd', content: Buffer.alloc(1024, 'z')},
  )
  const expected = await read(archive, archive.length)
  for (const size of [1, 7, 511, 512, 513, 2000]) assert.equal(await read(archive, size), expected)
})

test('contents that nobody asks for are skipped, also in their middle', async () => {
  const archive = tar({path: 'a', content: 'x'.repeat(3000)}, {path: 'b', content: 'y'}, {path: 'c'})
  const paths: string[] = []
  for await (const {header, body} of entries(pieces(archive, 600))) {
    paths.push(header.path)
    if (header.path === 'a') for await (const _ of body) break
  }
  assert.equal(paths, ['a', 'b', 'c'])
})

test('a ustar prefix; where GNU tar has times instead, there is none', async () => {
  assert.is((await one({path: 'name', prefix: 'some/where'})).path, 'some/where/name')
  assert.is((await one({path: 'name', prefix: 'some/where', magic: 'ustar  \0'})).path, 'name')
})

test('names of 100 bytes without a NUL', async () => {
  const path = 'n'.repeat(100)
  assert.is((await one({path, type: '2', target: 't'.repeat(100)})).path, path)
})

test('GNU long names and link targets', async () => {
  const path = `${'long/'.repeat(50)}name`
  const target = '../'.repeat(60)
  const found = await read(
    tar({path, target, type: '2', gnu: true, magic: 'ustar  \0'}, {path: 'next', magic: 'ustar  \0'}),
  )
  assert.equal([found[0]!.path, found[0]!.target, found[1]!.path], [path, target, 'next'])
})

test('pax: names, owners, size, times of nanoseconds, before 1970 too', async () => {
  const found = await one({
    path: 'short',
    size: 0,
    content: '',
    pax: {
      path: 'ä'.repeat(200),
      linkpath: 't',
      uid: '3000000000',
      gid: '70000',
      mtime: '1700000000.123456789',
    },
  })
  assert.is(text(found), 'ä'.repeat(200))
  assert.equal([found.uid, found.gid, found.mtime], [3_000_000_000, 70_000, 1_700_000_000_123_456_789n])
  assert.is((await one({path: 'a', pax: {mtime: '-1.5'}})).mtime, -1_500_000_000n)
  assert.is((await one({path: 'a', pax: {mtime: '5'}})).mtime, 5_000_000_000n)
  assert.is((await one({path: 'a', pax: {mtime: '5.0000000019'}})).mtime, 5_000_000_001n)
  assert.is((await one({path: 'a', size: 0, content: 'hello', pax: {size: '5'}})).content, 'hello')
})

test('pax: attributes keep every byte', async () => {
  const value = Buffer.from([0, 1, 0x0a, 0x3d, 0x20, 0xff, 0])
  const found = await one({
    path: 'a',
    pax: {'SCHILY.xattr.user.a=b': 'x', 'SCHILY.xattr.security.capability': value, comment: 'none'},
  })
  // A name ends at the first `=`, as POSIX has it.
  assert.equal(found.xattrs, [
    ['user.a', Buffer.from('b=x')],
    ['security.capability', value],
  ])
})

test('pax: global records hold until they are taken back, an own one comes first', async () => {
  const global = (records: Record<string, string>): Buffer => {
    const made = entry({path: 'x', pax: records})
    made[156] = 'g'.charCodeAt(0)
    const sum = made.subarray(0, 512).reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0)
    made.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    return made.subarray(0, made.length - 512)
  }
  const found = await read(
    Buffer.concat([
      global({uid: '7', comment: 'f00'}),
      entry({path: 'a'}),
      entry({path: 'b', pax: {uid: '8'}}),
      entry({path: 'c'}),
      global({uid: ''}),
      entry({path: 'd', uid: 9}),
      END,
    ]),
  )
  assert.equal(
    found.map(({uid}) => uid),
    [7, 8, 7, 9],
  )
})

test('numbers in base 256', async () => {
  const found = await one({
    path: 'a',
    raw: [
      [108, base256(4_000_000_000n, 8)],
      [116, base256(3_000_000n, 8)],
      [136, base256(-2n, 12)],
    ],
  })
  assert.equal([found.uid, found.gid, found.mtime], [4_000_000_000, 3_000_000, -2_000_000_000n])
})

test('the signed checksum of old tars', async () => {
  const made = entry({path: 'ä\xff'})
  let sum = 0
  for (let i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 32 : made.readInt8(i)
  made.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  assert.is((await read(Buffer.concat([made, END]))).length, 1)
})

test('a size on what has no contents means nothing', async () => {
  const found = await read(
    tar({path: 'd/', type: '5', size: 4096}, {path: 'l', type: '1', target: 'd', size: 99}, {path: 'f'}),
  )
  assert.equal(
    found.map(({path, size}) => [path, size]),
    [
      ['d/', 0],
      ['l', 0],
      ['f', 0],
    ],
  )
})

test('one block of zeros is an end, and so is what follows two', async () => {
  const a = entry({path: 'a'})
  assert.is((await read(Buffer.concat([a, Buffer.alloc(512)]))).length, 1)
  assert.is((await read(Buffer.concat([a, END, Buffer.from('anything')]))).length, 1)
  assert.is((await read(END)).length, 0)
})

test('names with bytes that are no UTF-8 come through as they are', async () => {
  const found = await one({path: 'x', raw: [[0, Buffer.from([0xff, 0xfe, 0x2f, 0x80])]]})
  assert.equal(Buffer.from(found.path, 'latin1'), Buffer.from([0xff, 0xfe, 0x2f, 0x80]))
})

test('a cut off archive is an error, wherever it is cut', async () => {
  const archive = tar({path: 'a', pax: {uid: '7'}, content: 'x'.repeat(700)}, {path: 'b'})
  for (let length = 1; length < archive.length - 512; length += 37)
    await refuses(archive.subarray(0, length), /cut off/)
  await refuses(Buffer.alloc(0), /^it is empty$/)
})

test('damage is an error', async () => {
  await refuses(Buffer.from('PK'.padEnd(600, 'x')), /^it is no tar archive$/)
  await refuses(Buffer.concat([entry({path: 'a'}), entry({path: 'b', checksum: '000001\0 '})]), /checksum/)
  await refuses(Buffer.concat([entry({path: 'a'}), Buffer.alloc(512), entry({path: 'b'})]), /zeros/)
  await refuses(tar({path: 'a', raw: [[124, 'zzzzzzzzzzz\0']]}), /no number/)
  await refuses(tar({path: 'a', raw: [[124, base256(-1n, 12)]]}), /negative size/)
  await refuses(tar({path: 'a', raw: [[124, base256(1n << 80n, 12)]]}), /absurd/)
  await refuses(tar({path: 'a', raw: [[108, base256(1n << 32n, 8)]]}), /absurd number/)
  await refuses(tar({path: 'a', pax: {uid: '4294967295'}}), /absurd number/)
  await refuses(tar({path: 'a', pax: {mtime: '99999999999'}}), /absurd/)
  await refuses(tar({path: 'a', pax: {mtime: 'now'}}), /no time/)
  await refuses(tar({path: 'a', pax: {size: '-1'}}), /no number/)
  await refuses(tar({path: ''}), /no name/)
})

test('a NUL in a name is an error: it would end a word of the stage', async () => {
  await refuses(tar({path: 'a', pax: {path: 'a\0mkdir\x000755\0/b'}}), /NUL/)
  await refuses(tar({path: 'a', type: '2', pax: {linkpath: 'a\0b'}}), /NUL/)
  await refuses(tar({path: 'a', pax: {'SCHILY.xattr.user.\0x': 'a'}}), /NUL/)
})

test('damaged pax records are errors', async () => {
  const pax = (records: Buffer | string): Buffer =>
    Buffer.concat([entry({path: 'p', type: 'x', content: records}), entry({path: 'a'}), END])
  for (const records of [
    '5 a=b',
    '99 a=b\n',
    '0 a=b\n',
    'x a=b\n',
    '6 ab\n',
    '4 =\n9',
    '-6 a=b\n',
    ' 6 a=b\n',
  ])
    await refuses(pax(records), /pax record/)
  assert.is((await read(pax(paxRecord('uid', '7')))).length, 1)
  await refuses(
    Buffer.concat([entry({path: 'p', type: 'x', size: 1 << 30}), entry({path: 'a'})]),
    /absurd size/,
  )
})

test('dialects that are not read say so', async () => {
  await refuses(tar({path: 'a', type: 'S'}), /sparse.*-S/)
  await refuses(tar({path: 'a', pax: {'GNU.sparse.major': '1'}}), /sparse/)
  await refuses(tar({path: 'a', type: 'M'}), /volumes/)
  await refuses(tar({path: 'a', type: 'D'}), /incremental/)
  await refuses(tar({path: 'a', type: '?'}), /'\?'/)
})

test('a volume label is no entry', async () => {
  assert.equal(
    (await read(tar({path: 'label', type: 'V'}, {path: 'a'}))).map(({path}) => path),
    ['a'],
  )
})

test('random damage gives entries or an error, never anything else', async () => {
  const archive = tar(
    {path: 'a', pax: {path: 'b', 'SCHILY.xattr.user.x': 'y'}, content: 'content'},
    {path: 'n'.repeat(200), gnu: true, magic: 'ustar  \0', content: 'x'.repeat(600)},
    {path: 's', type: '2', target: 't'},
  )
  let seed = 12345
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff
    return seed % below
  }
  for (let i = 0; i < 3000; i++) {
    const damaged = Buffer.from(archive.subarray(0, random(4) ? archive.length : random(archive.length)))
    for (let n = random(4) + 1; n > 0 && damaged.length > 0; n--)
      damaged[random(damaged.length)] = random(256)
    // Headers with a proper checksum reach deeper.
    if (damaged.length >= 512 && random(2)) {
      const at = 512 * random(damaged.length >> 9)
      const block = damaged.subarray(at, at + 512)
      const sum = block.reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0)
      block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    }
    await read(damaged).catch(error => assert.instance(error, TarError))
  }
})

test.run()
