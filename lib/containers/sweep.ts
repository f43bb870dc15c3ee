import * as fs from 'node:fs'
import * as path from 'node:path'
import {type Made, removable} from '../container/plan.ts'
import {HewError, reason} from '../errors.ts'
import {removeRoot} from '../root/remove.ts'
import {removeAbandoned} from './abandoned.ts'
import {ownCgroups} from './cgroups.ts'
import {stateDirectory} from './directory.ts'
import {fateOf, type Identity, ownIdentity} from './process.ts'
import {
  type Container,
  type Containers,
  configurationOf,
  containerAt,
  containers,
  namesIn,
  STATE,
  stateIn,
} from './state.ts'

/*
 * Who removes a state first makes it its own, by renaming a file in it to a name with its own PID, through a descriptor of the
 * directory: of several exactly one succeeds, and the directory that is renamed then is the one that was judged, not a
 * container that took the name meanwhile. What was not finished, because that process was killed, others take over the same way.
 */
const TAKEN = '.taken-'

/** A container that is no more. */
export interface Swept {
  id: string
  /** What could not be removed: a sentence each. The next sweep tries again. */
  left: string[]
}

/** The name of a directory that is not yet, or no longer, a state: `.new-PID-START-NAMESPACE`, `.old-PID-START-N`. */
export function leftover(kind: 'new' | 'old', {pid, start, namespace}: Identity, n = 0): string {
  return `.${kind}-${pid}-${start}-${kind === 'new' ? namespace : n}`
}

/** Whether the process whose PID and start time a name ends with is gone. */
function isAbandoned(name: string, prefix: string): boolean {
  const own = ownIdentity()
  const [pid, start, rest] = name.slice(prefix.length).split('-')
  const namespace = prefix === '.new-' && rest ? rest : own.namespace
  return (
    /^\d+$/.test(pid!) &&
    start !== undefined &&
    fateOf({...own, pid: Number(pid), start, namespace}) === 'gone'
  )
}

/**
 * Cleans up after containers whose supervisor was killed, or that died with the machine: processes, cgroups, a root that was
 * to go at the end, the state. Several may sweep at once.
 */
export function sweep(states = stateDirectory(), names = namesIn(states)): Swept[] {
  return names.flatMap(name => sweepOne(states, name) ?? [])
}

/** The same of one directory of a state. Undefined: it is none that died, or somebody else was faster. */
export function sweepOne(states: string, name: string): Swept | undefined {
  const grave = name.startsWith('.')
    ? takeOver(states, name)
    : take(states, name, ({life}) => life === 'dead')
  return grave === undefined ? undefined : bury(grave, states, name)
}

/** The containers that have a state here; what died is swept. One that dies meanwhile is still among them. */
export function current(states = stateDirectory()): Containers {
  const {containers: all, broken} = containers(states)
  const alive = all.filter(({life}) => life !== 'dead')
  const sound = new Set([...alive, ...broken].map(({id}) => id))
  // Names of work in progress, or that was cut off, are among them.
  sweep(
    states,
    namesIn(states).filter(name => !sound.has(name)),
  )
  return {containers: alive, broken}
}

/** What a sweep would clean up. */
export interface Stale {
  /** The directory of its state, and its name there. */
  states: string
  name: string
  cgroups: string[]
  /** The root of mkroot --rm. */
  root?: {path: string; made: Made}
}

/** What a sweep would clean up now. Changes nothing. */
export function stale(states = stateDirectory()): Stale[] {
  return namesIn(states).flatMap((name): Stale[] => {
    const state = name.startsWith('.') ? buriedState(`${states}/${name}`) : deadAt(`${states}/${name}`, name)
    const left = name.startsWith('.') ? isLeftover(name, state) : state !== undefined
    if (!left) return []
    const root = state && rootToGo(`${states}/${name}`, states)
    return [{states, name, cgroups: state ? cgroupsToGo(state, states) : [], ...(root && {root})}]
  })
}

function deadAt(directory: string, id: string): Container | undefined {
  try {
    const container = containerAt(directory, id)
    return container?.life === 'dead' ? container : undefined
  } catch {
    return undefined // broken: told by whoever lists it
  }
}

/** Removes the state of a container that does not run, with its cgroups. Undefined: somebody else did, or it is another's by now. */
export function remove({id, directory, state}: Container): Swept | undefined {
  const states = path.dirname(directory)
  const created = state.annotations[STATE.created]
  const grave = take(
    states,
    id,
    now =>
      now.life !== 'alive' && (created === undefined || now.state.annotations[STATE.created] === created),
  )
  return grave === undefined ? undefined : bury(grave, states, id)
}

