/**
 * What waits beside a container that sleeps, in KiB: `make bench`. The container's own processes do not count; hew's
 * is one supervisor, whether it runs in the background or not. A peer that is not installed is left out.
 */
import {execFileSync, spawn} from 'node:child_process'
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import * as path from 'node:path'

if (process.getuid!() !== 0) {
  console.log('memory: this takes root')
  process.exit(0)
}

const HEW = path.resolve('dist/hew')
const folder = mkdtempSync(path.join(tmpdir(), 'hew-bench-'))
process.on('exit', () => rmSync(folder, {recursive: true}))
const root = `${folder}/rootfs`
const SLEEP = ['sleep', '60']

/** The bundle is what hew's pipe prints. */
const document = JSON.parse(execFileSync(HEW, ['mkroot', '--with', 'sleep', '--json', root]).toString())
writeFileSync(
  `${folder}/config.json`,
  JSON.stringify({...document, process: {...document.process, args: SLEEP}}),
)
mkdirSync(`${root}/proc`, {recursive: true})

const RUNTIME = ['run', '-b', folder, `hew-bench-${process.pid}`]
/** crun refuses hosts that have cgroup v2 beside v1: there that is hidden from it, in a mount namespace of its own. */
const HIDDEN =
  'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec crun "$@"'
const UNSHARE = [
  '--mount',
  '--uts',
  '--ipc',
  '--net',
  '--pid',
  '--fork',
  '--user',
  '--map-root-user',
  'chroot',
]

const rows: Record<string, [program: string, ...words: string[]]> = {
  hew: [HEW, 'enter', '-r', root, ...SLEEP],
  unshare: ['unshare', ...UNSHARE, root, ...SLEEP],
  bwrap: ['bwrap', '--unshare-all', '--bind', root, '/', '--proc', '/proc', ...SLEEP],
  crun: ['unshare', '--mount', 'sh', '-c', HIDDEN, 'crun', ...RUNTIME],
  runc: ['runc', ...RUNTIME],
}

const installed = (program: string): boolean =>
  process.env.PATH!.split(':').some(directory => existsSync(`${directory}/${program}`))

function family(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`)
  const children = tasks.flatMap(task =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(family)]
}

const isCommand = (pid: number): boolean =>
  readFileSync(`/proc/${pid}/cmdline`, 'utf8') === SLEEP.map(word => `${word}\0`).join('')

/** Private memory, and this process' part of what is shared (proc_pid_smaps(5)). */
function memory(pid: number): {own: number; part: number} {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)![1])
  return {own: of('Private_Clean') + of('Private_Dirty'), part: of('Pss')}
}

async function sleeping(pid: number): Promise<number[]> {
  for (let i = 0; i < 100; i++) {
    await new Promise(done => setTimeout(done, 100))
    const pids = family(pid)
    if (pids.some(isCommand)) return pids.filter(pid => !isCommand(pid))
  }
  throw new Error('the container never came to sleep')
}

const cells = (name: string, ...values: (string | number)[]) =>
  name.padEnd(18) + values.map(value => `${value}`.padStart(10)).join('')

console.log(`\n${cells('KiB', 'private', 'private +', 'processes')}\n${cells('', '', 'shared')}`)
for (const [name, [program, ...words]] of Object.entries(rows)) {
  if (!installed(name) && name !== 'hew') {
    console.log(cells(name, 'not', 'installed'))
    continue
  }
  const child = spawn(program, words, {stdio: 'ignore', detached: true})
  const ended = new Promise(done => child.once('close', done))
  try {
    const waiting = await sleeping(child.pid!)
    // hew gives back what it does not need once it has been quiet for a second.
    await new Promise(done => setTimeout(done, 1500))
    const each = waiting.map(memory)
    const sum = (key: 'own' | 'part'): number => each.reduce((total, one) => total + one[key], 0)
    console.log(cells(name, sum('own'), sum('part'), each.length))
  } finally {
    // The end of the container is what they all wait for.
    for (const pid of family(child.pid!).filter(isCommand)) process.kill(pid, 'SIGKILL')
    await ended
  }
}
