/**
 * The bundle's code cache: `NODE24 --predictable lib/build/warm.ts BUNDLE STAGE OUT`.
 *
 * V8 compiles a function when it is first called. The cache that Node itself puts into a single executable is made before anything
 * was called: it knows where functions are, and has none of them. This one is made when commands have run, and has what they
 * called.
 */
import childProcess from 'node:child_process'
import {chownSync, mkdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {createRequire} from 'node:module'
import * as path from 'node:path'
import {constants, Script} from 'node:vm'

const [bundle, stage, output] = process.argv.slice(2).map(name => path.resolve(name)) as [
  string,
  string,
  string,
]
const folder = path.join(path.dirname(output), 'warm')

/**
 * What people wait for. Nothing of the machine is changed by it: the last command, which would, never becomes the stage. Nothing in it
 * asks what happens to run on the machine (ps, limit PID) or what cgroups it has: which functions that calls is another thing each time.
 */
const LINE = [
  'mkroot --empty root',
  'copy-deps true',
  'limit --memory 80M --cpu 5% --pids 3',
  'enter -r root -- true',
].join(' | ')

rmSync(folder, {recursive: true, force: true})
mkdirSync(path.join(folder, 'hew'), {recursive: true, mode: 0o700})
// Containers take their names in a directory of the user's; root's is the machine's, so root is somebody else for this once.
if (process.getuid!() === 0) {
  for (const own of [folder, path.join(folder, 'hew')]) chownSync(own, 1000, 1000)
  process.getuid = () => 1000
}

const source = readFileSync(bundle, 'latin1')
const options = {filename: 'hew.js', importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER}
const script = new Script(source, options)

const {exit} = process
function finish(status: number): never {
  const cache = script.createCachedData()
  if (new Script(source, {...options, cachedData: cache}).cachedDataRejected)
    throw new Error('V8 does not take its own code cache')
  if (status !== 0) console.error(`${output}: a command ended with ${status}: it starts slower than it could`)
  writeFileSync(output, cache)
  rmSync(folder, {recursive: true, force: true})
  return exit(0)
}

// Where it would start itself as the stage, it is Node that runs here.
const {spawnSync} = childProcess
childProcess.spawnSync = ((_: string, ...rest: never[]) => spawnSync(stage, ...rest)) as typeof spawnSync
process.execve = () => finish(0)
process.exit = status => finish(Number(status ?? 0))

process.env.HEW_LAUNCH = 'nofile=1024:4096'
process.env.XDG_RUNTIME_DIR = folder
// Relative, since a checkout's path may hold anything.
process.chdir(folder)
process.argv.splice(1, Infinity, 'hew', '-c', LINE)
script.runInThisContext()(createRequire(import.meta.url))
