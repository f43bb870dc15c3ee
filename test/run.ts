import {execFile, spawn} from 'node:child_process'
import {readdirSync} from 'node:fs'
import {availableParallelism} from 'node:os'
import {relative, resolve} from 'node:path'
import {parseArgs, promisify} from 'node:util'
import {quote} from '../lib/shell.ts'
import {inGuest} from './guest/guest.ts'

/**
 * Runs the test files, each in a process of its own, as many at a time as there are processors, and ends with the line
 * `N passed, N failed, N skipped`. Arguments name files or folders. Without any it is all of them, and the system
 * tests a second time, in the test kernel (test/guest), where cgroups are v2. With `--in-guest` it is only that second run.
 *
 * uvu passes a file that forgets its `.run()`: here a file that reports no result has failed.
 */

const HERE = import.meta.dirname
const ROOMS = ['unit', 'cli', 'system']
/**
 * What runs a second time, in the test kernel: all that a kernel has a part in. What would take minutes there for nothing, or
 * cannot be there, says so itself, by a probe (support.ts).
 */
const IN_GUEST = ['test/system/']
/** No file needs longer; one that hangs must not hang them all. */
const TIMEOUT_MS = 15 * 60_000

interface Counts {
  passed: number
  failed: number
  skipped: number
}

interface Result extends Counts {
  output: string
}

function files(words: string[]): string[] {
  const all = ROOMS.flatMap(room =>
    readdirSync(`${HERE}/${room}`, {recursive: true})
      .map(name => `${HERE}/${room}/${name}`)
      .filter(name => name.endsWith('.test.ts'))
      .sort(),
  )
  return words.length === 0
    ? all
    : all.filter(name => words.some(word => relative('.', name).startsWith(word)))
}

function count(output: string, what: string): number | undefined {
  const found = new RegExp(`^ {2}${what}:\\s+(\\d+)`, 'm').exec(output)
  return found ? Number(found[1]) : undefined
}

function run(file: string): Promise<Result> {
  return new Promise(done => {
    const child = spawn(process.execPath, ['--no-warnings', '--import', 'tsx', file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {...process.env, FORCE_COLOR: '0'},
      timeout: 2 * TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    child.stdout.on('data', data => {
      output += data
    })
    child.stderr.on('data', data => {
      output += data
    })
    child.on('close', (status, signal) => {
      const total = count(output, 'Total')
      const passed = count(output, 'Passed') ?? 0
      const skipped = count(output, 'Skipped') ?? 0
      // uvu's total does not hold the skipped ones.
      const failed = (total ?? 0) - passed
      const silent = total === undefined || (total === 0 && skipped === 0)
      if (silent)
        output += `\nno result: ${signal ?? `exit status ${status}`}: does the file call test.run()?\n`
      done({passed, skipped, failed: failed > 0 ? failed : silent || status !== 0 ? 1 : 0, output})
    })
  })
}

/** A line for each reason why tests were skipped. */
function skips(output: string): string[] {
  const names = new Map<string, string[]>()
  for (const [, name, why] of output.matchAll(/^skipped: (.*): (.*)$/gm))
    names.set(why!, [...(names.get(why!) ?? []), name!])
  return [...names].map(([why, all]) => `skipped: ${all.length > 1 ? `${all.length} tests` : all[0]}: ${why}`)
}

function add(sum: Counts, {passed, failed, skipped}: Counts): void {
  sum.passed += passed
  sum.failed += failed
  sum.skipped += skipped
}

/** One file, and a line that says how it went. */
async function onHost(file: string): Promise<Counts> {
  const from = Date.now()
  const {passed, failed, skipped, output} = await run(file)
  const seconds = ((Date.now() - from) / 1000).toFixed(1)
  console.log(
    `${failed ? 'FAIL' : 'ok  '} ${relative('.', file)}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds} s)`,
  )
  if (failed) console.log(output)
  else for (const line of skips(output)) console.log(`     ${line}`)
  return {passed, failed, skipped}
}

/** These files in the test kernel. What is printed there comes with a prefix. */
async function inside(words: string[]): Promise<Counts> {
  if (process.getuid!() !== 0 && !process.env.CI) {
    console.log('skipped: guest: this takes root')
    return {passed: 0, failed: 0, skipped: 1}
  }
  await promisify(execFile)(`${HERE}/guest/debian`, [resolve(HERE, '../dist/build/debian')]).catch(error => {
    console.log(
      `guest: a copy of this machine's own root stands in for a fresh Debian: ${error.stderr.trim()}`,
    )
  })
  const sum: Counts = {passed: 0, failed: 0, skipped: 0}
  for (const file of files(words)) add(sum, await booted(file))
  return sum
}

/** A boot for each file: what one leaves in the kernel, no other finds. */
async function booted(file: string): Promise<Counts> {
  const runner = [process.execPath, '--no-warnings', '--import', 'tsx', 'test/run.ts', relative('.', file)]
    .map(quote)
    .join(' ')
  let begun = ''
  const show = (_: string, data: Buffer) => {
    const lines = (begun + data).split('\n')
    begun = lines.pop()!
    for (const line of lines) console.log(`guest: ${line}`)
  }
  try {
    const {stdout} = await inGuest(`CI=${process.env.CI ?? ''} exec ${runner}`, {
      memory: '2G',
      timeout: TIMEOUT_MS,
      onOutput: show,
    })
    const sum = /^(\d+) passed, (\d+) failed, (\d+) skipped\n$/m.exec(stdout.toString())
    if (!sum) throw new Error('the tests in it ended without a sum')
    return {passed: Number(sum[1]), failed: Number(sum[2]), skipped: Number(sum[3])}
  } catch (error) {
    console.log(`FAIL guest: ${(error as Error).message}`)
    return {passed: 0, failed: 1, skipped: 0}
  }
}

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {'in-guest': {type: 'boolean', default: false}},
})
const queue = values['in-guest'] ? [] : files(positionals).map(file => () => onHost(file))
if (values['in-guest']) queue.push(() => inside(positionals.length > 0 ? positionals : IN_GUEST))
else if (positionals.length === 0) queue.unshift(() => inside(IN_GUEST))
if (queue.length === 0) {
  console.log('no test file is called so')
  process.exit(2)
}

const sum: Counts = {passed: 0, failed: 0, skipped: 0}
const begin = Date.now()

async function worker(): Promise<void> {
  for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
    add(sum, await job())
  }
}

await Promise.all(Array.from({length: availableParallelism()}, worker))
console.log(`\n${((Date.now() - begin) / 1000).toFixed(0)} s`)
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`)
process.exit(sum.failed > 0 || sum.passed === 0 ? 1 : 0)
