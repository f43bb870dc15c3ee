import * as fs from 'node:fs'
import * as path from 'node:path'
import type {Configuration} from '../document/oci.ts'
import {HewError, reason} from '../errors.ts'
import {stateDirectory} from './directory.ts'
import {fateOf, type Identity, identityOf, identityText} from './process.ts'

/** The OCI state document: runtime.md of the runtime specification. */
export interface State {
  ociVersion: string
  id: string
  /** The directory of the state: it holds config.json, as a bundle does. */
  bundle: string
  annotations: Record<string, string>
  status: 'creating' | 'created' | 'running' | 'stopped'
  /** Of the container's first process, as the supervisor's PID namespace counts; absent before and after. */
  pid?: number
}

/** Annotations of a state document. */
export const STATE = {
  /** When the name was taken: ISO 8601. */
  created: 'dev.hew.created',
  /** The path of the root. */
  rootfs: 'dev.hew.rootfs',
  /** "PID START NAMESPACE BOOT" of hew's process, which is the container's supervisor later on. */
  supervisor: 'dev.hew.supervisor',
  /** `true`: it runs in the background, and its state stays after its end. */
  detached: 'dev.hew.detached',
  /** When the process `pid` started, as startOf() has it. */
  start: 'dev.hew.start',
  /** The directories of its cgroups, a line each; that of v2 comes first. */
  cgroups: 'dev.hew.cgroups',
  /** The directories in which these are made, called by the id, or by that and the supervisor's PID. */
  above: 'dev.hew.cgroups.above',
} as const

/** Cgroups that it got while it ran, a line each: `hew limit` writes it, and its supervisor removes them. */
export const GIVEN = 'cgroups'

const STATUSES = ['creating', 'created', 'running', 'stopped']

/**
 * What has become of a container. `ended`: it says so itself. `dead`: its supervisor is gone, and has not said so.
 * `foreign`: another PID namespace's, which cannot be judged from here.
 */
export type Life = 'alive' | 'ended' | 'dead' | 'foreign'

export interface Container {
  id: string
  /** The directory of its state. */
  directory: string
  /** What state.json said when it was read, once. */
  state: State
  life: Life
  supervisor: Identity
  /** Its first process; undefined before it started and after it ended. */
  first: {pid: number; start: string} | undefined
  /** The path of its root. */
  root: string
  cgroups: string[]
  detached: boolean
}

export interface Containers {
  containers: Container[]
  /** States that cannot be read, and a sentence on why. */
  broken: {id: string; why: string}[]
}

/** Every container that has a state here, in the order of their ids. */
export function containers(directory = stateDirectory()): Containers {
  const found: Containers = {containers: [], broken: []}
  for (const id of idsIn(directory)) {
    try {
      const container = containerAt(`${directory}/${id}`, id)
      if (container) found.containers.push(container)
    } catch (error) {
      found.broken.push({id, why: (error as Error).message})
    }
  }
  return found
}

/** The names in the directory of states that are no work in progress. */
export function idsIn(directory: string): string[] {
  return namesIn(directory)
    .filter(name => !name.startsWith('.'))
    .sort()
}

/** The names in a directory; none when it is not there. */
export function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw new HewError(`cannot read ${directory}: ${reason(error)}`)
  }
}

/**
 * The container whose state is in a directory, or undefined when it is not there (any more).
 * @throws HewError its state.json is broken
 */
export function containerAt(directory: string, id: string): Container | undefined {
  const read = (): ReturnType<typeof stateIn> => stateIn(`${directory}/state.json`, id)
  for (let state = read(), seen = ''; state !== undefined; state = read()) {
    const {supervisor} = state
    const said = `${state.state.status} ${identityText(supervisor)}`
    const fate = fateOf(supervisor)
    // One that is gone has written its last, or handed over to another (--detach): what was read before may be older.
    if (fate !== 'gone' || said === seen)
      return {...state, directory, life: state.state.status === 'stopped' ? 'ended' : LIVES[fate]}
    seen = said
  }
  return undefined
}

const LIVES = {lives: 'alive', gone: 'dead', foreign: 'foreign'} as const

/**
 * What a file of a state says, or undefined when it is not there.
 * @param id whose state it has to be
 * @throws HewError it is broken
 */
export function stateIn(file: string, id?: string): Omit<Container, 'life' | 'directory'> | undefined {
  const text = textOf(file)
  if (text === undefined) return undefined
  const state = parsed(text)
  const supervisor = identityOf(state?.annotations[STATE.supervisor])
  if (!state || !supervisor || state.id !== (id ?? state.id))
    throw new HewError(
      `the state ${file} is broken: remove it, with 'hew rm -f ${id}', once nothing of the container runs`,
    )
  const {[STATE.rootfs]: root = '', [STATE.start]: start, [STATE.cgroups]: cgroups} = state.annotations
  return {
    id: state.id,
    state,
    supervisor,
    first: state.pid === undefined || !start ? undefined : {pid: state.pid, start},
    root,
    cgroups: [...lines(cgroups), ...givenCgroups(path.dirname(file))],
    detached: state.annotations[STATE.detached] === 'true',
  }
}

/** The cgroups that a container got while it ran, by the directory of its state. */
export function givenCgroups(directory: string): string[] {
  return lines(textOf(`${directory}/${GIVEN}`))
}

function lines(text = ''): string[] {
  return text.split('\n').filter(line => line !== '')
}

/** @throws HewError the file is there and cannot be read */
function textOf(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw new HewError(`cannot read ${file}: ${reason(error)}`)
  }
}

function parsed(text: string): State | undefined {
  try {
    const state = JSON.parse(text) as State
    const texts = [state.id, state.bundle, ...Object.values(state.annotations)]
    const sound = texts.every(value => typeof value === 'string') && STATUSES.includes(state.status)
    return sound && (state.pid === undefined || Number.isSafeInteger(state.pid)) ? state : undefined
  } catch {
    return undefined
  }
}

/**
 * The configuration that a container was entered with, after the options of enter.
 * @throws HewError it cannot be read
 */
export function configurationOf({directory}: {directory: string}): Configuration {
  const file = `${directory}/config.json`
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (error) {
    throw new HewError(`cannot read ${file}: ${reason(error)}`)
  }
}
