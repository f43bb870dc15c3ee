import {
  ANNOTATION,
  type Configuration,
  type Finding,
  type IdMapping,
  type Mount,
  type NamespaceType,
} from '../document/oci.ts'
import {HewError, SEE_CHECK} from '../errors.ts'
import type {Hints, Plan, Step} from '../step.ts'
import type {IdRange} from '../steps/container.ts'
import {mask} from './capabilities.ts'
import {KINDS, type Machine} from './machine.ts'
import {namespaces, refusals} from './refusals.ts'

/** Steps that are taken under a condition. */
function when(condition: unknown, ...steps: Plan): Plan {
  return condition ? steps : []
}

/** A step for each item. */
function each<T>(items: readonly T[] | undefined, step: (item: T) => Step): Plan {
  return (items ?? []).map(step)
}

/** Nodes that every /dev has (config-linux.md, default devices); `tty` is the process' own terminal. */
export const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']

const DEVICE_LINKS: [path: string, target: string][] = [
  ['/dev/fd', '/proc/self/fd'],
  ['/dev/stdin', '/proc/self/fd/0'],
  ['/dev/stdout', '/proc/self/fd/1'],
  ['/dev/stderr', '/proc/self/fd/2'],
  ['/dev/ptmx', 'pts/ptmx'],
]

/** How a container is run, beyond its document. */
export interface Run {
  /** The root, absolute, through no link. */
  root: string
  /** The command and its arguments. */
  command: string[]
  /** RLIMIT_NOFILE of the caller, "soft:hard". */
  fileLimit?: string | undefined
  /** The umask of the caller, for documents that state none. */
  umask: number
  /** A reaping init as PID 1. */
  init: boolean
  /** The PID of the parent that the container is bound to; 0: whose child it is when it is replayed. */
  dieWithParent?: number | undefined
  /** Which terminal it gets; `take`: one takes the place of a stdin in which nothing is left. */
  terminal: 'none' | 'keep' | 'take'
  /** What makes its state known (lib/containers), and lets it run in the background. */
  state: Plan
  /** Its cgroup, made before it starts (lib/cgroups). */
  limits: Plan
}

/** What a command's own steps depend on. */
type Process = Pick<Run, 'command' | 'fileLimit' | 'umask' | 'init'> & {setgroups?: boolean}

export interface Planned {
  plan: Plan
  /** Fields of the document that this machine does not let hew honour. */
  passedOver: Finding[]
}

/**
 * From a document to the steps that make it a running container.
 * @throws HewError what the document asks for cannot be had here, and leaving it out would weaken it
 */
export function containerPlan(document: Configuration, run: Run, machine: Machine): Planned {
  const refused = refusals(document, machine)
  if (refused.length > 0) throw new HewError(refused)
  const {fresh} = namespaces(document)
  const passedOver: Finding[] = []

  const mounts = (document.mounts ?? []).flatMap((mount, i) => {
    const made = mountHere(mount, fresh, machine)
    if (typeof made !== 'string') return mountSteps(made, machine)
    passedOver.push({field: `mounts[${i}] (${mount.destination})`, why: made})
    return []
  })
  if (!fresh.has('user') && document.linux?.uidMappings?.length)
    passedOver.push({field: 'linux.uidMappings', why: 'the document asks for no new user namespace'})
  const devices = deviceRules(document, fresh)
  if (devices) passedOver.push(devices)

  const born = clone(document, fresh, machine)
  const plan: Plan = [
    // First of all: the copy knows nothing of what was done before.
    ...when(
      document.linux?.namespaces?.some(({path}) => path),
      {do: 'seal'},
    ),
    ...when(run.dieWithParent !== undefined, {do: 'die-with-parent', parent: run.dieWithParent ?? 0}),
    ...removal(document, run.root),
    ...run.state,
    ...when(run.terminal !== 'none', {do: 'terminal', take: run.terminal === 'take'}),
    ...(keepsOwnId(document, fresh, machine) ? run.limits : run.limits.map(joinedOutside)),
    ...(document.linux?.namespaces ?? []).flatMap(({type, path}) =>
      when(path, {do: 'join', kind: KINDS[type], path: path ?? ''}),
    ),
    born,
    ...ownNames(document, fresh),
    ...(fresh.has('mount')
      ? ownRoot(document, run, mounts, machine)
      : ([{do: 'root', path: run.root}, {do: 'pty'}, {do: 'chroot'}] satisfies Plan)),
    ...commandSteps(document, {...run, setgroups: born.setgroups}),
  ]
  return {plan, passedOver}
}

