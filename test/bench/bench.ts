import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {parseArgs} from 'node:util'
import {copy} from './copy.ts'
import {enter} from './enter.ts'
import {type Bench, type Result, run, type Setting} from './frame.ts'
import {init} from './init.ts'
import {limit} from './limit.ts'
import {many} from './many.ts'
import {memory} from './memory.ts'
import {mkroot} from './mkroot.ts'
import {ps} from './ps.ts'
import {replay} from './replay.ts'
import {chart, machine, machineText, table} from './report.ts'
import {start} from './start.ts'

/**
 * `make bench ONLY=start,copy`: hew as it is built beside every peer that is installed, as whole processes. Prints tables,
 * and writes bench.json and bench.svg. Timing on a machine that does other things as well is noisy: what counts are ratios.
 */
const BENCHES: Record<string, (setting: Setting) => Iterable<Bench> | AsyncIterable<Bench>> = {
  start,
  enter,
  replay,
  limit,
  mkroot,
  copy,
  ps,
  init,
  memory,
  many,
}

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {quick: {type: 'boolean', default: false}, into: {type: 'string', default: 'dist'}},
})
const wanted = positionals.flatMap(word => word.split(',')).filter(Boolean)
const unknown = wanted.find(name => !(name in BENCHES))
if (unknown !== undefined) {
  console.error(`bench: there is no ${unknown}, but ${Object.keys(BENCHES).join(', ')}`)
  process.exit(2)
}

const folder = mkdtempSync(join(tmpdir(), 'hew-bench-'))
process.on('exit', () => rmSync(folder, {recursive: true, force: true}))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

const here = machine()
console.log(`${machineText(here)}\n`)
const results: Result[] = []
for (const [name, benches] of Object.entries(BENCHES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  const own = join(folder, name)
  mkdirSync(own)
  // One after the other: each makes what it needs when its turn comes.
  for await (const bench of benches({folder: own, quick: values.quick})) {
    const result = await run(bench, values.quick ? 1 : bench.rounds)
    console.log(table(result))
    results.push(result)
  }
  rmSync(own, {recursive: true, force: true})
}
mkdirSync(values.into, {recursive: true})
const date = new Date().toISOString()
writeFileSync(
  join(values.into, 'bench.json'),
  `${JSON.stringify({date, machine: here, benches: results}, null, 1)}\n`,
)
writeFileSync(join(values.into, 'bench.svg'), chart(results, `${machineText(here)}, ${date.slice(0, 10)}`))
