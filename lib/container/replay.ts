import * as fs from 'node:fs'
import type {Configuration} from '../document/oci.ts'
import type {Plan} from '../step.ts'
import {MARKER} from '../steps/files.ts'
import type {Fact} from '../steps/replay.ts'
import {Sysroot} from '../sysroot.ts'
import type {Machine} from './machine.ts'

/*
 * A plan that is kept for later (`enter --plan`, `hew replay`; lib/stage/replay.c). Its steps do at a replay all that they do at
 * once, and fail where something is no more: a bind's source, a limit, a command. So only those facts are written down of which a
 * step that succeeds would mean something else now.
 */

/** Of the process that replays: what paths, ids and cgroups mean. A boot begins with other devices, and has one kernel. */
const ours = (namespaces: string[]): Fact[] => [
  {kind: 'file', path: '/proc/self/exe', why: 'it was made by another hew'},
  {kind: 'text', path: '/proc/sys/kernel/random/boot_id', why: 'the machine was started anew'},
  {kind: 'ids', path: '', why: 'it was made by another user or group'},
  ...['user', 'mnt', 'cgroup']
    .filter(name => namespaces.includes(name))
    .map(
      (name): Fact => ({
        kind: 'link',
        path: `/proc/self/ns/${name}`,
        why: `it was made in another namespace (${name})`,
      }),
    ),
  {kind: 'text', path: '/proc/self/cgroup', why: 'it was made in another cgroup, and limits would be there'},
  {kind: 'inode', path: '/', why: 'it was made with another root directory'},
]

/**
 * What a plan follows from.
 * @param users the root's /etc/passwd and /etc/group were asked
 */
export function factsOf(
  document: Configuration,
  root: string,
  {namespaces}: Machine,
  users: boolean,
): Fact[] {
  const sysroot = new Sysroot(root)
  const joined = document.linux?.namespaces?.flatMap(({path}) => path ?? []) ?? []
  return [
    ...ours(namespaces),
    {kind: 'inode', path: root, why: `the root ${root} is another one`},
    {kind: 'absent', path: `${root}/${MARKER}`, why: `the root ${root} is unfinished`},
    ...(users ? ['/etc/passwd', '/etc/group'] : []).map((path): Fact => {
      const {kind, path: real} = sysroot.resolve(path)
      return {
        kind: kind === 'file' ? 'file' : 'absent',
        path: sysroot.outside(kind === 'file' ? real : path),
        why: `the root's ${path} has changed`,
      }
    }),
    ...joined.map((path): Fact => ({kind: 'inode', path, why: `the namespace ${path} is another one`})),
  ]
}

/** A plan as one that is written down. A cgroup is called as the replay is, where that claims a name. */
export function kept(plan: Plan, file: string, facts: Fact[]): Plan {
  const command = plan.flatMap(step => (step.do === 'exec' ? step.command : []))
  const claims = plan.some(step => step.do === 'claim-state')
  const steps = plan.filter(step => step.do !== 'exec')
  return [
    {do: 'plan', file, text: JSON.stringify(plan, textOfBig), facts, command},
    ...steps.map(step => (step.do === 'cgroup' && claims ? {...step, name: ''} : step)),
  ]
}

/** JSON has no numbers of this kind. */
const textOfBig = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? {bigint: `${value}`} : value
const bigOfText = (_: string, value: {bigint?: string} | null): unknown =>
  value?.bigint === undefined ? value : BigInt(value.bigint)

/**
 * The plan that a file keeps, as it was made; whether it still holds is the stage's to say.
 * @param command in the place of its own
 */
export function planIn(file: string, command: string[]): Plan {
  const [, entry = ''] = fs.readFileSync(file, 'utf8').split('\0', 2)
  const plan: Plan = JSON.parse(entry.slice(1), bigOfText)
  // What was the caller's own then is to be made so now.
  const own = plan.map(step => ('callers' in step ? {...step, callers: false} : step))
  return own.map(step => (step.do === 'exec' && command.length > 0 ? {...step, command} : step))
}