/**
 * Exactly what the lesson types: `unshare --mount --uts --ipc --net --pid --fork --user --map-root-user chroot ROOT bash`.
 * Every capability in the new user namespace, nothing mounted, the caller's environment.
 */
export function byHandPlan(run: Run, machine: Machine, environment: string[]): Plan {
  return [
    ...when(run.dieWithParent !== undefined, {do: 'die-with-parent', parent: run.dieWithParent ?? 0}),
    ...run.state,
    ...when(run.terminal !== 'none', {do: 'terminal', take: run.terminal === 'take'}),
    ...run.limits,
    {
      do: 'clone',
      kinds: ['mnt', 'uts', 'ipc', 'net', 'pid', 'user'],
      mapping: 'direct',
      uids: [{inside: 0, outside: machine.uid, size: 1}],
      gids: [{inside: 0, outside: machine.gid, size: 1}],
      setgroups: false,
      hints: userNamespaceHints(machine),
    },
    {do: 'private', how: 'rprivate'},
    {do: 'root', path: run.root},
    {do: 'pty'},
    {do: 'chroot'},
    ...fileLimit(run.fileLimit),
    {do: 'env', variables: environment, callers: true},
    ...when(run.init, {do: 'init'}),
    {do: 'exec', command: run.command},
  ]
}

/** The document's root with its mounts, and nothing of the old one. */
function ownRoot(document: Configuration, {root}: Run, mounts: Plan, machine: Machine): Plan {
  return [
    {do: 'private', how: propagation(document), hints: userNamespaceHints(machine)},
    {do: 'root', path: root},
    {
      do: 'container-root',
      path: root,
      slave: propagation(document) === 'rslave',
      hints: userNamespaceHints(machine),
    },
    ...mounts,
    {do: 'pty'},
    ...when(mounts.some(isOwnDev), {do: 'console'}),
    ...extraDevices(document),
    ...each(document.linux?.maskedPaths, path => ({do: 'mask', path})),
    ...each(document.linux?.readonlyPaths, path => ({do: 'read-only', path})),
    ...when(document.root?.readonly, {do: 'read-only-root'}),
    {do: 'pivot', machines: root === '/'},
  ]
}

function removal(document: Configuration, root: string): Plan {
  const made = removable(document)
  return when(made, {do: 'on-exit-remove', path: root, dev: made?.dev ?? 0n, ino: made?.ino ?? 0n})
}

/**
 * The root that goes at the end, where the document says so.
 * @throws HewError the document does not say that mkroot made it
 */
export function removable(document: Configuration): Made | undefined {
  if (document.annotations?.[ANNOTATION.remove] !== 'true') return undefined
  const made = madeRoot(document)
  if (made) return made
  throw new HewError(
    `the document says that ${document.root?.path} goes at the end, and not that mkroot made it: ${ANNOTATION.root} is missing`,
  )
}

/** The directory that mkroot made, whatever is at its path now. */
export interface Made {
  dev: bigint
  ino: bigint
}

/** The root's directory as mkroot made it; undefined when it is not mkroot's. */
export function madeRoot({annotations}: Configuration): Made | undefined {
  const [, dev, ino] = /^(\d+):(\d+)$/.exec(annotations?.[ANNOTATION.root] ?? '') ?? []
  return dev && ino ? {dev: BigInt(dev), ino: BigInt(ino)} : undefined
}

/** Whether root inside is the caller, whose cgroups are the caller's. */
function keepsOwnId({linux}: Configuration, fresh: Set<NamespaceType>, {uid}: Machine): boolean {
  return !fresh.has('user') || (linux?.uidMappings ?? []).some(m => m.containerID === 0 && m.hostID === uid)
}

function joinedOutside(step: Step): Step {
  return step.do === 'cgroup-join' ? {...step, outside: true} : step
}

