import {spawn} from 'node:child_process'
import {readdirSync} from 'node:fs'
import {availableParallelism} from 'node:os'
import {relative} from 'node:path'

/**
 * Runs the test files, each in a process of its own, as many at a time as there are processors, and ends with the line
 * `N passed, N failed, N skipped`. Arguments name files or folders; default: all.
 *
 * uvu passes a file that forgets its `.run()`: here a file that reports no result has failed.
 */

const HERE = import.meta.dirname
const ROOMS = ['unit', 'cli', 'system']
/** No file needs longer; one that hangs must not hang them all. */
const TIMEOUT_MS = 15 * 60_000

interface Result {
  passed: number
  failed: number
  skipped: number
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
      timeout: TIMEOUT_MS,
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

const queue = files(process.argv.slice(2))
const sum = {passed: 0, failed: 0, skipped: 0}
const begin = Date.now()

async function worker(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const from = Date.now()
    const {passed, failed, skipped, output} = await run(file)
    sum.passed += passed
    sum.failed += failed
    sum.skipped += skipped
    const seconds = ((Date.now() - from) / 1000).toFixed(1)
    console.log(
      `${failed ? 'FAIL' : 'ok  '} ${relative('.', file)}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds} s)`,
    )
    const reasons = output.split('\n').filter(line => line.startsWith('skipped: '))
    if (failed) console.log(output)
    else for (const line of reasons) console.log(`     ${line}`)
  }
}

if (queue.length === 0) {
  console.log('no test file is called so')
  process.exit(2)
}
await Promise.all(Array.from({length: availableParallelism()}, worker))
console.log(`\n${((Date.now() - begin) / 1000).toFixed(0)} s`)
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`)
process.exit(sum.failed > 0 || sum.passed === 0 ? 1 : 0)
