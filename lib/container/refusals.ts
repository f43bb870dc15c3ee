import type {Configuration, NamespaceType} from '../document/oci.ts'
import {SEE_CHECK} from '../errors.ts'
import {isCapability} from './capabilities.ts'
import {KINDS, type Machine} from './machine.ts'
import {isMapped} from './users.ts'

/**
 * Why a document must not be run here: what it asks for cannot be had, and without it the container would be less
 * confined than the document says, or would reach the machine itself. Empty: it may.
 */
export function refusals(document: Configuration, machine: Machine): string[] {
  const {fresh, twice} = namespaces(document)
  return [
    ...twice.map(type => `the document has two ${type} namespaces`),
    ...[...fresh]
      .filter(type => !machine.namespaces.includes(KINDS[type]))
      .map(type => `this kernel has no ${type} namespaces, and the document asks for one${SEE_CHECK}`),
    ...(machine.uid !== 0 && !fresh.has('user')
      ? ['without a user namespace only root can make a container: run it as root, or leave --share user out']
      : []),
    ...(fresh.has('mount') ? [] : mounted(document)),
    ...Object.keys(document.linux?.sysctl ?? {})
      .filter(name => !isOwn(name, fresh))
      .map(
        name =>
          `refused: linux.sysctl.${name}: it is the whole machine's, and not of a namespace that is new`,
      ),
    ...ids(document, fresh),
    ...capabilities(document),
  ]
}

/** The kinds of namespaces that a document makes (`fresh`), and those that it names more than once. */
export function namespaces(document: Configuration): {fresh: Set<NamespaceType>; twice: NamespaceType[]} {
  const all = document.linux?.namespaces ?? []
  return {
    fresh: new Set(all.filter(({path}) => !path).map(({type}) => type)),
    twice: all.map(({type}) => type).filter((type, i, types) => types.indexOf(type) !== i),
  }
}

/** What takes a mount namespace of its own. */
function mounted({mounts, root, linux}: Configuration): string[] {
  const asked = {
    mounts: mounts?.length,
    'root.readonly': root?.readonly,
    'linux.maskedPaths': linux?.maskedPaths?.length,
    'linux.readonlyPaths': linux?.readonlyPaths?.length,
    'linux.devices': linux?.devices?.length,
  }
  return Object.entries(asked)
    .filter(([, there]) => there)
    .map(([field]) => `refused: ${field}: it takes a new mount namespace, and the document asks for none`)
}

/** namespaces(7), ipc_namespaces(7), network_namespaces(7): what each has a copy of. */
function isOwn(name: string, fresh: Set<NamespaceType>): boolean {
  const dotted = name.replaceAll('/', '.')
  if (dotted.startsWith('net.')) return fresh.has('network')
  if (/^kernel\.(msg(max|mn[bi])|sem|shm(all|max|mni|_rmid_forced))$|^fs\.mqueue\./.test(dotted))
    return fresh.has('ipc')
  return false
}

function ids({process: described, linux}: Configuration, fresh: Set<NamespaceType>): string[] {
  const {uid = 0, gid = 0, additionalGids = []} = described?.user ?? {}
  const users = fresh.has('user') ? linux?.uidMappings : undefined
  const groups = fresh.has('user') ? linux?.gidMappings : undefined
  const unmapped = [
    ...(users && !isMapped(users, uid) ? [`user ${uid}`] : []),
    ...(groups ? [gid, ...additionalGids].filter(id => !isMapped(groups, id)).map(id => `group ${id}`) : []),
  ]
  return unmapped
    .slice(0, 1)
    .map(who => `${who} does not exist in this user namespace: map more ids with --map auto`)
}

function capabilities({process: described}: Configuration): string[] {
  return Object.entries(described?.capabilities ?? {}).flatMap(([set, names]) =>
    names
      .filter(name => !isCapability(name))
      .map(
        name => `the document's process.capabilities.${set} has ${name}, which is none (see capabilities(7))`,
      ),
  )
}
