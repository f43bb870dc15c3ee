import {mkdirSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {bundle, runtimes} from './enter.ts'
import {
  type Bench,
  HEW,
  type Line,
  notInstalled,
  output,
  type Peer,
  type Setting,
  takesRoot,
  timed,
} from './frame.ts'

const said = ['echo', 'inside']

const check =
  (times: number) =>
  (stdout: string): void => {
    if (stdout !== 'inside\n'.repeat(times)) throw new Error(`it printed ${JSON.stringify(stdout)}`)
  }

/** The same line so many times at once. */
const atOnce = (times: number, line: Line): Line =>
  ['sh', '-c', `for i in $(seq ${times}); do "$@" & done; wait`, 'sh', ...line] as const

/** What a container of hew's has mounted; without its name, state, cgroup, hidden paths of /proc and limits. */
const BWRAP = '--proc /proc --dev /dev --tmpfs /dev/shm --mqueue /dev/mqueue --ro-bind /sys /sys --tmpfs /tmp'

/** So many in a row. */
const inARow = (times: number, line: Line): Line =>
  ['sh', '-c', `i=0; while [ $i -lt ${times} ]; do "$@"; i=$((i + 1)); done`, 'sh', ...line] as const

async function planned(folder: string, words: string[]): Promise<Line> {
  const file = join(folder, 'plan')
  await output([HEW, 'enter', '--plan', file, ...words, '--', ...said])
  return [HEW, 'replay', file]
}

/** The same for plans, and for a pipe in one process: what is computed once, and started once. */
export async function* replay({folder, quick}: Setting): AsyncIterable<Bench> {
  const root = await bundle(folder, said)
  const line = await planned(folder, ['-r', root])
  const bwrap: Line = ['bwrap', '--unshare-all', '--bind', root, '/', ...BWRAP.split(' '), ...said]
  const lacking = notInstalled('bwrap')
  const eight = quick ? 2 : 8
  const [crun] = (await runtimes(folder, root)).filter(({name}) => name === 'crun')
  const noCrun = notInstalled('crun') ?? takesRoot()

  yield {
    name: 'replay',
    title: 'A planned container that runs echo',
    unit: 'ms',
    rounds: 60,
    peers: [
      timed('bwrap', bwrap, {lacking, check: check(1)}),
      timed('hew replay', line, {check: check(1)}),
      timed(`bwrap, ${eight} at once`, atOnce(eight, bwrap), {lacking, check: check(eight)}),
      timed(`hew replay, ${eight} at once`, atOnce(eight, line), {check: check(eight)}),
    ],
    targets: [{peer: 'hew replay', words: 'at most as long as bwrap', atMost: median => median('bwrap')}],
  }

  const times = quick ? 2 : 1000
  const row = (name: string, line: Line, lacking?: string, around = (line: Line) => line): Peer =>
    timed(name, around(inARow(times, line)), {lacking, check: check(times)})
  yield {
    name: 'row',
    title: `${times} planned containers in a row`,
    chart: `${times} containers in a row`,
    unit: 'ms',
    rounds: 1,
    peers: [
      row('bwrap', bwrap, lacking),
      row('hew replay', line),
      row('crun', crun!.line(said), noCrun, crun!.around),
    ],
    targets: [{peer: 'hew replay', words: 'at most as long as bwrap', atMost: median => median('bwrap')}],
  }

  const limited = join(folder, 'limited')
  mkdirSync(limited)
  const limits = '--memory 80M --pids 50'
  writeFileSync(
    join(limited, 'config.json'),
    await output(['sh', '-c', `"$1" limit ${limits} < "$2"`, 'sh', HEW, join(folder, 'config.json')]),
  )
  const plan = join(limited, 'plan')
  await output(['sh', '-c', '"$1" enter --plan "$2" < "$3"', 'sh', HEW, plan, join(limited, 'config.json')])
  const others = (await runtimes(limited, root))
    .filter(({name}) => name === 'crun' || name === 'runc')
    .map(({name, line, around}): Peer => {
      const lacking = notInstalled(name) ?? takesRoot()
      return timed(name, around(line(said)), {lacking, check: check(1)})
    })
  yield {
    name: 'limited',
    title: 'A planned container with limits',
    unit: 'ms',
    rounds: 30,
    peers: [...others, timed('hew replay', [HEW, 'replay', plan], {check: check(1)})],
    targets: [{peer: 'hew replay', words: 'at most as long as crun', atMost: median => median('crun')}],
  }

  const pipe = ['mkroot --empty --rm', 'copy-deps true', `limit ${limits}`, 'enter -- true']
  yield {
    name: 'pipe',
    title: pipe.join(' | '),
    unit: 'ms',
    rounds: 20,
    peers: [
      timed('hew --version', [HEW, '--version']),
      timed('hew -c', [HEW, '-c', pipe.join(' | ')]),
      timed('in a shell', ['sh', '-c', pipe.map(words => `"$0" ${words}`).join(' | '), HEW]),
    ],
    targets: [
      {peer: 'hew -c', words: 'at most 1.6 starts', atMost: median => 1.6 * median('hew --version')},
      {peer: 'in a shell', words: 'at most 2.5 starts', atMost: median => 2.5 * median('hew --version')},
    ],
  }
}
