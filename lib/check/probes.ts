import {namespaceAdvice} from '../container/plan.ts'
import type {Hints} from '../step.ts'
import {type Finding, fine, limited} from './check.ts'
import type {Facts} from './facts.ts'

/** What the stage tries (lib/stage/probe.c), and what it means. */
export interface Probe {
  /** Its name there. */
  id: string
  group: string
  title: string
  /** Where there is no container without it: true. Else what is left. */
  without: 'no container' | 'limited' | 'missing'
  /** It says nothing of its own where one of these does not work. */
  after?: readonly string[]
  /** What hew cannot do without it. */
  means: string
  /** What to do when it failed with this error. */
  fix(error: string, facts: Facts): string
}

const UNFILTERED =
  "'docker run --privileged', or --security-opt seccomp=unconfined, for the container around this"

/** A system call that came with this version of Linux, as a filter may hide it. */
const since =
  (version: string) =>
  (_: string, {seccomp}: Facts): string =>
    seccomp ? UNFILTERED : `it takes Linux ${version} or newer`

function namespace(error: string, {machine, seccomp}: Facts): string {
  const advice = namespaceAdvice(machine)
  if (advice.any) return advice.any
  if (seccomp && error !== 'ENOSPC') return UNFILTERED
  if (error === 'EINVAL' || error === 'ENOSYS') return 'the kernel was built without it'
  return advice[error as keyof Hints] ?? 'see namespaces(7)'
}

/** user_namespaces(7): whoever maps root has to be allowed to give files capabilities (Linux 5.12). */
function mapping(error: string, facts: Facts): string {
  const {machine, contained} = facts
  if (error !== 'EPERM' || machine.uid !== 0 || machine.forbids.length > 0) return namespace(error, facts)
  return contained
    ? "'docker run --privileged', or --cap-add SETFCAP, for the container around this"
    : 'root takes CAP_SETFCAP for it: see user_namespaces(7)'
}

function fileSystem(error: string, facts: Facts): string {
  if (error === 'ENODEV') return 'the kernel has no such file system: load its module'
  if (error === 'EACCES' && facts.apparmor)
    return "'docker run --privileged', or --security-opt apparmor=unconfined, for the container around this"
  return namespace(error, facts)
}

const UNMASKED =
  "'docker run --privileged', or --security-opt systempaths=unconfined, for the container around this"

/** In a user namespace: only where the machine's own is to be seen, all of it (mount_too_revealing in fs/namespace.c). */
const uncovered =
  (type: string, directory: string) =>
  (error: string, facts: Facts): string => {
    if (error !== 'EPERM') return fileSystem(error, facts)
    if (!facts.machine.mounts.some(({point}) => point === directory))
      return `the machine's own is not mounted: 'mount -t ${type} ${type} ${directory}'`
    const over = covering(directory, facts)
    if (over.length === 0) return fileSystem(error, facts)
    return `${over.join(', ')} cover the machine's own: ${UNMASKED}`
  }

/** What is mounted over parts of /proc or /sys, to hide them or to make them read-only. */
function covering(directory: string, {machine: {mounts}}: Facts): string[] {
  return mounts.map(({point}) => point).filter(at => at.startsWith(`${directory}/`) && !USUAL.test(at))
}

/** File systems of the kernel's own in places that are made for them. */
const USUAL = /^\/sys\/(fs|kernel|firmware\/efi)\/|^\/proc\/sys\/fs\/binfmt_misc$/

/** Whether parts of /proc and /sys are masked, as container runtimes do it. */
export function masked(facts: Facts): Finding {
  const over = ['/proc', '/sys'].flatMap(directory => covering(directory, facts))
  if (over.length === 0) return fine('nothing of /proc and /sys')
  return limited(
    over.join(', '),
    "only 'hew enter --share pid' and --net host, which show the machine's",
    UNMASKED,
  )
}

function asRoot(error: string, facts: Facts): string {
  const {machine, contained} = facts
  if (machine.chrooted) return namespace(error, facts)
  if (error !== 'EPERM') return 'the kernel, or the file system of /, has none'
  return contained && machine.uid === 0
    ? "'docker run --privileged' for the container around this"
    : 'it takes root'
}

