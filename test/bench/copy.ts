/**
 * How long the stage takes for 400 files of 400 KiB, beside `cp -a`: as steps, and as a tree. They take turns; each writes
 * into a fresh directory, from a source that is in the page cache.
 */
import {spawnSync} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join, resolve} from 'node:path'
import {runStage} from '../sanitized.ts'

const STAGE = resolve(import.meta.dirname, '../../dist/hew-stage')
const ROUNDS = 15
const LIMIT = 1.5

const folder = mkdtempSync(join(tmpdir(), 'hew-bench-'))
process.on('exit', () => rmSync(folder, {recursive: true}))
const source = join(folder, 'source')
const names = Array.from({length: 400}, (_, i) => `d${i % 20}/f${i}`)
const directories = [...new Set(names.map(name => name.split('/')[0]!))]
for (const directory of directories) mkdirSync(join(source, directory), {recursive: true})
for (const name of names) writeFileSync(join(source, name), randomBytes(400 << 10))

const target = join(folder, 'target')
const plan = (...steps: string[]) => {
  const {status, stderr} = runStage(STAGE, [
    'begin',
    'new-root',
    '0755',
    target,
    'claim',
    'owned',
    ...steps,
    'release',
    'keep',
  ])
  if (status !== 0) throw new Error(stderr)
}
const copies = [
  ...directories.flatMap(name => ['mkdir', '0755', `/${name}`]),
  ...names.flatMap(name => ['copy', '-', join(source, name), `/${name}`]),
]
const rows = {
  'cp -a': () => void spawnSync('cp', ['-a', source, target]),
  copy: () => plan(...copies),
  'copy-tree': () => plan('copy-tree', source),
}
const times = Object.values(rows).map((): number[] => [])
for (let round = -1; round < ROUNDS; round++)
  for (const [i, run] of Object.values(rows).entries()) {
    rmSync(target, {recursive: true, force: true})
    const begin = process.hrtime.bigint()
    run()
    if (round >= 0) times[i]!.push(Number(process.hrtime.bigint() - begin) / 1e6)
  }

const medians = times.map(list => list.sort((a, b) => a - b)[list.length >> 1]!)
console.log('ms           median    ratio')
for (const [i, name] of Object.keys(rows).entries()) {
  const ratio = medians[i]! / medians[0]!
  console.log(name.padEnd(12) + medians[i]!.toFixed(1).padStart(7) + ratio.toFixed(2).padStart(9))
  if (ratio <= LIMIT) continue
  console.log(`more than ${LIMIT} times what cp -a takes`)
  process.exitCode = 1
}
