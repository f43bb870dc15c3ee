import * as fs from 'node:fs'
import * as path from 'node:path'
import {stateDirectory} from '../containers/directory.ts'
import {HewError} from '../errors.ts'
import {nearest} from '../nearest.ts'
import type {Container, Snapshot} from './snapshot.ts'

/**
 * The containers that words name: all without any. With words, other processes are not shown.
 * @param words names, or PIDs of processes in containers
 * @throws HewError there is none of that name, or the process is in none
 */
export function chosen(snapshot: Snapshot, words: string[]): Snapshot {
  if (words.length === 0) return snapshot
  const found = new Set(words.map(word => named(snapshot.containers, word)))
  return {containers: [...found], others: snapshot.others}
}

function named(containers: Container[], word: string): Container {
  const pid = /^\d{1,10}$/.test(word) ? Number(word) : undefined
  const found = containers.find(one => (pid === undefined ? one.name === word : isOf(one, pid)))
  if (found) return found
  if (pid !== undefined)
    throw new HewError(
      fs.existsSync(`/proc/${pid}`)
        ? `the process ${pid} is in no container: 'hew ps --all' shows it`
        : `there is no process ${pid}`,
    )
  const meant = nearest(
    word,
    containers.flatMap(({name}) => name ?? []),
  )
  throw new HewError(
    `no container is called ${word}: ${meant ? `did you mean ${meant}?` : "'hew ps' shows all there are"}`,
  )
}

/** A process in the container, or the one that made its PID namespace and waits for its end: the PID that a shell has of it. */
function isOf({supervisor, processes}: Container, pid: number): boolean {
  const [first] = processes
  return (
    supervisor === pid ||
    processes.some(process => process.pid === pid) ||
    // PID 1 made nothing: it takes in orphans.
    (first?.pidInside === 1 && first.ppid === pid && pid !== 1)
  )
}

/**
 * What a state document names, hew's or another runtime's.
 * @throws HewError it is none, or that container is no more
 */
export async function namedBy(document: unknown): Promise<string[]> {
  const {id, pid, bundle} = document as {id?: unknown; pid?: unknown; bundle?: unknown}
  if (typeof id !== 'string' || typeof bundle !== 'string')
    throw new HewError(
      "what comes through the pipe is no container that runs: 'hew enter --detach' prints one's state",
    )
  // Of ours the PID may be another's by now, and the state is there still.
  if (path.dirname(bundle) === stateDirectory())
    return [(await import('../containers/find.ts')).containerOf(document).id]
  return [typeof pid === 'number' ? `${pid}` : id]
}
