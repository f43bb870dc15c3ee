import {readdirSync} from 'node:fs'
import {resolve} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {requires, run, scratch} from '../support.ts'

/** While developing, each command runs from its source: `npx tsx scripts/mkroot.ts`. */

const PROJECT = resolve(import.meta.dirname, '../..')
const tsx = (script: string, ...words: string[]) =>
  run(`${PROJECT}/node_modules/.bin/tsx`, [`${PROJECT}/scripts/${script}`, ...words])

const scripts = readdirSync(`${PROJECT}/scripts`).filter(name => name !== 'hew.ts')

for (const script of scripts)
  test(`${script} shows its help`, () => {
    const {stdout, stderr, status} = tsx(script, '--help')
    assert.equal([stderr, status], ['', 0])
    assert.ok(stdout.startsWith(`hew ${script.replace('.ts', '')}: `), stdout)
  })

test('hew.ts knows every command', () => {
  const {stdout} = tsx('hew.ts', '--help')
  for (const script of scripts) assert.match(stdout, new RegExp(`^  ${script.replace('.ts', '')} `, 'm'))
})

requires(test, 'root')('mkroot, copy-deps and enter, from their sources', () => {
  const root = `${scratch()}/root`
  assert.equal(tsx('mkroot.ts', '--empty', '-q', root), {stdout: `${root}\n`, stderr: '', status: 0})
  assert.is(tsx('copy-deps.ts', '-q', '-r', root, 'sh').status, 0)
  assert.equal(tsx('enter.ts', '-r', root, 'sh', '-c', 'echo $$; exit 3'), {
    stdout: '1\n',
    stderr: '',
    status: 3,
  })
})

test.run()
