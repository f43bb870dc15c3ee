import {spawn} from 'node:child_process'
import {readdirSync, readFileSync} from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {bundle, runtimes} from './enter.ts'
import {type Bench, goOn, type Line, notInstalled, type Peer, type Setting, takesRoot} from './frame.ts'

const SLEEP = ['sleep', '60']

/** A process, and what it has started. */
export function family(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`)
  const children = tasks.flatMap(task =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(family)]
}

const isCommand = (pid: number): boolean =>
  readFileSync(`/proc/${pid}/cmdline`, 'utf8') === SLEEP.map(word => `${word}\0`).join('')

export const PRIVATE = ['Private_Clean', 'Private_Dirty']

/** What a process' memory is: its own alone, and also its part of what it shares; proc_pid_smaps(5), in KiB. */
const COUNTS = {
  private: PRIVATE,
  'private memory, and its part of what is shared': ['Pss'],
}

export function memoryOf(pid: number, names: string[]): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const each = names.map(name => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)![1]))
  return sum(each)
}

export const sum = (list: number[]): number => list.reduce((total, one) => total + one, 0)

async function waiting(pid: number): Promise<number[]> {
  for (let i = 0; i < 100; i++) {
    await sleep(100)
    goOn()
    const pids = family(pid)
    if (pids.some(isCommand)) return pids.filter(pid => !isCommand(pid))
  }
  throw new Error('the container never came to sleep')
}

/** All but the container's own processes. */
async function beside([program, ...words]: Line, names: string[], settle: number): Promise<number> {
  const child = spawn(program, words, {stdio: 'ignore', detached: true})
  const ended = new Promise(done => child.once('close', done))
  try {
    const pids = await waiting(child.pid!)
    await sleep(settle)
    return sum(pids.map(pid => memoryOf(pid, names)))
  } finally {
    // The end of the container is what they all wait for.
    for (const pid of family(child.pid!).filter(isCommand)) process.kill(pid, 'SIGKILL')
    await ended
  }
}

/** What waits beside a container that sleeps. */
export async function* memory({folder, quick}: Setting): AsyncIterable<Bench> {
  const all = await runtimes(folder, await bundle(folder, SLEEP))
  for (const [words, names] of Object.entries(COUNTS)) {
    const peers = all.map(({name, line, around}): Peer => {
      const lacking = (name.startsWith('hew') ? undefined : notInstalled(name)) ?? takesRoot()
      const whole = around(line(SLEEP))
      // hew gives back what it does not need once it has been quiet for a second.
      const measure = () => beside(whole, names, quick ? 0 : 1500)
      return {name, lacking, check: async () => void (await beside(whole, names, 0)), measure}
    })
    yield {
      name: `memory, ${words}`,
      title: `What waits beside a sleeping container: ${words}`,
      unit: 'KiB',
      rounds: 3,
      peers,
      ...(words === 'private' && {
        chart: 'Memory beside a sleeping container',
        targets: [{peer: 'hew enter', words: 'below unshare', atMost: median => median('unshare')}],
      }),
    }
  }
}
