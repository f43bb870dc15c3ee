import {once} from 'node:events'
import {readdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'
import {bundle} from './enter.ts'
import {
  type Bench,
  goOn,
  HEW,
  notInstalled,
  output,
  type Peer,
  type Setting,
  started,
  takesRoot,
} from './frame.ts'
import {removeAll} from './many.ts'
import {family, sum} from './memory.ts'

/** What a process and its threads have run, in seconds: the kernel's Documentation/scheduler/sched-stats.rst. */
function cpuSeconds(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`)
  return (
    sum(tasks.map(task => Number.parseInt(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8'), 10))) /
    1e9
  )
}

/**
 * Runs what looks again each second on a terminal of its own, script(1)'s.
 * @returns the part of a core that it takes, in percent @throws where `seen` is not shown
 */
async function watched(line: string, seen: RegExp, settle: number, seconds: number): Promise<number> {
  const within = `stty rows 50 cols 150; TERM=xterm exec ${line}`
  const child = started(['script', '-qefc', within, '/dev/null'], {stdio: ['pipe', 'pipe', 'ignore']})
  const ended = once(child, 'exit')
  let shown = ''
  child.stdout!.on('data', part => {
    shown = (shown + part).slice(-(1 << 16))
  })
  try {
    for (let tries = 0; !seen.test(shown); tries++) {
      goOn()
      if (tries === 300) throw new Error(`it does not show ${seen}`)
      await sleep(100)
    }
    await sleep(1000 * settle)
    const [, pid] = family(child.pid!)
    const before = cpuSeconds(pid!)
    const begun = performance.now()
    for (let second = 0; second < seconds; second++) {
      goOn()
      await sleep(1000)
    }
    return (100_000 * (cpuSeconds(pid!) - before)) / (performance.now() - begun)
  } finally {
    child.kill()
    await ended
  }
}

/** What watching many containers costs, with one look a second. */
export async function* watch({folder, quick}: Setting): AsyncIterable<Bench> {
  const [containers, each] = quick ? [2, 2] : [200, 10]
  const lacking = takesRoot() ?? notInstalled('script')
  const root = await bundle(folder, ['sleep', '600'])
  const plan = join(folder, 'watch.plan')
  const many = `i=1; while [ $i -lt ${each} ]; do sleep 600 & i=$((i + 1)); done; wait`
  if (!lacking) await output([HEW, 'enter', '--plan', plan, '-d', '-r', root, '--', 'sh', '-c', many])
  const peer = (name: string, line: string, seen: RegExp, lacking?: string): Peer => ({
    name,
    lacking,
    check: async () => void (await watched(line, seen, 0, 0)),
    measure: () => watched(line, seen, quick ? 0 : 5, quick ? 1 : 10),
  })
  try {
    for (let i = 0; i < containers && !lacking; i++) {
      goOn()
      await output([HEW, 'replay', plan])
    }
    yield {
      name: 'watch',
      title: `Watching ${containers * each} processes in ${containers} containers, once a second`,
      unit: '%',
      rounds: quick ? 1 : 2,
      peers: [
        peer('top -d 1', 'top -d 1', /Tasks:/, lacking ?? notInstalled('top')),
        peer('hew ps --watch', `'${HEW}' ps --watch`, /hew ps: \d+ containers/, lacking),
      ],
      targets: [{peer: 'hew ps --watch', words: 'below 5% of a core', atMost: () => 5}],
    }
  } finally {
    if (!lacking) await removeAll(root)
  }
}
