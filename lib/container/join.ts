import * as fs from 'node:fs'
import {cgroupOf, hierarchies} from '../cgroups/hierarchies.ts'
import {find, running} from '../containers/find.ts'
import {startOf} from '../containers/process.ts'
import {type Container, configurationOf, containers} from '../containers/state.ts'
import type {Configuration} from '../document/oci.ts'
import {HewError, reason} from '../errors.ts'
import type {Plan} from '../step.ts'
import type {Seen} from '../steps/container.ts'
import {capabilitiesOf, mask} from './capabilities.ts'
import {commandSteps} from './plan.ts'
import type {User} from './users.ts'

/** A process whose namespaces, cgroups and root are joined. */
export interface Joined {
  pid: number
  /** When it started: startOf(). */
  start: string
  /** The container whose first process it is, and how that was entered; undefined for any other process. */
  container?: {cgroups: string[]; document: Configuration}
}

/**
 * What a word of the command line means: the name of a container, the PID of its first process or of its supervisor, or the
 * PID of any process.
 * @throws HewError there is none, or it does not run
 */
export function joinedBy(word: string): Joined {
  if (!/^\d+$/.test(word)) return containersFirst(find([word])[0]!)
  const pid = Number(word)
  const container = containers().containers.find(
    ({life, supervisor, first}) => life === 'alive' && (supervisor.pid === pid || first?.pid === pid),
  )
  if (container) return containersFirst(container)
  const start = startOf(pid)
  if (start === undefined) throw new HewError(`there is no process ${word}`)
  return {pid, start}
}

function containersFirst(container: Container): Joined {
  const {id, first, cgroups} = running(container)
  if (!first) throw new HewError(`${id} has not started yet: try again`)
  return {...first, container: {cgroups, document: configurationOf(container)}}
}

/** Where a process's files are, for whoever may see them. */
export function rootOf({pid}: Joined): string {
  return `/proc/${pid}/root`
}

/** How a command is run in there. */
export interface Joining {
  command: string[]
  /** Of a container: with the command's user, environment and directory. Of another process: no more than these are its own. */
  document?: Configuration | undefined
  environment: string[]
  workdir?: string | undefined
  user?: User | undefined
  fileLimit?: string | undefined
  umask: number
}

const HINT = 'this takes root, or a process of your own'

/** The steps to a command in the namespaces, the cgroups and the root of a process that runs. */
export function joinPlan(joined: Joined, how: Joining): Plan {
  const {pid, start, container} = joined
  const {document} = how
  const score = document?.process?.oomScoreAdj
  const run = {command: how.command, fileLimit: how.fileLimit, umask: how.umask, init: false}
  return [
    {do: 'terminal', take: false},
    ...(score === undefined ? [] : [{do: 'oom-score-adj', value: score} as const]),
    ...cgroupSteps(pid, container?.cgroups ?? []),
    {do: 'clone-into', pid, start, cwd: !document, hints: {EPERM: HINT, EACCES: HINT}},
    {do: 'pty'},
    ...(document ? commandSteps(document, run) : otherSteps(how)),
  ]
}

/**
 * The plan with what a script has to know of the process now: the stage finds it out when it joins.
 * @throws HewError it is another user's, or gone
 */
export function seen(plan: Plan, {pid}: Joined, uid: number): Plan {
  try {
    const what = seenOf(pid, uid)
    const setgroups = fs.readFileSync(`/proc/${pid}/setgroups`, 'utf8') !== 'deny\n'
    return plan.map(step => {
      if (step.do === 'clone-into') return {...step, seen: what}
      return step.do === 'identity' ? {...step, setgroups} : step
    })
  } catch (error) {
    throw new HewError(`cannot look at the process ${pid}: ${reason(error)}: ${HINT}`)
  }
}

function seenOf(pid: number, uid: number): Seen {
  const link = (file: string): string => fs.readlinkSync(`/proc/${file}`)
  const kinds = (['user', 'pid', 'mnt', 'uts', 'ipc', 'net', 'cgroup', 'time'] as const).filter(
    kind => fs.existsSync(`/proc/self/ns/${kind}`) && link(`${pid}/ns/${kind}`) !== link(`self/ns/${kind}`),
  )
  // Only with its capabilities an ordinary user may join the others; who is root joins a cgroup while that still counts.
  const early = uid === 0 ? ['pid'] : ['user', 'pid']
  const [root, at] = [link(`${pid}/root`).replace(/\/$/, ''), link(`${pid}/cwd`)]
  const cwd = at.startsWith(`${root}/`) ? at.slice(root.length) : '/'
  return {
    first: kinds.filter(kind => early.includes(kind)),
    rest: kinds.filter(kind => !early.includes(kind)),
    // A directory that has been removed has no path.
    cwd: fs.existsSync(`/proc/${pid}/root${cwd}`) ? cwd : '/',
  }
}

/** A process that is no container's says nothing about who a command beside it is: whoever joins stays who they are. */
function otherSteps({user, workdir, environment, command}: Joining): Plan {
  const all = mask(capabilitiesOf('ALL'))
  const permitted = user?.uid === 0 ? all : 0n
  return [
    ...(user
      ? [
          {
            do: 'identity',
            uid: user.uid,
            gid: user.gid,
            groups: user.additionalGids,
            capabilities: {bounding: all, permitted, effective: permitted, inheritable: 0n, ambient: 0n},
          } as const,
        ]
      : []),
    ...(workdir === undefined ? [] : [{do: 'chdir', path: workdir} as const]),
    {do: 'env', variables: environment},
    {do: 'exec', command},
  ]
}

/** Into the cgroups that it is in and we are not. Outside of a container's own nothing is lost where we may not. */
function cgroupSteps(pid: number, own: string[]): Plan {
  return hierarchies().flatMap(h => {
    const path = cgroupOf(pid, h)
    if (path === undefined || path === cgroupOf('self', h)) return []
    const optional = !own.some(at => `${path}/`.startsWith(`${at}/`))
    if (optional && !writable(`${path}/cgroup.procs`)) return []
    return [{do: 'cgroup-into', path, optional}]
  })
}

function writable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}
