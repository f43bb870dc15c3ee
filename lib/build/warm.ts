/**
 * The bundles' code caches, one for each way to start: `NODE24 --predictable lib/build/warm.ts BUNDLES STAGE FOLDER`.
 *
 * V8 compiles a function when it is first called. The cache that Node itself puts into a single executable is made before anything
 * was called: it knows where functions are, and has none of them. These are made when commands have run, and have what they
 * called; and as V8 reads all of a cache at once, none has what others call.
 */
import childProcess from 'node:child_process'
import fs, {chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs'
import {createRequire} from 'node:module'
import * as path from 'node:path'
import {constants, Script} from 'node:vm'
import {identityText, ownIdentity} from '../containers/process.ts'

const MADE = 'mkroot --empty root | copy-deps true'
const LIMITS = 'limit --memory 80M --cpu 5% --pids 3'

/**
 * What people wait for, by the first word, and everything else. Nothing of the machine is changed by it: the last command, which would,
 * never becomes the stage. Nothing in it sees what happens to run on the machine: which functions that calls is another thing each time.
 */
const LINES: Record<string, string[]> = {
  '-c': ['-c', `${MADE} | ${LIMITS} | enter -- true`], // the first: others enter what it makes
  mkroot: ['mkroot', 'another'],
  'copy-deps': ['copy-deps', '-r', 'root', 'true', 'sh'],
  limit: ['limit', '--memory', '80M', '--cpu', '5%', '--pids', '3', '--dry-run', 'box'],
  enter: ['enter', '-r', 'root', '--', 'true'],
  ps: ['ps', '--all'],
  others: ['--version'],
}

const [bundles, stage, output, name] = process.argv.slice(2) as [string, string, string, string | undefined]
if (name === undefined) all()
else one(name)

function all(): void {
  const beside = `${output}.new`
  for (const left of [beside, `${beside}.run`]) rmSync(left, {recursive: true, force: true})
  mkdirSync(beside, {recursive: true})
  for (const name of Object.keys(LINES)) {
    const words = [...process.execArgv, process.argv[1]!, bundles, stage, beside, name]
    const {status} = childProcess.spawnSync(process.execPath, words, {stdio: ['ignore', 'ignore', 'inherit']})
    if (status !== 0) process.exit(status ?? 1)
  }
  rmSync(`${beside}.run`, {recursive: true})
  // Half of them would be as good as all to make.
  rmSync(output, {recursive: true, force: true})
  renameSync(beside, output)
}

/** Runs the line of this name, and writes its cache. */
function one(name: string): void {
  const bundle = [`${bundles}/${name}.js`, `${bundles}/hew.js`].find(file => existsSync(file))!
  const [source, program, cache] = [
    readFileSync(bundle, 'latin1'),
    path.resolve(stage),
    path.resolve(output, name),
  ]
  const folder = path.resolve(`${output}.run`)
  rmSync(path.join(folder, 'hew'), {recursive: true, force: true})
  mkdirSync(path.join(folder, 'hew'), {recursive: true, mode: 0o700})
  // Containers take their names in a directory of the user's; root's is the machine's, so root is somebody else for this once.
  if (process.getuid!() === 0) {
    for (const own of [folder, path.join(folder, 'hew')]) chownSync(own, 1000, 1000)
    process.getuid = () => 1000
  }
  const options = {filename: 'hew.js', importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER}
  const script = new Script(source, options)

  const {exit} = process
  function finish(status: number): never {
    const cachedData = script.createCachedData()
    if (new Script(source, {...options, cachedData}).cachedDataRejected)
      throw new Error('V8 does not take its own code cache')
    if (status !== 0)
      console.error(`${cache}: a command ended with ${status}: it starts slower than it could`)
    writeFileSync(cache, cachedData)
    return exit(0)
  }

  // Where it would start itself as the stage, it is Node that runs here.
  const {spawnSync} = childProcess
  childProcess.spawnSync = ((_: string, ...rest: never[]) => spawnSync(program, ...rest)) as typeof spawnSync
  // The machine's processes are ourselves, as that of the box, and who has started us.
  const {readdirSync} = fs
  fs.readdirSync = ((...words: Parameters<typeof readdirSync>) =>
    words[0] === '/proc'
      ? [`${process.pid}`, `${process.ppid}`]
      : readdirSync(...words)) as typeof readdirSync
  process.execve = () => finish(0)
  process.exit = status => finish(Number(status ?? 0))

  process.env.HEW_LAUNCH = 'nofile=1024:4096'
  process.env.XDG_RUNTIME_DIR = folder
  // Relative, since a checkout's path may hold anything.
  process.chdir(folder)
  runningBox('hew/box')
  process.argv.splice(1, Infinity, 'hew', ...LINES[name]!)
  script.runInThisContext()(createRequire(import.meta.url))
}

/** The state of a container that runs, for `limit box`: we are its only process. */
function runningBox(bundle: string): void {
  const {pid, start} = ownIdentity()
  const annotations = {
    'dev.hew.rootfs': '/root',
    'dev.hew.supervisor': identityText(ownIdentity()),
    'dev.hew.start': start,
    'dev.hew.cgroups': '',
  }
  mkdirSync(bundle)
  writeFileSync(`${bundle}/config.json`, '{}')
  writeFileSync(
    `${bundle}/state.json`,
    JSON.stringify({ociVersion: '1.2.0', id: 'box', bundle, annotations, status: 'running', pid}),
  )
}
