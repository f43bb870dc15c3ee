import * as fs from 'node:fs'
import {cgroupName} from '../cgroups/plan.ts'
import {type Configuration, OCI_VERSION} from '../document/oci.ts'
import {HewError, reason, UsageError} from '../errors.ts'
import {pause} from '../pause.ts'
import type {Step} from '../step.ts'
import {madeStateDirectory} from './directory.ts'
import {identityText, ownIdentity} from './process.ts'
import {containerAt, idsIn, STATE} from './state.ts'
import {giveBack, leftover, sweep} from './sweep.ts'

/** A name that is this process's own, with the state of a container that is being created. */
export interface Claim {
  id: string
  directory: string
  /**
   * state.json up to its volatile end, for whoever writes it from now on: behind it come
   * `"dev.hew.created":"TIME","dev.hew.supervisor":"PID START NAMESPACE BOOT","dev.hew.cgroups":"DIR\nDIR","dev.hew.start":"TICKS"},"status":"running","pid":PID}`
   * and a newline. It ends with a comma; cgroups and start may be empty or left out, pid only left out.
   */
  head: string
}

const LONGEST_ID = 100

/** @throws UsageError an id that could be taken for something else: a PID, an option, a path, a file of a cgroup */
export function checkId(id: string): string {
  if (id.length > LONGEST_ID)
    throw new UsageError(`--name: it has ${id.length} characters, and ${LONGEST_ID} at the most are possible`)
  if (/^\d+$/.test(id))
    throw new UsageError(`--name ${id}: it would be taken for a PID: begin it with a letter`)
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(id))
    throw new UsageError(
      `--name ${id}: it is made of letters, digits, - and _, and begins with a letter or digit`,
    )
  return id
}

/** The name of a container that nobody gave one: the root's. */
export function idFor(root: string): string {
  const name = cgroupName(root)
  return /^\d*$|^[-_]/.test(name) ? `root-${name.replace(/^[-_]+/, '')}`.replace(/-$/, '') : name
}

/** The same; then with -2, -3, and so on, as far as there are none here. */
function* idsFor(root: string, states: string): Generator<string> {
  const base = idFor(root)
  yield base
  const taken = new Set(idsIn(states))
  for (let n = 2; ; n++) if (!taken.has(`${base}-${n}`)) yield `${base}-${n}`
}

/**
 * Takes a name for a container: of several who want it at once exactly one gets it. What died is swept before.
 * @param id the name, or undefined: one is made from the root's
 * @param root the root's path; @param configuration what will be entered, for config.json; @param states where
 * @throws HewError the name is taken, or no state can be written here; then nothing is left of it
 */
export function claim(
  id: string | undefined,
  root: string,
  configuration: Configuration,
  {detached}: {detached: boolean},
  states = madeStateDirectory(),
): Claim {
  sweep(states)
  const own = ownIdentity()
  const begun = `${states}/${leftover('new', own)}`
  const annotations = {
    [STATE.rootfs]: root,
    ...(detached && {[STATE.detached]: 'true'}),
  }
  try {
    fs.mkdirSync(begun, {mode: 0o700})
    fs.writeFileSync(`${begun}/config.json`, `${JSON.stringify(configuration)}\n`, {mode: 0o600})
    // Written to at the end, and not replaced: who waits for that holds it open, and a state in the foreground goes then.
    fs.writeFileSync(`${begun}/verdict.json`, '', {mode: 0o600})
    for (const wanted of id === undefined ? idsFor(root, states) : [id]) {
      const directory = `${states}/${wanted}`
      const stable = {ociVersion: OCI_VERSION, id: wanted, bundle: directory, annotations}
      const head = `${JSON.stringify(stable).slice(0, -2)},`
      const text = `${head}"${STATE.supervisor}":"${identityText(own)}"},"status":"creating"}\n`
      fs.writeFileSync(`${begun}/state.json`, text, {mode: 0o600})
      if (renamed(begun, directory)) return {id: wanted, directory, head}
      // A sweep at work, or the end of a container: in a moment the name may be free.
      for (let ms = 1; id !== undefined && ms < 200 && !containerAt(directory, id); ms *= 2) {
        pause(ms)
        if (renamed(begun, directory)) return {id, directory, head}
      }
    }
    throw new HewError(taken(states, id!))
  } catch (error) {
    fs.rmSync(begun, {recursive: true, force: true})
    if (error instanceof HewError) throw error
    throw new HewError(`the container's state cannot be written to ${states}: ${reason(error)}`)
  }
}

/** rename(2) replaces an empty directory at the most: whoever comes second finds a state there. */
function renamed(from: string, to: string): boolean {
  try {
    fs.renameSync(from, to)
    return true
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw error
  }
}

/** The head of a state that says, too, where the cgroups are made: before they are, since hew may be killed right then. */
export function withAbove({head}: Claim, above: string[]): string {
  return above.length === 0 ? head : `${head}"${STATE.above}":${JSON.stringify(above.join('\n'))},`
}

/**
 * The step that claims a name at each replay of a plan.
 * @param id the name, or undefined: one is made from the root's; @param above where its cgroups are made
 * @throws HewError no state can be written here
 */
export function claimStep(
  id: string | undefined,
  root: string,
  {process: {args, ...described} = {cwd: '/'}, ...configuration}: Configuration,
  {detached, above}: {detached: boolean; above: string[]},
): Step {
  const annotations = {
    [STATE.rootfs]: root,
    ...(detached && {[STATE.detached]: 'true'}),
    ...(above.length > 0 && {[STATE.above]: above.join('\n')}),
  }
  const document = JSON.stringify({...configuration, process: {...described, args: []}})
  return {
    do: 'claim-state',
    states: madeStateDirectory(),
    id: id ?? idFor(root),
    only: id !== undefined,
    head: `${JSON.stringify({ociVersion: OCI_VERSION, annotations}).slice(1, -2)},`,
    configuration: document.slice(0, -'[]}}'.length),
    keep: detached,
  }
}

function taken(states: string, id: string): string {
  const life = containerAt(`${states}/${id}`, id)?.life
  if (life === 'ended')
    return `the name ${id} is taken by a container that has ended: 'hew rm ${id}' frees it`
  if (life === 'foreign')
    return `the name ${id} is taken by a container of another PID namespace: choose another name`
  return `the name ${id} is taken by a container that runs: choose another name, or end that one with 'hew rm -f ${id}'`
}

/** Gives a name back, when the container never came to be. */
export function release({directory}: Claim): void {
  giveBack(directory)
}
