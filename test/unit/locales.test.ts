import {readFileSync} from 'node:fs'
import {resolve} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {withoutLocales} from '../../lib/build/locales.ts'

const NODE = resolve(import.meta.dirname, '../../dist/build/node')

interface Segment {
  type: number
  offset: number
  address: number
  size: number
}

function segments(file: Buffer): Segment[] {
  const [start, count] = [Number(file.readBigUInt64LE(32)), file.readUInt16LE(56)]
  return Array.from({length: count}, (_, i) => {
    const at = start + 56 * i
    const [offset, address, , size] = [8, 16, 24, 32].map(field => Number(file.readBigUInt64LE(at + field)))
    return {type: file.readUInt32LE(at), offset: offset!, address: address!, size: size!}
  })
}

/** The items of the ICU data, as ICU finds them: by offsets from the table of contents, which stays where it was. */
function items(file: Buffer): Map<string, number> {
  let start = file.indexOf('CmnD') - 12
  start += file.readUInt16LE(start)
  return new Map(
    Array.from({length: file.readUInt32LE(start)}, (_, i) => {
      const [name, data] = [4, 8].map(field => start + file.readUInt32LE(start + field + 8 * i))
      return [file.toString('latin1', name, file.indexOf(0, name)).replace(/^[^/]*\//, ''), data!]
    }),
  )
}

test('only the languages go, and all else stays at its address', () => {
  const before = readFileSync(NODE)
  const after = withoutLocales(Buffer.from(before))
  assert.ok(before.length - after.length > 15e6)

  const [all, kept] = [items(before), items(after)]
  const names = [...kept.keys()]
  assert.equal(
    names,
    [...all.keys()].filter(name => kept.has(name)),
  )
  for (const name of [
    'root.res',
    'en.res',
    'en_US.res',
    'curr/root.res',
    'res_index.res',
    'zoneinfo64.res',
    'nfkc.nrm',
  ])
    assert.ok(kept.has(name), name)
  for (const name of ['de.res', 'zone/ja.res', 'curr/sr_Latn.res'])
    assert.ok(all.has(name) && !kept.has(name), name)
  const sizes = [...all.values()].map((at, i, list) => (list[i + 1] ?? at) - at)
  for (const [i, [name, at]] of [...all].entries())
    if (kept.has(name))
      assert.ok(
        before
          .subarray(at, at + sizes[i]!)
          .equals(after.subarray(kept.get(name), kept.get(name)! + sizes[i]!)),
        name,
      )

  const loaded = segments(before).filter(({type}) => type === 1)
  const data = before.indexOf('CmnD') - 4096
  const end = [...all.values()].at(-1)!
  let compared = 0
  for (const {type, offset, address, size} of segments(after)) {
    if (type !== 1) continue
    const was = loaded.find(one => address >= one.address && address + size <= one.address + one.size)!
    const from = was.offset + (address - was.address)
    for (let at = 0; at < size; at += 4096) {
      // The data itself has moved, and the file's own header says so.
      if (from + at === 0 || (from + at >= data && from + at <= end)) continue
      const length = Math.min(4096, size - at)
      assert.ok(
        before
          .subarray(from + at, from + at + length)
          .equals(after.subarray(offset + at, offset + at + length)),
      )
      compared += length
    }
  }
  assert.ok(compared > 60e6)
})

test('what is no Node as expected is refused', () => {
  assert.throws(() => withoutLocales(Buffer.alloc(4096)), /there are 0 packages of ICU data/)
})

test.run()
