import {mkdirSync} from 'node:fs'
import {join} from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {sanitizedStage} from '../sanitized.ts'
import {run, scratch} from '../support.ts'

/** The file steps under sanitizers: plans that make no sense, trees that have no end. */

const test = suite('stage: files, fuzzed')
const program = sanitizedStage()
const place = scratch()

function harness(name: string, ...words: string[]): string {
  const directory = join(place, words.join('-'))
  mkdirSync(directory)
  const {stdout, stderr, status} = run(program, [name, directory, ...words])
  assert.is(status, 0, stdout + stderr)
  assert.is(stderr, '')
  return stdout
}

for (const seed of ['1', '2', '3', '4'])
  test(`random plans: done, or undone to the last file (seed ${seed})`, () => {
    const [, done, undone] = /(\d+) done, (\d+) undone/.exec(harness('fuzz', seed, '500')) ?? []
    // A fuzzer whose plans all fail, or all work, shows nothing.
    assert.ok(Number(done) > 60 && Number(undone) > 60, `${done} done, ${undone} undone`)
  })

test('2000 levels with 128 descriptors: copied, undone, removed', () => {
  assert.is(harness('deep', '2000'), '2000 levels copied, undone and removed\n')
})

test.run()