/** Removes a state that is broken, whatever it was. */
export function discard(states: string, id: string): void {
  const grave = outOfSight(states, `${states}/${id}`)
  if (grave !== undefined) fs.rmSync(grave, {recursive: true, force: true})
}

/** Gives a name back whose container never came to be; its root is still the caller's. */
export function giveBack(directory: string): void {
  const grave = take(path.dirname(directory), path.basename(directory), () => true)
  if (grave !== undefined) fs.rmSync(grave, {recursive: true, force: true})
}

/** Makes a state one's own if the container is fit for it, and takes it out of sight. Undefined: it is not, or others were faster. */
function take(states: string, id: string, fit: (container: Container) => boolean): string | undefined {
  const directory = `${states}/${id}`
  let fd: number
  try {
    fd = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  } catch {
    return undefined
  }
  try {
    const held = `/proc/self/fd/${fd}`
    const container = containerAt(held, id)
    if (container && !fit(container)) return undefined
    const file = container
      ? 'state.json'
      : namesIn(held).find(name => name.startsWith(TAKEN) && isAbandoned(name, TAKEN))
    const {pid, start} = ownIdentity()
    if (file === undefined || !moved(`${held}/${file}`, `${held}/${TAKEN}${pid}-${start}`)) return undefined
    return outOfSight(states, directory)
  } catch {
    return undefined // broken: told by whoever lists it
  } finally {
    fs.closeSync(fd)
  }
}

/** What a process that is gone has left in the middle of its work. */
function takeOver(states: string, name: string): string | undefined {
  return isLeftover(name, buriedState(`${states}/${name}`))
    ? outOfSight(states, `${states}/${name}`)
    : undefined
}

function isLeftover(name: string, state: Stated | undefined): boolean {
  const prefix = ['.new-', '.old-'].find(prefix => name.startsWith(prefix))
  if (prefix === undefined || !isAbandoned(name, prefix)) return false
  return state === undefined || fateOf(state.supervisor) !== 'foreign'
}

/** Renames a directory that is ours to take; undefined when others were faster. */
function outOfSight(states: string, directory: string): string | undefined {
  for (let n = 1; n < 1000; n++) {
    const grave = `${states}/${leftover('old', ownIdentity(), n)}`
    if (!fs.existsSync(grave)) return moved(directory, grave) ? grave : undefined
  }
  return undefined
}

function moved(from: string, to: string): boolean {
  try {
    fs.renameSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw new HewError(`cannot rename ${from}: ${reason(error)}`)
  }
}

function buriedState(grave: string) {
  const file = namesIn(grave).find(name => name === 'state.json' || name.startsWith(TAKEN))
  try {
    return file === undefined ? undefined : stateIn(`${grave}/${file}`)
  } catch {
    return undefined
  }
}

function bury(grave: string, states: string, name: string): Swept {
  const state = buriedState(grave)
  const left: string[] = []
  if (state && isJudged(state)) left.push(...removeAbandoned(state, () => livingBeside(states)))
  if (left.length === 0) {
    const root = rootToGo(grave, states)
    if (root) removeRoot(root.path, root.made, 'hew')
    fs.rmSync(grave, {recursive: true, force: true})
  }
  return {id: state?.id ?? name, left}
}

type Stated = NonNullable<ReturnType<typeof buriedState>>

/** After a reboot, and in another container, the paths of cgroups are those of others. */
const isJudged = ({supervisor}: Stated): boolean =>
  supervisor.boot === ownIdentity().boot && fateOf(supervisor) !== 'foreign'

/** Those that no living container has. */
function cgroupsToGo(state: Stated, states: string): string[] {
  const {cgroups} = state
  if (cgroups.length === 0 || !isJudged(state)) return []
  const others = livingBeside(states)
  return ownCgroups(cgroups).filter(at => !others.some(other => other.cgroups.includes(at)))
}

function livingBeside(states: string): Container[] {
  return containers(states).containers.filter(({life}) => life === 'alive' || life === 'foreign')
}

/** The root of mkroot --rm, which the supervisor would have removed. */
function rootToGo(grave: string, states: string): Stale['root'] {
  try {
    const configuration = configurationOf({directory: grave})
    const [made, path] = [removable(configuration), configuration.root?.path]
    // Its supervisor has removed it, unless that was killed.
    if (made === undefined || !path?.startsWith('/') || !fs.existsSync(path)) return undefined
    if (livingBeside(states).some(({root}) => root === path)) return undefined
    return {path, made}
  } catch {
    return undefined // none, or broken
  }
}
