import {spawn} from 'node:child_process'
import {readFileSync} from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {type Bench, HEW, notInstalled, type Setting, timed} from './frame.ts'

/** The children of a process that has one thread. */
const children = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)

/** Processes that sleep, in a group of their own. @returns its leader */
async function sleepers(count: number): Promise<number> {
  const line = 'i=0; while [ $i -lt "$0" ]; do sleep 600 & i=$((i + 1)); done; wait'
  const pid = spawn('sh', ['-c', line, `${count}`], {stdio: 'ignore', detached: true}).pid!
  process.once('exit', () => end(pid))
  while (children(pid).length < count) await sleep(20)
  return pid
}

function end(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** @param numbers of the processes, in what was printed */
function sees(parent: number, numbers: (stdout: string) => Set<number>): (stdout: string) => void {
  return stdout => {
    const seen = numbers(stdout)
    const lost = children(parent).filter(child => !seen.has(child))
    if (lost.length > 0) throw new Error(`it does not see ${lost.length} processes`)
  }
}

const second = (stdout: string): Set<number> =>
  new Set(stdout.split('\n').map(line => Number(line.trim().split(/ +/)[1])))
const json = (stdout: string): Set<number> =>
  new Set(JSON.parse(stdout).processes.map(({pid}: {pid: number}) => pid))

async function looked(count: number, rounds: number): Promise<Bench> {
  const parent = await sleepers(count)
  return {
    name: `ps ${count}`,
    title: `A look at ${count} processes more`,
    ...(count <= 2000 && {chart: `A look at ${count} processes`}),
    unit: 'ms',
    rounds,
    peers: [
      timed('ps aux', ['ps', 'aux'], {lacking: notInstalled('ps'), check: sees(parent, second)}),
      timed('hew ps', [HEW, 'ps']),
      timed('hew ps --all', [HEW, 'ps', '--all'], {check: sees(parent, json)}),
      timed('hew --version', [HEW, '--version']),
    ],
    targets: ['hew ps', 'hew ps --all'].map(peer => ({
      peer,
      words: 'no slower than ps aux',
      atMost: median => median('ps aux'),
    })),
    end: () => end(parent),
  }
}

/** What a look at the machine costs. */
export async function* ps({quick}: Setting): AsyncIterable<Bench> {
  if (quick) yield looked(20, 1)
  else for (const count of [2000, 10_000]) yield looked(count, 10)
}
