import {cgroupOf, hierarchies} from '../cgroups/hierarchies.ts'
import {HewError} from '../errors.ts'
import {parentOf} from '../kernel.ts'
import {nearest} from '../nearest.ts'
import {type Container, type Containers, STATE, type State} from './state.ts'
import {current} from './sweep.ts'

/**
 * The containers that words name, each by its id or by the PID of a process in it or of its supervisor. What died is
 * swept before.
 * @throws HewError one of them is not there
 */
export function find(words: string[]): Container[] {
  const known = current()
  return words.map(word => {
    const container = /^\d+$/.test(word) ? byPid(Number(word), known) : byId(word, known)
    if (typeof container === 'string') throw new HewError(container)
    return container
  })
}

/**
 * The containers with these ids, or why there is none, in a sentence: where a word may mean something else, too.
 * @throws HewError the state of one is broken
 */
export function findIds(ids: string[]): (Container | string)[] {
  const known = current()
  return ids.map(id => byId(id, known))
}

/** True for a state document: runtime.md; a configuration has neither of these. */
export function isState(document: unknown): document is State {
  const {id, status, bundle} = (document ?? {}) as Partial<State>
  return [id, status, bundle].every(field => typeof field === 'string')
}

/**
 * The container that a state document tells of.
 * @throws HewError it is none, or that container is no more
 */
export function containerOf(document: unknown): Container {
  if (!isState(document))
    throw new HewError(
      "what comes through the pipe is the document of no container that runs: that comes from 'hew enter --detach'",
    )
  const {id, annotations = {}} = document
  const container = current().containers.find(one => one.id === id)
  const created = container?.state.annotations[STATE.created]
  if (!container || created === undefined || created !== annotations[STATE.created])
    throw new HewError(`the container ${id} of the pipe is no more`)
  return container
}

function byId(id: string, {containers, broken}: Containers): Container | string {
  const container = containers.find(one => one.id === id)
  if (container) return container
  const why = broken.find(one => one.id === id)?.why
  if (why !== undefined) throw new HewError(why)
  const meant = nearest(
    id,
    containers.map(one => one.id),
  )
  return `no container is called ${id}: ${meant ? `did you mean ${meant}? ` : ''}'hew ps' lists them`
}

function byPid(pid: number, {containers}: Containers): Container | string {
  const alive = containers.filter(({life}) => life === 'alive')
  const above = [...ancestors(pid)]
  if (above.length === 0) return `there is no process ${pid}`
  const cgroups = alive.some(one => one.cgroups.length > 0) ? hierarchies().map(h => cgroupOf(pid, h)) : []
  return (
    alive.find(({supervisor}) => supervisor.pid === pid) ??
    alive.find(one => one.cgroups.some(own => cgroups.some(at => `${at}/`.startsWith(`${own}/`)))) ??
    alive.find(({first}) => first !== undefined && above.includes(first.pid)) ??
    `the process ${pid} is in no container of hew's: 'hew ps' lists them`
  )
}

/** A process, its parent, and so on. */
function* ancestors(pid: number): Generator<number> {
  for (let at = pid; at > 0; ) {
    const parent = parentOf(at)
    if (parent === undefined) return
    yield at
    at = parent
  }
}

/**
 * The container, if it runs.
 * @throws HewError it does not, or nobody here can tell
 */
export function running(container: Container): Container {
  const {id, life} = container
  if (life === 'alive') return container
  if (life === 'foreign')
    throw new HewError(`${id} is a container of another PID namespace: act on it from there`)
  throw new HewError(
    `${id} has ended${life === 'dead' ? ': its supervisor was killed' : ''}: 'hew rm ${id}' removes it`,
  )
}
