import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {MOST_TESTS, testsOf} from '../../lib/build/seeds.ts'

test('V8 makes as many tests with a seed as a debugger has counted', () => {
  assert.equal(
    [1, 2, 3, 4, 5, 6, 7, 8].map(seed => testsOf(seed)),
    [171, 99, 126, 121, 64, 90, 94, 255],
  )
})

test("the launcher's seeds are quick ones, and none is there twice", () => {
  const text = fs.readFileSync(new URL('../../lib/stage/seeds.h', import.meta.url), 'utf8')
  const seeds = text
    .replace(/\/\*.*\*\//, '')
    .match(/\d+/g)!
    .map(Number)
  assert.is(new Set(seeds).size, 256)
  for (const seed of seeds) {
    assert.ok(testsOf(seed, MOST_TESTS) <= MOST_TESTS, `${seed}`)
    assert.ok(seed < 1e8, 'more digits than there is place for')
  }
})

test.run()
