import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {readdirSync, readFileSync} from 'node:fs'
import {join, resolve} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {containers} from '../../lib/containers/state.ts'
import {requires, run, scratch, until} from '../support.ts'

const BENCH = resolve(import.meta.dirname, '../bench/bench.ts')
const NODE_OPTIONS = ['--no-warnings', '--import', 'tsx']
const bench = (...words: string[]) =>
  run(process.execPath, [...NODE_OPTIONS, BENCH, ...words], {timeout: 300_000})
const asRoot = requires(test, 'root', 'native')

asRoot('the bench measures what is right, once, and says where', () => {
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

asRoot('interrupted it ends at once, says nothing, and leaves nothing behind', async () => {
  for (const [signal, status] of Object.entries({SIGINT: 130, SIGTERM: 143})) {
    const folder = scratch()
    const child = spawn(process.execPath, [...NODE_OPTIONS, BENCH, '--into', folder, 'many'], {
      env: {...process.env, TMPDIR: folder},
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let stderr = ''
    child.stderr.on('data', text => {
      stderr += text
    })
    const ended = once(child, 'close')
    const its = () => containers().containers.filter(({root}) => root.startsWith(folder))
    await until('a few containers of many', () => its().length > 5, 60)
    child.kill(signal as NodeJS.Signals)
    assert.equal(await ended, [status, null])
    assert.is(stderr, '')
    assert.not.ok(readdirSync(folder).some(name => name.startsWith('hew-bench')))
    assert.equal(its(), [])
  }
})

test('a bench that is not there', () => {
  const {stderr, status} = bench('nothing')
  assert.match(stderr, /^bench: there is no nothing, but start, /)
  assert.is(status, 2)
})

test.run()