function clone(
  document: Configuration,
  fresh: Set<NamespaceType>,
  machine: Machine,
): Extract<Step, {do: 'clone'}> {
  const kinds = [...fresh].map(type => KINDS[type]).filter(kind => kind !== 'cgroup')
  const hints = {...ABSENT, ...userNamespaceHints(machine)}
  const manner = {kinds, hints, bound: true, propagation: propagation(document)}
  if (!fresh.has('user'))
    return {do: 'clone', ...manner, mapping: 'none', uids: [], gids: [], setgroups: true}
  const uids = ranges(document.linux?.uidMappings, 'uidMappings')
  const gids = ranges(document.linux?.gidMappings, 'gidMappings')
  // user_namespaces(7): without CAP_SETUID outside, only the own id can be mapped, and setgroups has to be denied.
  const single = [uids, gids].every(
    (map, i) => map.length === 1 && map[0]!.size === 1 && map[0]!.outside === [machine.uid, machine.gid][i],
  )
  if (machine.uid !== 0 && !single && !machine.newuidmap)
    throw new HewError(
      'mapping more ids than your own takes newuidmap and newgidmap: install them (Debian: apt-get install uidmap)',
    )
  return {
    do: 'clone',
    ...manner,
    mapping: machine.uid === 0 || single ? 'direct' : 'newuidmap',
    uids,
    gids,
    setgroups: machine.setgroups && (machine.uid === 0 || !single),
  }
}

function ranges(mappings: IdMapping[] | undefined, field: string): IdRange[] {
  if (!mappings?.length)
    throw new HewError(`the document asks for a user namespace and has no linux.${field}`)
  return mappings.map(({containerID, hostID, size}) => ({inside: containerID, outside: hostID, size}))
}

/** What can be done where the kernel lets nobody make a user namespace, by errno name, or `any`. */
export function namespaceAdvice(machine: Machine): Hints {
  if (machine.chrooted)
    return {
      any: "in a chroot the kernel makes no user namespaces: get there with 'hew enter' or pivot_root instead",
    }
  const [setting] = machine.forbids
  if (setting)
    return {
      any: `${setting.replace(/=.*/, '')} forbids it to users: root can allow it with 'sysctl -w ${setting}'`,
    }
  return {
    EPERM:
      machine.uid === 0
        ? 'inside another container this takes its --privileged (docker run --privileged)'
        : 'this takes root, or a kernel that lets users make user namespaces',
    ENOSPC: "the limit of namespaces is reached: see 'sysctl user'",
  }
}

/** Or a filter of system calls says so: clone(2). */
const ABSENT = {
  EINVAL: `this kernel does not have all that it takes${SEE_CHECK}`,
  ENOSYS: `this kernel does not have all that it takes${SEE_CHECK}`,
}

function userNamespaceHints(machine: Machine): Hints {
  const {EPERM, ...others} = namespaceAdvice(machine)
  return EPERM === undefined ? others : {...others, EPERM: EPERM + SEE_CHECK}
}

function propagation(document: Configuration): 'rprivate' | 'rslave' | 'rshared' {
  return (
    ({slave: 'rslave', shared: 'rshared'} as const)[document.linux?.rootfsPropagation ?? ''] ?? 'rprivate'
  )
}

/** What the first process sets up in namespaces of its own, before it has a root of its own. */
function ownNames(
  {hostname, domainname, linux, process: described}: Configuration,
  fresh: Set<NamespaceType>,
): Plan {
  return [
    ...when(fresh.has('cgroup'), {do: 'unshare', kinds: ['cgroup']}),
    ...when(fresh.has('uts') && hostname, {do: 'hostname', name: hostname ?? ''}),
    ...when(fresh.has('uts') && domainname, {do: 'domainname', name: domainname ?? ''}),
    ...when(fresh.has('network'), {do: 'loopback'}),
    ...each(Object.entries(linux?.sysctl ?? {}), ([name, value]) => ({do: 'sysctl', name, value})),
    ...when(described?.oomScoreAdj !== undefined, {do: 'oom-score-adj', value: described?.oomScoreAdj ?? 0}),
  ]
}

/** A mount as it can be made here, or why it is passed over. */
function mountHere(mount: Mount, fresh: Set<NamespaceType>, machine: Machine): Mount | string {
  const isBind =
    mount.type === 'bind' || mount.options?.some(option => option === 'bind' || option === 'rbind')
  if (isBind) return mount
  // In a user namespace these can be mounted only along with the namespace that they show (user_namespaces(7)).
  const shows: Record<string, NamespaceType> = {proc: 'pid', sysfs: 'network', mqueue: 'ipc'}
  const shown = shows[mount.type ?? '']
  if (fresh.has('user') && shown && !fresh.has(shown)) {
    if (mount.type === 'mqueue' && !machine.mqueue) return 'the machine has no /dev/mqueue to share'
    const own: Record<string, string> = {proc: '/proc', sysfs: '/sys', mqueue: '/dev/mqueue'}
    return {...mount, type: 'bind', source: own[mount.type!]!, options: ['rbind', ...(mount.options ?? [])]}
  }
  if (mount.type !== 'cgroup') return mount
  return machine.cgroup2 ? {...mount, type: 'cgroup2'} : 'hew mounts no cgroup v1 hierarchies'
}