const call = {group: 'kernel', without: 'no container', means: "'hew enter' cannot make a container"} as const
const kind = {group: 'namespaces', without: 'no container', after: ['user'], fix: namespace} as const
const mount = {group: 'file systems', without: 'no container', after: ['user', 'map', 'mnt']} as const

/** Every probe, in the order in which it is told. */
export const PROBES: Probe[] = [
  {...call, id: 'clone3', title: 'clone3(2)', fix: since('5.3')},
  {...call, id: 'openat2', title: 'openat2(2)', means: 'no command can work on a root', fix: since('5.6')},
  {...call, id: 'pidfd', title: 'pidfds', fix: since('5.3')},
  {
    ...call,
    id: 'clone-into-cgroup',
    title: 'CLONE_INTO_CGROUP',
    without: 'limited',
    after: ['clone3'],
    means: 'a container joins its cgroup after its birth, before its first step',
    fix: since('5.7'),
  },
  {
    ...call,
    id: 'memfd',
    title: 'programs in memory files',
    without: 'missing',
    means: 'no sealed copy of a program can be executed',
    fix: (error, {seccomp}) =>
      error === 'EACCES'
        ? "'sysctl -w vm.memfd_noexec=0', in this PID namespace"
        : seccomp
          ? UNFILTERED
          : 'see memfd_create(2)',
  },
  {...kind, id: 'user', title: 'user', after: [], means: "'hew enter' cannot make a container"},
  {
    ...kind,
    id: 'map',
    title: 'root in it',
    means: "'hew enter' cannot make a container",
    fix: mapping,
  },
  {...kind, id: 'mnt', title: 'mount', means: "'hew enter' cannot make a container"},
  {...kind, id: 'uts', title: 'uts', means: "only 'hew enter --share uts'"},
  {...kind, id: 'ipc', title: 'ipc', means: "only 'hew enter --share ipc'"},
  {...kind, id: 'net', title: 'network', means: "only 'hew enter --net host'"},
  {...kind, id: 'pid', title: 'pid', means: "only 'hew enter --share pid'"},
  {...kind, id: 'cgroup', title: 'cgroup', means: "only 'hew enter --share cgroup'"},
  {...kind, id: 'time', title: 'time', without: 'missing', means: "no 'hew enter --time'"},
  {
    ...kind,
    id: 'machine',
    title: 'without a user namespace',
    without: 'missing',
    after: [],
    means: "no 'hew enter --share user', and no documents without one, as of 'runc spec'",
    fix: asRoot,
  },
  {
    ...mount,
    id: 'tmpfs',
    title: 'tmpfs (new mount API)',
    means: "'hew enter' cannot make a container",
    fix: fileSystem,
  },
  {...mount, id: 'devpts', title: 'devpts', means: 'no terminals in containers', fix: fileSystem},
  {
    ...mount,
    id: 'proc',
    title: '/proc',
    means: "only 'hew enter --share pid', which shows the machine's",
    fix: uncovered('proc', '/proc'),
  },
  {
    ...mount,
    id: 'sysfs',
    title: '/sys',
    means: "only 'hew enter --net host', which shows the machine's",
    fix: uncovered('sysfs', '/sys'),
  },
  {
    ...mount,
    id: 'mqueue',
    title: 'mqueue',
    means: "only 'hew enter --share ipc', where the machine has one",
    fix: fileSystem,
  },
  {
    ...mount,
    id: 'cgroup2',
    title: 'cgroup2',
    without: 'missing',
    means: 'no documents that mount cgroups in the container',
    fix: fileSystem,
  },
  {
    ...mount,
    id: 'overlay',
    title: 'overlay',
    without: 'missing',
    means: 'no documents that mount one; the commands need none',
    fix: fileSystem,
  },
  {
    ...mount,
    id: 'idmap',
    title: 'id-mapped mounts',
    without: 'missing',
    after: ['user', 'map'],
    means: "no 'mount -o X-mount.idmap' by hand; the commands need none",
    fix: asRoot,
  },
]
