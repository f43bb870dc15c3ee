import {execFileSync, type SpawnSyncOptions, spawnSync} from 'node:child_process'
import {existsSync, mkdirSync, readdirSync, renameSync, statSync} from 'node:fs'
import {constants} from 'node:os'
import {join, resolve} from 'node:path'
import {IN_GUEST, type Outcome} from './support.ts'

const STAGE = resolve(import.meta.dirname, '../lib/stage')
const HARNESS = join(import.meta.dirname, 'unit/stage-files.c')
const BUILT = resolve(import.meta.dirname, '../dist/build/stage-sanitized')

/** The stage and its harness with AddressSanitizer and UBSan, built when a source is newer; where these cannot run the plain stage. */
export function sanitizedStage(): string {
  if (IN_GUEST) return resolve(import.meta.dirname, '../dist/hew-stage')
  const files = readdirSync(STAGE).map(name => join(STAGE, name))
  const newest = Math.max(...[...files, HARNESS].map(file => statSync(file).mtimeMs))
  if (existsSync(BUILT) && statSync(BUILT).mtimeMs > newest) return BUILT
  mkdirSync(resolve(BUILT, '..'), {recursive: true})
  // Test files run side by side, and each may find that it has to build.
  const own = `${BUILT}.${process.pid}`
  const sources = files.filter(file => file.endsWith('.c') && !/\/(main|launch)\.c$/.test(file))
  const warnings = ['-Wall', '-Wextra', '-Werror']
  const sanitizers = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all']
  const how = ['-std=gnu11', '-D_GNU_SOURCE', '-O1', '-g', ...warnings, ...sanitizers]
  execFileSync('gcc', [...how, '-o', own, ...sources, HARNESS], {stdio: 'inherit'})
  renameSync(own, BUILT)
  return BUILT
}

/** The environment of a stage that reads its words from stdin: nothing else may be in it. */
export const FROM_STDIN = {0: 'words-from', 1: '0'}

/** Words as the stage reads them from a descriptor; a Buffer is raw bytes. */
export function encodeWords(list: (string | number | Buffer)[]): Buffer {
  return Buffer.concat(list.map(word => (Buffer.isBuffer(word) ? word : Buffer.from(`${word}\0`))))
}

/** Runs a plan to its end. */
export function runStage(
  program: string,
  list: (string | number | Buffer)[],
  options: SpawnSyncOptions = {},
): Outcome {
  const done = spawnSync(program, [], {
    argv0: 'hew-stage',
    env: FROM_STDIN as unknown as NodeJS.ProcessEnv,
    input: encodeWords(list),
    timeout: 60_000,
    killSignal: 'SIGKILL',
    ...options,
  })
  const status = done.signal ? 128 + constants.signals[done.signal] : (done.status ?? -1)
  return {stdout: `${done.stdout ?? ''}`, stderr: `${done.stderr ?? ''}`, status}
}