function mountSteps(mount: Mount, machine: Machine): Plan {
  const {destination: path, type = 'bind', source = type, options = []} = mount
  const step: Step = {do: 'mount', type, source, path, options, hints: mountHints(type, source, machine)}
  if (!isOwnDev(step)) return [step]
  return [
    step,
    ...each(DEVICES, name => ({do: 'device', name})),
    ...each(DEVICE_LINKS, ([at, target]) => ({do: 'symlink', path: at, target})),
  ]
}

/** The container's own /dev, in which devices are missing yet. */
function isOwnDev(step: Step): boolean {
  return step.do === 'mount' && step.path === '/dev' && step.type === 'tmpfs'
}

function mountHints(type: string, source: string, machine: Machine): Hints {
  if (type === 'sysfs' && !machine.sysfs)
    return {
      EPERM:
        "a new network namespace gets one only where the machine's own is mounted: 'mount -t sysfs sysfs /sys' first, or share the network: --net host",
    }
  if (type === 'proc' || type === 'sysfs')
    return {
      EPERM: `the machine's own /${type === 'proc' ? 'proc' : 'sys'} is covered in part, as in a container without --privileged: start that one with 'docker run --privileged', or share what they show: --share pid,net${SEE_CHECK}`,
    }
  if (type === 'bind') return {ENOENT: `${source} is not there`}
  return userNamespaceHints(machine)
}

/** linux.devices: nodes of the machine, by the same name. */
function extraDevices(document: Configuration): Plan {
  return each(document.linux?.devices, ({path, type, major, minor}) => {
    const name = /^\/dev\/(.+)$/.exec(path)?.[1]
    if (!name)
      throw new HewError(`the document's device ${path} is outside /dev: hew binds devices from /dev alone`)
    return {do: 'device', name, expected: {type, major, minor}}
  })
}

/** Device rules want a device cgroup; nobody misses them who can make no device node. */
function deviceRules(document: Configuration, fresh: Set<NamespaceType>): Finding | undefined {
  const rules = document.linux?.resources?.devices as unknown[] | undefined
  if (!rules?.length) return undefined
  const makesNodes = document.process?.capabilities?.bounding?.includes('CAP_MKNOD') && !fresh.has('user')
  if (makesNodes)
    throw new HewError(
      'refused: linux.resources.devices limits the devices, hew does not yet, and CAP_MKNOD lets the command make nodes',
    )
  return {field: 'linux.resources.devices', why: 'the command can make no device nodes anyway'}
}

/** @param limit RLIMIT_NOFILE of the caller, "soft:hard" */
export function fileLimit(limit: string | undefined): Plan {
  const [soft, hard] = limit?.split(':') ?? []
  return soft && hard ? [{do: 'rlimit', name: 'nofile', soft, hard, callers: true}] : []
}

/** The process itself: who it is, what it may do, what it sees. */
export function commandSteps({process: described}: Configuration, run: Process): Plan {
  const user = described?.user ?? {uid: 0, gid: 0}
  const sets = described?.capabilities ?? {}
  const limits = described?.rlimits ?? []
  return [
    ...when(!limits.some(({type}) => type === 'RLIMIT_NOFILE'), ...fileLimit(run.fileLimit)),
    ...each(limits, ({type, soft, hard}) => {
      const name = /^RLIMIT_([A-Z]+)$/.exec(type)?.[1]
      if (!name) throw new HewError(`the document's rlimit ${type} is none: see getrlimit(2)`)
      return {do: 'rlimit', name: name.toLowerCase(), soft: `${soft}`, hard: `${hard}`}
    }),
    {
      do: 'identity',
      uid: user.uid,
      gid: user.gid,
      groups: user.additionalGids ?? [],
      capabilities: {
        bounding: mask(sets.bounding),
        permitted: mask(sets.permitted),
        effective: mask(sets.effective),
        inheritable: mask(sets.inheritable),
        ambient: mask(sets.ambient),
      },
      setgroups: run.setgroups ?? true,
    },
    ...when(described?.noNewPrivileges, {do: 'no-new-privs'}),
    {do: 'umask', mask: user.umask ?? run.umask, callers: (user.umask ?? run.umask) === run.umask},
    {do: 'chdir', path: described?.cwd ?? '/'},
    {do: 'env', variables: described?.env ?? []},
    ...when(run.init, {do: 'init'}),
    {do: 'exec', command: run.command},
  ]
}
