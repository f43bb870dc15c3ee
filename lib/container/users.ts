import type {IdMapping} from '../document/oci.ts'
import {HewError} from '../errors.ts'
import {Sysroot} from '../sysroot.ts'
import type {Machine} from './machine.ts'

/** Who a command runs as, in the root's own terms. */
export interface User {
  uid: number
  gid: number
  additionalGids: number[]
  /** The home directory; `/` for an id that passwd does not know. */
  home: string
}

/** The lines of a passwd(5)-like file in a root, split at the colons. */
function records(root: Sysroot, path: string): string[][] {
  const text = root.read(path)?.toString() ?? ''
  return text.split('\n').map(line => line.split(':'))
}

/**
 * `NAME|UID[:GROUP|GID]` by the root's own /etc/passwd and /etc/group, as docker's --user has it.
 * @throws HewError the root knows no such user or group
 */
export function userOf(root: Sysroot, word: string): User {
  const [name = '', group] = word.split(':')
  const isId = /^\d+$/.test(name)
  const record = records(root, '/etc/passwd').find(
    ([login, , uid]) => login === name || (isId && uid === name),
  )
  if (!record && !isId)
    throw new HewError(`${root.root} has no user ${name}: its /etc/passwd has no such line`)
  const groups = records(root, '/etc/group')
  const gid = group === undefined ? Number(record?.[3] ?? 0) : gidOf(root, groups, group)
  const memberships = groups.filter(([, , , members]) => members?.split(',').includes(record?.[0] ?? ''))
  return {
    uid: Number(record?.[2] ?? name),
    gid,
    additionalGids:
      group === undefined ? memberships.map(([, , id]) => Number(id)).filter(id => id !== gid) : [],
    home: record?.[5] || '/',
  }
}

function gidOf(root: Sysroot, groups: string[][], word: string): number {
  const record = groups.find(([name]) => name === word)
  if (!record && !/^\d+$/.test(word))
    throw new HewError(`${root.root} has no group ${word}: its /etc/group has no such line`)
  return Number(record?.[2] ?? word)
}

/** Ids that a user may hand on: subuid(5), subgid(5). */
export interface SubordinateIds {
  uids: {first: number; count: number}[]
  gids: {first: number; count: number}[]
}

/** What /etc/subuid and /etc/subgid give to a user. */
export function subordinateIds(machine: Sysroot, uid: number): SubordinateIds {
  const login = records(machine, '/etc/passwd').find(([, , id]) => id === `${uid}`)?.[0]
  const ranges = (path: string): {first: number; count: number}[] =>
    records(machine, path)
      .filter(([owner]) => owner === `${uid}` || (login !== undefined && owner === login))
      .map(([, first, count]) => ({first: Number(first), count: Number(count)}))
      .filter(({first, count}) => Number.isInteger(first) && count > 0)
  return {uids: ranges('/etc/subuid'), gids: ranges('/etc/subgid')}
}

/** The id of the caller as 0, and the ranges one behind the other from 1 on. */
export function rangesFrom(own: number, ranges: {first: number; count: number}[]): IdMapping[] {
  let inside = 1
  return [
    {containerID: 0, hostID: own, size: 1},
    ...ranges.map(({first, count}) => {
      const mapping = {containerID: inside, hostID: first, size: count}
      inside += count
      return mapping
    }),
  ]
}

/** Every id there is, each as itself: (uid_t) -1 is none. */
export const EVERY_ID: IdMapping[] = [{containerID: 0, hostID: 0, size: 0xffffffff}]

export function isMapped(mappings: IdMapping[] | undefined, id: number): boolean {
  return (mappings ?? []).some(({containerID, size}) => id >= containerID && id < containerID + size)
}

/**
 * The ids of a container by the word that `enter --map` takes: `self`, `auto` or `all`; undefined leaves them as they are.
 * @throws HewError they cannot be had: ordinary users have only what /etc/subuid and /etc/subgid give them
 */
export function idMappings(
  map: string | undefined,
  {uid, gid}: Machine,
): {uids: IdMapping[]; gids: IdMapping[]} | undefined {
  if (map === undefined) return undefined
  if (map === 'self') return {uids: rangesFrom(uid, []), gids: rangesFrom(gid, [])}
  if (map === 'all') {
    if (uid !== 0)
      throw new HewError('--map all takes root: --map auto maps the ids that /etc/subuid gives to you')
    return {uids: EVERY_ID, gids: EVERY_ID}
  }
  const own = subordinateIds(new Sysroot('/'), uid)
  // Root needs nobody's leave; these are the ids that useradd(8) gives to the first user.
  const usual = uid === 0 ? [{first: 100000, count: 65535}] : []
  const ranges = {uids: own.uids.length ? own.uids : usual, gids: own.gids.length ? own.gids : usual}
  if (!ranges.uids.length || !ranges.gids.length)
    throw new HewError(
      `--map auto: /etc/subuid and /etc/subgid give you no ids: root can, with 'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER'`,
    )
  return {uids: rangesFrom(uid, ranges.uids), gids: rangesFrom(gid, ranges.gids)}
}
