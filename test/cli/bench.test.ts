import {readFileSync} from 'node:fs'
import {join, resolve} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {requires, run, scratch} from '../support.ts'

const BENCH = resolve(import.meta.dirname, '../bench/bench.ts')
const bench = (...words: string[]) =>
  run(process.execPath, ['--no-warnings', '--import', 'tsx', BENCH, ...words], {timeout: 300_000})

requires(
  test,
  'root',
  'native',
)('the bench measures what is right, once, and says where', () => {
  const folder = scratch()
  const {stdout, stderr, status} = bench(
    '--quick',
    '--into',
    folder,
    'start,enter,replay,limit,mkroot,copy,ps,watch,many',
  )
  assert.is(stderr, '')
  assert.is(status, 0)
  const {machine, benches} = JSON.parse(readFileSync(join(folder, 'bench.json'), 'utf8'))
  assert.ok(machine.processors > 0 && stdout.includes(machine.kernel))
  for (const {title, rows} of benches) {
    assert.ok(stdout.includes(title))
    for (const {peer, median, lacking} of rows) assert.ok(median > 0 || lacking, `${title}: ${peer}`)
    assert.ok(rows.some(({peer, median}: {peer: string; median: number}) => /^hew/.test(peer) && median > 0))
  }
  assert.match(readFileSync(join(folder, 'bench.svg'), 'utf8'), /<rect .*class="hew".*<\/svg>\n$/s)
})

test('a bench that is not there', () => {
  const {stderr, status} = bench('nothing')
  assert.match(stderr, /^bench: there is no nothing, but start, /)
  assert.is(status, 2)
})

test.run()
