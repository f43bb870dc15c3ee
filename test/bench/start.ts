/**
 * How long `hew --version` takes, beside the same stripped Node running an empty script: `make bench`. The two take turns,
 * so that whatever else the machine does slows both down.
 */
import {spawnSync} from 'node:child_process'
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import * as path from 'node:path'

const ROUNDS = 60
const WARM_UP = 5
/** What the project promises (README). */
const LIMIT = 1.15

const folder = mkdtempSync(path.join(tmpdir(), 'hew-bench-'))
process.on('exit', () => rmSync(folder, {recursive: true}))
const empty = path.join(folder, 'empty.js')
writeFileSync(empty, '')

const rows = {
  'node empty.js': ['dist/build/node', empty],
  'hew --version': ['dist/hew', '--version'],
  'hew help mkroot': ['dist/hew', 'help', 'mkroot'],
} as const
const times = Object.values(rows).map((): number[] => [])

for (let round = -WARM_UP; round < ROUNDS; round++)
  for (const [i, [file, ...words]] of Object.values(rows).entries()) {
    const begin = process.hrtime.bigint()
    const {status} = spawnSync(file, words, {stdio: 'ignore'})
    const end = process.hrtime.bigint()
    if (status !== 0) throw new Error(`${file} ${words.join(' ')}: status ${status}`)
    if (round >= 0) times[i]!.push(Number(end - begin) / 1e6)
  }

const quantile = (sorted: number[], q: number) => sorted[Math.floor((sorted.length - 1) * q)]!
for (const list of times) list.sort((a, b) => a - b)
const base = quantile(times[0]!, 0.5)
const cells = (name: string, ...values: string[]) =>
  name.padEnd(18) + values.map(value => value.padStart(9)).join('')

console.log(cells('ms', 'median', '10 %', '90 %', 'ratio'))
for (const [i, name] of Object.keys(rows).entries()) {
  const [median, low, high] = [0.5, 0.1, 0.9].map(q => quantile(times[i]!, q)) as [number, number, number]
  console.log(cells(name, median.toFixed(1), low.toFixed(1), high.toFixed(1), (median / base).toFixed(2)))
}
const ratio = quantile(times[1]!, 0.5) / base
if (ratio > LIMIT) {
  console.log(`more than ${LIMIT} times what Node alone takes`)
  process.exitCode = 1
}
