import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import type {Machine} from '../container/machine.ts'
import {containerPlan} from '../container/plan.ts'
import {caller, configurationFor} from '../document/defaults.ts'
import {ANNOTATION, type IdMapping} from '../document/oci.ts'
import {reason} from '../errors.ts'
import {callersFileLimit} from '../launch.ts'
import {rootsDirectory} from '../root/roots.ts'
import {printedBy} from '../stage.ts'
import {why} from './check.ts'

/**
 * Makes a container as `enter` does, in an empty root, up to the command.
 * @param mapped the ids in it, where they are not the usual ones
 * @returns why it cannot be done, or undefined
 */
export function trial(here: Machine, mapped?: {uids: IdMapping[]; gids: IdMapping[]}): string | undefined {
  let root: string | undefined
  try {
    root = emptyRoot()
    const {dev, ino} = fs.statSync(root, {bigint: true})
    // The stage removes it, also when both of us are interrupted.
    const annotations = {[ANNOTATION.remove]: 'true', [ANNOTATION.root]: `${dev}:${ino}`}
    const usual = configurationFor(root, caller())
    const ids = mapped && {uidMappings: mapped.uids, gidMappings: mapped.gids}
    const document = {...usual, annotations, linux: {...usual.linux, ...ids}}
    const run = {
      root,
      command: [],
      fileLimit: callersFileLimit,
      umask: process.umask(),
      init: false,
      terminal: 'none' as const,
      state: [],
      limits: [],
    }
    const plan = containerPlan(document, run, here).plan.filter(step => step.do !== 'exec')
    const {status, stderr} = printedBy(plan, {as: 'enter', title: 'check'})
    return status === 0
      ? undefined
      : why(stderr).replace(/^enter: /gm, '') || `the stage ended with ${status}`
  } catch (error) {
    return reason(error)
  } finally {
    if (root !== undefined) fs.rmSync(root, {recursive: true, force: true})
  }
}

/** Where a root can be made: where mkroot puts those that nobody gave a place, or in a temporary place. */
function emptyRoot(): string {
  const usual = rootsPlace()
  for (const directory of [os.tmpdir(), ...(usual ? [usual] : []), '/dev/shm'])
    try {
      return fs.mkdtempSync(path.join(directory, 'hew-check-'))
    } catch {
      // The next one.
    }
  throw new Error('there is no place where a directory can be made')
}

/** The directory that roots are put into, or, as long as that is not made, the one that is there already above it. */
export function rootsPlace(): string | undefined {
  try {
    return thereAlready(rootsDirectory(process.getuid!(), process.env))
  } catch {
    return undefined
  }
}

/** A directory, or the nearest above it that is there. */
export function thereAlready(directory: string): string {
  let at = directory
  while (!fs.existsSync(at)) at = path.dirname(at)
  return at
}
