import {join} from 'node:path'
import {STATE, type State} from '../../lib/containers/state.ts'
import {bundle} from './enter.ts'
import {type Bench, goOn, HEW, output, type Peer, type Setting, takesRoot, time} from './frame.ts'
import {memoryOf, PRIVATE, sum} from './memory.ts'

/** What became of so many containers, each figure of one of them but for `look`. */
interface Cycle {
  /** Milliseconds for one to start, until its command runs. */
  start: number
  /** KiB that wait beside one: its supervisor's own, and its part of what is shared (Pss). */
  memory: number
  /** KiB that are its supervisor's and its command's alone. */
  alone: number
  /** Milliseconds of `hew ps --json`, for all. */
  look: number
  /** Milliseconds for one to be ended and removed. */
  end: number
}

/** On average, of each container. */
const average = (count: number, pids: number[], names: string[]): number =>
  sum(pids.map(pid => memoryOf(pid, names))) / count

/** Names of containers that are there, of those that this bench makes: of the root that they are in. */
async function listed(root: string): Promise<string[]> {
  const {containers}: {containers: {name: string | null; root: string | null}[]} = JSON.parse(
    await output([HEW, 'ps', '--json']),
  )
  return containers.flatMap(({name, root: its}) => (its === root && name !== null ? [name] : []))
}

/** Removes containers of a root. */
export async function removeAll(root: string): Promise<void> {
  const names = await listed(root)
  if (names.length > 0) await output([HEW, 'rm', '-f', ...names])
}

/** Starts so many, looks at them, and removes them, whatever happens. */
async function cycle(count: number, plan: string, root: string): Promise<Cycle> {
  try {
    const states: State[] = []
    const started = process.hrtime.bigint()
    while (states.length < count) {
      goOn()
      states.push(JSON.parse(await output([HEW, 'replay', plan])))
    }
    const start = Number(process.hrtime.bigint() - started) / 1e6 / count
    const names = await listed(root)
    if (names.length !== count) throw new Error(`${names.length} of ${count} containers run`)
    const supervisors = states.map(({annotations}) => Number.parseInt(annotations[STATE.supervisor]!, 10))
    const memory = average(count, supervisors, ['Pss'])
    const alone = average(count, [...supervisors, ...states.map(({pid}) => pid!)], PRIVATE)
    const look = await time([HEW, 'ps', '--json'])
    const end = (await time([HEW, 'rm', '-f', ...states.map(({id}) => id)])) / count
    const left = await listed(root)
    if (left.length > 0) throw new Error(`${left.length} of ${count} containers are left`)
    return {start, memory, alone, look, end}
  } finally {
    await removeAll(root)
  }
}

/** Containers in the background, few and many: what one costs stays the same. */
export async function* many({folder, quick}: Setting): AsyncIterable<Bench> {
  const root = await bundle(folder, ['sleep', '600'])
  const plan = join(folder, 'many.plan')
  const cycles = new Map<number, Promise<Cycle>>()
  const of = (count: number): Promise<Cycle> => {
    const known = cycles.get(count) ?? cycle(count, plan, root)
    cycles.set(count, known)
    return known
  }
  const sizes = quick ? [2] : [50, 200, 1000]
  const [first = 0] = sizes
  const lacking = takesRoot()
  if (lacking === undefined)
    await output([HEW, 'enter', '--plan', plan, '-d', '-r', root, '--', 'sleep', '600'])
  const bench = (figure: keyof Cycle, title: string, unit: Bench['unit'], linear: number): Bench => ({
    name: `many, ${figure}`,
    title,
    unit,
    rounds: 1,
    peers: sizes.map(
      (count): Peer => ({
        name: `hew, ${count}`,
        lacking,
        check: async () => void (await of(count)),
        measure: async () => (await of(count))[figure],
      }),
    ),
    targets: sizes.slice(1).map(count => ({
      peer: `hew, ${count}`,
      words: linear === 0 ? `as for ${first}, and a quarter` : `linear`,
      atMost: median => 1.25 * median(`hew, ${first}`) * (count / first) ** linear,
    })),
  })
  yield* [
    bench('start', 'One of many containers starts: replay, detached', 'ms', 0),
    bench('memory', 'What waits beside one of many: its memory, and its part of what is shared', 'KiB', 0),
    bench('alone', 'What is private to one of many: its supervisor and its command', 'KiB', 0),
    bench('look', 'hew ps --json of all of them', 'ms', 1),
    bench('end', 'One of many is killed and removed: hew rm -f of all', 'ms', 0),
  ]
}
