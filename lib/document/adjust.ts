import {capabilitiesOf} from '../container/capabilities.ts'
import type {User} from '../container/users.ts'
import {UsageError} from '../errors.ts'
import type {Caller} from './defaults.ts'
import type {Configuration, IdMapping, Mount, NamespaceType, Process} from './oci.ts'

/** What `hew enter` changes in a document before it is run. */
export interface Adjustments {
  /** Namespaces that the container shares with the machine. */
  share: NamespaceType[]
  time: boolean
  map?: {uids: IdMapping[]; gids: IdMapping[]} | undefined
  binds: Mount[]
  readOnly: boolean
  /** `K=V`, later ones win. */
  environment: string[]
  workdir?: string | undefined
  user?: User | undefined
  addCapabilities: string[]
  dropCapabilities: string[]
  hostname?: string | undefined
  args?: string[] | undefined
}

/** The document with the changes; the given one is not touched. */
export function adjust(given: Configuration, change: Adjustments): Configuration {
  const shared = new Set<NamespaceType>(change.share)
  const document = without(given, shared)
  const kept = (document.linux?.namespaces ?? []).filter(({type}) => !shared.has(type))
  const time = change.time && !kept.some(({type}) => type === 'time')
  const described = document.process ?? {cwd: '/'}
  const home = change.user?.home
  return {
    ...document,
    process: {
      ...described,
      ...(change.user && {user: identity(described.user?.umask, change.user)}),
      args: change.args ?? described.args ?? [],
      env: environment([...(described.env ?? []), ...(home ? [`HOME=${home}`] : []), ...change.environment]),
      cwd: change.workdir ?? described.cwd,
      capabilities: capabilities(described.capabilities, change, shared.has('user')),
    },
    root: {...document.root!, readonly: change.readOnly || (document.root?.readonly ?? false)},
    ...(change.hostname !== undefined && {hostname: change.hostname}),
    mounts: [...(document.mounts ?? []), ...change.binds],
    linux: {
      ...document.linux,
      namespaces: [...kept, ...(time ? [{type: 'time' as const}] : [])],
      ...(change.map && {uidMappings: change.map.uids, gidMappings: change.map.gids}),
    },
  }
}

/**
 * The document as the line `unshare ... chroot ROOT bash` would be one: nothing is mounted, nothing is taken away.
 * @param environment the caller's
 */
export function byHand(document: Configuration, {uid, gid}: Caller, environment: string[]): Configuration {
  const {resources} = document.linux ?? {}
  const all = capabilitiesOf('ALL')
  return {
    ociVersion: document.ociVersion,
    process: {
      user: {uid: 0, gid: 0},
      args: document.process?.args ?? [],
      env: environment,
      cwd: '/',
      capabilities: {bounding: all, effective: all, permitted: all},
    },
    root: document.root!,
    mounts: [],
    annotations: document.annotations ?? {},
    linux: {
      namespaces: (['mount', 'uts', 'ipc', 'network', 'pid', 'user'] as const).map(type => ({type})),
      uidMappings: [{containerID: 0, hostID: uid, size: 1}],
      gidMappings: [{containerID: 0, hostID: gid, size: 1}],
      ...(resources && {resources}),
    },
  }
}

/** Who shares a namespace with the machine does without what a new one would have given. */
function without(document: Configuration, shared: Set<NamespaceType>): Configuration {
  const {uidMappings, gidMappings, maskedPaths, readonlyPaths, ...rest} = document.linux ?? {}
  const ids = shared.has('user') ? {} : {...(uidMappings && {uidMappings}), ...(gidMappings && {gidMappings})}
  const mounts = shared.has('mount')
  const paths = mounts ? {} : {...(maskedPaths && {maskedPaths}), ...(readonlyPaths && {readonlyPaths})}
  return {...document, ...(mounts && {mounts: []}), linux: {...rest, ...ids, ...paths}}
}

function identity(umask: number | undefined, {uid, gid, additionalGids}: User) {
  return {uid, gid, additionalGids, ...(umask !== undefined && {umask})}
}

/** One entry for each variable, the last that was given. */
function environment(entries: string[]): string[] {
  return [...new Map(entries.map(entry => [entry.split('=', 1)[0], entry])).values()]
}

type Sets = NonNullable<Process['capabilities']>

function capabilities(sets: Sets | undefined, change: Adjustments, machinesOwn: boolean): Sets {
  // Without a user namespace CAP_MKNOD is the right to every disk of the machine, and hew has no device cgroup to
  // take that back: only who asks for it gets it.
  const dangerous = machinesOwn ? ['CAP_MKNOD'] : []
  const drop = new Set([...dangerous, ...change.dropCapabilities.flatMap(capabilitiesOf)])
  const add = change.addCapabilities.flatMap(capabilitiesOf)
  const set = (names: string[] | undefined): string[] => [
    ...new Set([...(names ?? []).filter(n => !drop.has(n)), ...add]),
  ]
  const {bounding, effective, permitted, inheritable, ambient} = sets ?? {}
  return {
    bounding: set(bounding),
    effective: set(effective),
    permitted: set(permitted),
    ...(inheritable && {inheritable: inheritable.filter(name => !drop.has(name))}),
    ...(ambient && {ambient: ambient.filter(name => !drop.has(name))}),
  }
}

/**
 * `SRC:DST[:ro]` as a mount.
 * @throws UsageError it is not of this form
 */
export function bindMount(word: string): Mount {
  const [source = '', destination = '', mode, ...rest] = word.split(':')
  if (
    !source.startsWith('/') ||
    !destination.startsWith('/') ||
    rest.length > 0 ||
    (mode && !['ro', 'rw'].includes(mode))
  )
    throw new UsageError(`--bind ${word}: it is SRC:DST or SRC:DST:ro, with absolute paths`)
  return {destination, type: 'bind', source, options: ['rbind', 'rprivate', ...(mode === 'ro' ? ['ro'] : [])]}
}

/**
 * `DST[:SIZE]` as a mount; SIZE as tmpfs(5) has it (`64m`, `50%`).
 * @throws UsageError it is not of this form
 */
export function tmpfsMount(word: string): Mount {
  const [destination = '', size, ...rest] = word.split(':')
  if (!destination.startsWith('/') || rest.length > 0 || (size !== undefined && !/^\d+[kmg%]?$/i.test(size)))
    throw new UsageError(`--tmpfs ${word}: it is DST or DST:SIZE, for example /scratch:64m`)
  const options = ['nosuid', 'nodev', 'mode=1777', ...(size === undefined ? [] : [`size=${size}`])]
  return {destination, type: 'tmpfs', source: 'tmpfs', options}
}

const SHARED: Record<string, NamespaceType> = {
  mount: 'mount',
  mnt: 'mount',
  uts: 'uts',
  ipc: 'ipc',
  net: 'network',
  network: 'network',
  pid: 'pid',
  cgroup: 'cgroup',
  user: 'user',
  time: 'time',
}

/**
 * Names of namespaces, as unshare(1) and the runtime specification have them.
 * @throws UsageError there is no such namespace
 */
export function namespaceTypes(names: string[]): NamespaceType[] {
  return names.map(name => {
    const type = Object.hasOwn(SHARED, name) ? SHARED[name] : undefined
    if (!type)
      throw new UsageError(`--share ${name}: there are mount, uts, ipc, net, pid, cgroup, user and time`)
    return type
  })
}
