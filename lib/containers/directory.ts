import * as fs from 'node:fs'
import * as path from 'node:path'
import {HewError, reason} from '../errors.ts'

/**
 * Where the states of containers are: one place for root, one for each user.
 * @throws HewError it is there, and others could put something into it
 */
export function stateDirectory(): string {
  return looked().directory
}

function looked(): {directory: string; there: boolean} {
  const directory = place(process.getuid!(), process.env.XDG_RUNTIME_DIR)
  const found = fs.lstatSync(directory, {throwIfNoEntry: false})
  if (found && !(found.isDirectory() && isOurs(found)))
    throw new HewError(
      `the directory of states ${directory} is not yours alone: somebody else made it, or may write to it: remove it`,
    )
  return {directory, there: found !== undefined}
}

/**
 * The same, made where it is not there yet.
 * @throws HewError it cannot be made
 */
export function madeStateDirectory(): string {
  const {directory, there} = looked()
  if (there) return directory
  try {
    // A BusyBox has no /run.
    fs.mkdirSync(path.dirname(directory), {recursive: true, mode: 0o755})
    fs.mkdirSync(directory, {mode: 0o700})
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new HewError(`cannot make ${directory}, where the states of containers are: ${reason(error)}`)
    // Who was faster than we are?
    return stateDirectory()
  }
  return directory
}

function place(uid: number, runtime: string | undefined): string {
  if (uid === 0) return '/run/hew'
  // The specification (XDG Base Directory): absolute, and the user's own. After su(1) it is often another's.
  const session = [runtime, `/run/user/${uid}`].find(at => at?.startsWith('/') && isOursAt(at))
  return session === undefined ? `/tmp/hew-${uid}` : `${session}/hew`
}

function isOursAt(path: string): boolean {
  const found = fs.statSync(path, {throwIfNoEntry: false})
  return found?.isDirectory() === true && isOurs(found)
}

const OTHERS_WRITE = 0o022

function isOurs({uid, mode}: fs.Stats): boolean {
  return uid === process.getuid!() && (mode & OTHERS_WRITE) === 0
}
