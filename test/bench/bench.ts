import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'
import {parseArgs} from 'node:util'
import {copy} from './copy.ts'
import {enter} from './enter.ts'
import {type Bench, interruptible, interruption, type Result, run, type Setting} from './frame.ts'
import {init} from './init.ts'
import {limit} from './limit.ts'
import {many} from './many.ts'
import {memory} from './memory.ts'
import {mkroot} from './mkroot.ts'
import {ps} from './ps.ts'
import {replay} from './replay.ts'
import {chart, machine, machineText, table, targets, targetTable} from './report.ts'
import {start} from './start.ts'
import {watch} from './watch.ts'

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
  watch,
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
interruptible()
try {
  await measure()
} catch (error) {
  // Ctrl-C reaches what we run as well, and may be heard of from there first.
  await sleep(100)
  const signal = interruption()
  if (!signal) console.error(`bench: ${(error as Error).message}`)
  process.exitCode = signal ? {SIGINT: 130, SIGTERM: 143}[signal as 'SIGINT' | 'SIGTERM'] : 1
}

async function measure(): Promise<void> {
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
  console.log(targetTable(results))
  mkdirSync(values.into, {recursive: true})
  const date = new Date().toISOString()
  const report = {date, machine: here, benches: results, targets: targets(results)}
  writeFileSync(join(values.into, 'bench.json'), `${JSON.stringify(report, null, 1)}\n`)
  writeFileSync(join(values.into, 'bench.svg'), chart(results, `${machineText(here)}, ${date.slice(0, 10)}`))
}
