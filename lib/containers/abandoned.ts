import * as fs from 'node:fs'
import {printedBy} from '../stage.ts'
import {ownCgroups, patiently, removeCgroups} from './cgroups.ts'
import {killCgroups} from './signal.ts'
import {type Container, STATE} from './state.ts'

/*
 * Cgroups whose supervisor is gone. Another container may take such a name at any moment, if nobody is in there; so they are locked
 * here as whoever makes one locks it for as long as he lives (lib/stage/cgroups.c): what is locked by another is that one's.
 */

type Stated = Pick<Container, 'id' | 'state' | 'supervisor' | 'cgroups'>

/**
 * Ends what is in the cgroups of a container that is no more, and removes them.
 * @param living the containers that live, to tell who has locked one
 * @returns what stays, and why: a sentence each
 */
export function removeAbandoned(container: Stated, living: () => Container[]): string[] {
  const {held, refused} = lock(container.cgroups, living)
  const cgroups = held.map(({directory}) => directory)
  try {
    if (!killCgroups(cgroups)) return [`processes still run in the cgroup ${cgroups[0]}`]
    if (!removeCgroups(cgroups)) return [`the cgroup ${cgroups[0]} cannot be removed`]
  } finally {
    for (const {fd} of held) fs.closeSync(fd)
  }
  removeUnnoted(container, living)
  return refused.map(directory => `the cgroup ${directory} is locked by another process`)
}

/** Killed between making its cgroups and saying so: nobody has been in there, and who is now came from elsewhere. */
function removeUnnoted({id, state, supervisor, cgroups}: Stated, living: () => Container[]): void {
  const above = state.annotations[STATE.above]?.split('\n') ?? []
  if (state.status !== 'creating' || cgroups.length > 0) return
  const names = [id, `${id}-${supervisor.pid}`]
  const {held} = lock(
    above.flatMap(at => names.map(name => `${at}/${name}`)),
    living,
  )
  for (const {directory, fd} of held) {
    try {
      fs.rmdirSync(directory)
    } catch {
      // EBUSY: it is somebody's.
    }
    fs.closeSync(fd)
  }
}

interface Held {
  directory: string
  fd: number
}

/** Those that are there and no living container's, locked: also by what of the dead one is still dying, for a moment. */
function lock(directories: string[], living: () => Container[]): {held: Held[]; refused: string[]} {
  const held: Held[] = []
  let wanted = ownCgroups(directories.filter(at => fs.existsSync(at)))
  patiently(() => {
    if (wanted.length === 0) return true
    held.push(...lockNow(wanted))
    wanted = wanted.filter(at => fs.existsSync(at) && !held.some(({directory}) => directory === at))
    const others = wanted.length > 0 ? living() : []
    wanted = wanted.filter(at => !others.some(({cgroups}) => cgroups.includes(at)))
    return wanted.length === 0
  })
  return {held, refused: wanted}
}

function lockNow(directories: string[]): Held[] {
  const found = directories.flatMap(opened)
  const plan = found.map((_, i) => ({do: 'cgroup-lock', fd: 3 + i}) as const)
  const {stdout} = printedBy(
    plan,
    {as: 'hew', title: 'lock'},
    found.map(({fd}) => fd),
  )
  const locked = stdout.split('\n')
  return found.filter(({directory, fd}, i) => {
    if (locked.includes(`${3 + i}`) && inode(directory) === fs.fstatSync(fd).ino) return true
    fs.closeSync(fd)
    return false
  })
}

function opened(directory: string): Held[] {
  try {
    const {O_RDONLY, O_DIRECTORY, O_NOFOLLOW} = fs.constants
    return [{directory, fd: fs.openSync(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)}]
  } catch {
    return []
  }
}

const inode = (directory: string): number | undefined => fs.statSync(directory, {throwIfNoEntry: false})?.ino
