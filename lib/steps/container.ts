import * as fs from 'node:fs'
import {inRoot, quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {unchecked} from './line.ts'

/** The namespaces of namespaces(7) that clone can make; `cgroup` comes by `unshare`, once its cgroup is joined. */
export type CloneKind = 'mnt' | 'uts' | 'ipc' | 'net' | 'pid' | 'user' | 'time'

/** A line of uid_map(5): `size` ids from `inside` on are the ids from `outside` on. */
export interface IdRange {
  inside: number
  outside: number
  size: number
}

/** Capability sets of capabilities(7), each as a mask. */
export interface CapabilitySets {
  bounding: bigint
  permitted: bigint
  effective: bigint
  inheritable: bigint
  ambient: bigint
}

/** Steps around a container: up to `clone` in hew's own process, from there on in the container's first. */
export interface ContainerSteps {
  /** `parent`: who it is, found out at the start, since it may be gone by now; 0: whoever it is then. */
  'die-with-parent': {parent: number}
  /** When the container has ended, its root goes: only if it still is the directory with this device and inode. */
  'on-exit-remove': {path: string; dev: number | bigint; ino: number | bigint}
  /** stdin is a pipe with this text in it: what the command before has printed, in `hew -c`, and is not yet read. */
  stdin: {text: string}
  /** Remembers the terminal and its state; `take`: /dev/tty becomes stdin where nothing is left to be read there. */
  terminal: {take: boolean}
  /**
   * Where stdin is a terminal: the container gets one of its own, in its devpts, in place of the caller's; the supervisor
   * relays. Without a devpts in the root it is one of the machine's.
   */
  pty: object
  /**
   * The container's stdin is empty, its stdout and stderr go to the file `log` in this directory; beyond `limit` bytes that
   * becomes `log.1`, in the place of the one before. What cannot be written is lost. Messages of hew stay on stderr.
   */
  log: {directory: string; limit: number}
  /** An existing namespace is entered, by its file in /proc/PID/ns or a bind of it. */
  join: {kind: CloneKind | 'cgroup'; path: string}
  /** From here on the stage is a copy of itself that nobody can write to: who is in the namespaces that it joins might see it. */
  seal: object
  /**
   * What follows is done by a process in all namespaces and in the root of this one, if it still is the one that started then;
   * `cwd`: in its working directory, too. This one stays as its supervisor, outside.
   */
  'clone-into': {pid: number; start: string; cwd: boolean}
  /** The container's first process; this one stays as its supervisor. */
  clone: {
    kinds: CloneKind[]
    /** `newuidmap`: written by the setuid helpers, for ranges that the kernel lets no ordinary user map. */
    mapping: 'none' | 'direct' | 'newuidmap'
    uids: IdRange[]
    gids: IdRange[]
    setgroups: boolean
  }
  unshare: {kinds: ('cgroup' | CloneKind)[]}
  /** Mounts made from here on are seen by nobody outside (or, `rslave`, the host's still come in). */
  private: {how: 'rprivate' | 'rslave' | 'rshared'}
  hostname: {name: string}
  domainname: {name: string}
  loopback: object
  sysctl: {name: string; value: string}
  'oom-score-adj': {value: number}
  /** The root becomes a mount, which pivot_root(2) asks for. */
  'container-root': object
  mount: {type: string; source: string; path: string; options: string[]}
  /** A device of the machine appears at the same name inside. */
  device: {name: string; expected?: {type: string; major?: number | undefined; minor?: number | undefined}}
  /** The terminal appears as /dev/console. */
  console: object
  mask: {path: string}
  'read-only': {path: string}
  'read-only-root': object
  pivot: object
  /** Only the root directory changes, as the lesson does it: no protection. */
  chroot: object
  /** `callers`: as it was before Node changed it. */
  rlimit: {name: string; soft: string; hard: string; callers?: boolean}
  umask: {mask: number}
  /** Who the command runs as, and what it may do. */
  identity: {uid: number; gid: number; groups: number[]; capabilities: CapabilitySets}
  'no-new-privs': object
  chdir: {path: string}
  /** `callers`: as it is, but for what the launcher has taken away. */
  env: {variables: string[]; callers?: boolean}
  /** A small init as PID 1: hands signals on, reaps orphans. */
  init: object
  exec: {command: string[]}
}

const none = (): never[] => []
const hex = (mask: bigint): string => mask.toString(16)
const map = (ranges: IdRange[]): string => ranges.map(r => `${r.inside} ${r.outside} ${r.size}\n`).join('')
const unshareFlag: Record<string, string> = {
  mnt: '--mount',
  uts: '--uts',
  ipc: '--ipc',
  net: '--net',
  pid: '--pid --fork',
  user: '--user',
  time: '--time',
  cgroup: '--cgroup',
}
const flags = (kinds: string[]): string => kinds.map(kind => unshareFlag[kind]).join(' ')

const isBind = ({type, options}: ContainerSteps['mount']): boolean =>
  type === 'bind' || options.includes('bind') || options.includes('rbind')

/** Why the machine's device is not the one that a document means (st_rdev as makedev(3) has it). */
function anotherDevice(path: string, expected: ContainerSteps['device']['expected']): string | undefined {
  if (!expected) return undefined
  const found = fs.statSync(path, {throwIfNoEntry: false})
  const type = found?.isBlockDevice() ? 'b' : found?.isFIFO() ? 'p' : found?.isCharacterDevice() ? 'c' : '?'
  const rdev = found?.rdev ?? 0
  const numbers = `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`
  const wanted = `${expected.major ?? 0}:${expected.minor ?? 0}`
  const same = type === expected.type.replace('u', 'c') && (type === 'p' || numbers === wanted)
  return same
    ? undefined
    : `the document's device ${path} (${expected.type} ${wanted}) is not the machine's: hew makes no other nodes`
}

export const containerSteps: Table<ContainerSteps> = {
  'die-with-parent': {
    because: 'The container ends with whoever called. prctl(2): PR_SET_PDEATHSIG',
    shell: () => 'setpriv --pdeathsig KILL',
    words: s => [s.parent],
    check: unchecked,
  },
  'on-exit-remove': {
    because: 'The root goes when the container has ended. rm(1)',
    shell: s => `trap ${quote(`rm -rf --one-file-system ${quote(s.path)}`)} EXIT`,
    words: s => [s.path, `${s.dev}`, `${s.ino}`],
    check: unchecked,
  },
  stdin: {because: '', shell: () => '', words: s => [s.text], check: unchecked},
  terminal: {
    because: 'The terminal, where stdin was the pipe. tty(4)',
    shell: s => (s.take ? 'exec < /dev/tty' : ''),
    words: s => [s.take ? 'take' : 'keep'],
    check: unchecked,
  },
  pty: {because: 'A terminal of its own: script(1), pty(7)', shell: () => '', words: none, check: unchecked},
  join: {
    because: 'A namespace that is there already. nsenter(1), setns(2)',
    shell: s => `nsenter --${s.kind}=${quote(s.path)}`,
    words: s => [s.kind, s.path],
    check: unchecked,
  },
  log: {
    because: 'What it writes goes to a file: nohup(1)',
    shell: s => `exec >> ${quote(`${s.directory}/log`)} 2>&1 < /dev/null`,
    words: s => [s.directory, s.limit],
    check: unchecked,
  },
  seal: {because: '', shell: () => '', words: none, check: unchecked},
  'clone-into': {
    because: 'Into the namespaces of a process that runs. nsenter(1), setns(2)',
    shell: s => `nsenter --target ${s.pid} --all --root${s.cwd ? ' --wd' : ''}`,
    words: s => [s.pid, s.start, s.cwd ? 'cwd' : 'root'],
    check: unchecked,
  },
  clone: {
    because: 'Namespaces of its own. unshare(1), namespaces(7)',
    shell: s => ({
      before: `unshare ${flags(s.kinds)}${s.kinds.includes('user') ? ' --map-root-user' : ''}`.trimEnd(),
    }),
    words: s => [
      s.kinds.join(',') || '-',
      s.mapping,
      map(s.uids),
      map(s.gids),
      s.setgroups ? 'allow' : 'deny',
    ],
    check: unchecked,
  },
  unshare: {
    because: 'A namespace of its own. unshare(1), namespaces(7)',
    shell: s => `unshare ${flags(s.kinds)}`,
    words: s => [s.kinds.join(',')],
    check: unchecked,
  },
  private: {
    because: 'Mounts from here on are seen by nobody else. mount_namespaces(7)',
    // unshare(1) makes them private by itself.
    shell: s => (s.how === 'rprivate' ? '' : `mount --make-${s.how} /`),
    words: s => [s.how],
    check: unchecked,
  },
  hostname: {
    because: 'The name of the machine that it is. uts_namespaces(7)',
    shell: s => `hostname ${quote(s.name)}`,
    words: s => [s.name],
    check: unchecked,
  },
  domainname: {
    because: 'The NIS domain. uts_namespaces(7)',
    shell: s => `domainname ${quote(s.name)}`,
    words: s => [s.name],
    check: unchecked,
  },
  loopback: {
    because: 'A new network namespace has one interface, and that is down. network_namespaces(7)',
    shell: () => 'ip link set lo up',
    words: none,
    check: unchecked,
  },
  sysctl: {
    because: 'sysctl(8)',
    shell: s => `sysctl -w ${quote(`${s.name}=${s.value}`)}`,
    words: s => [s.name, s.value],
    check: unchecked,
  },
  'oom-score-adj': {
    because: 'Who is killed first when memory runs out. proc_pid_oom_score_adj(5)',
    shell: s => `echo ${s.value} > /proc/self/oom_score_adj`,
    words: s => [s.value],
    check: unchecked,
  },
  'container-root': {
    because: 'pivot_root(2) asks for a root that is a mount',
    shell: () => 'mount --rbind "$root" "$root"',
    words: () => [''],
    check: unchecked,
  },
  mount: {
    because: 'mount(8)',
    shell: s => {
      const how = s.options.includes('rbind')
        ? '--rbind'
        : s.options.includes('bind')
          ? '--bind'
          : `-t ${quote(s.type)}`
      const rest = s.options.filter(option => option !== 'bind' && option !== 'rbind').join(',')
      return `mount ${how}${rest ? ` -o ${quote(rest)}` : ''} ${quote(s.source)} ${inRoot(s.path)}`
    },
    words: s => [s.type, s.source, s.path, s.options.join(',')],
    check: s =>
      isBind(s) && !fs.existsSync(s.source)
        ? `${s.source} is not there, and cannot appear at ${s.path}`
        : undefined,
  },
  device: {
    because: 'Devices of the machine, since a user namespace makes none. mknod(2), mount(8)',
    shell: s =>
      `: > ${inRoot(`/dev/${s.name}`)}; mount --bind ${quote(`/dev/${s.name}`)} ${inRoot(`/dev/${s.name}`)}`,
    words: s => [s.name],
    check: s => anotherDevice(`/dev/${s.name}`, s.expected),
  },
  console: {
    because: 'The terminal is the console. console(4)',
    shell: () => `: > ${inRoot('/dev/console')}; mount --bind "$(tty)" ${inRoot('/dev/console')}`,
    words: none,
    check: unchecked,
  },
  mask: {
    because: 'What a container is not to read. proc(5), mount(8)',
    shell: s =>
      `if [ -d ${inRoot(s.path)} ]; then mount -t tmpfs -o ro tmpfs ${inRoot(s.path)}; elif [ -e ${inRoot(s.path)} ]; then mount --bind /dev/null ${inRoot(s.path)}; fi`,
    words: s => [s.path],
    check: unchecked,
  },
  'read-only': {
    because: 'What a container is not to write. proc(5), mount(8)',
    shell: s =>
      `[ ! -e ${inRoot(s.path)} ] || { mount --rbind ${inRoot(s.path)} ${inRoot(s.path)} && mount -o remount,bind,ro ${inRoot(s.path)}; }`,
    words: s => [s.path],
    check: unchecked,
  },
  'read-only-root': {
    because: 'Nothing in the root can be changed. mount(8)',
    shell: () => 'mount -o remount,bind,ro "$root"',
    words: none,
    check: unchecked,
  },
  pivot: {
    because: 'The root becomes /, and the old one is nowhere. pivot_root(2)',
    shell: () => 'cd "$root" && pivot_root . . && umount -l . && cd /',
    words: none,
    check: unchecked,
  },
  chroot: {
    because: 'Only / changes: no protection. chroot(1), chroot(2)',
    shell: () => ({before: 'chroot "$root"'}),
    words: none,
    check: unchecked,
  },
  rlimit: {
    because: 'prlimit(1), getrlimit(2)',
    shell: s => (s.callers ? '' : `prlimit --pid $$ --${s.name}=${s.soft}:${s.hard}`),
    words: s => [s.name, s.soft, s.hard],
    check: unchecked,
  },
  umask: {
    because: 'umask(2)',
    shell: s => `umask ${s.mask.toString(8).padStart(4, '0')}`,
    words: s => [s.mask.toString(8)],
    check: unchecked,
  },
  identity: {
    because: 'Who the command runs as, and what it may do. setpriv(1), capabilities(7)',
    shell: s => `setpriv --reuid ${s.uid} --regid ${s.gid} --groups ${s.groups.join(',') || s.gid}`,
    words: ({uid, gid, groups, capabilities: c}) => [
      uid,
      gid,
      groups.length,
      ...groups,
      ...[c.bounding, c.permitted, c.effective, c.inheritable, c.ambient].map(hex),
    ],
    check: unchecked,
  },
  'no-new-privs': {
    because: 'No setuid program gives more. PR_SET_NO_NEW_PRIVS(2const)',
    shell: () => 'setpriv --no-new-privs',
    words: none,
    check: unchecked,
  },
  chdir: {because: 'chdir(2)', shell: s => `cd ${quote(s.path)}`, words: s => [s.path], check: unchecked},
  env: {
    because: 'A clean environment. env(1), environ(7)',
    shell: s => (s.callers ? '' : {before: `env -i ${s.variables.map(quote).join(' ')}`}),
    words: s => [s.variables.length, ...s.variables],
    check: unchecked,
  },
  init: {
    because: 'Somebody has to reap what loses its parent. wait(2)',
    shell: () => '',
    words: none,
    check: unchecked,
  },
  exec: {
    because: 'The command takes the place of all this. execve(2)',
    shell: s => ({before: s.command.map(quote).join(' ')}),
    words: s => [s.command.length, ...s.command],
    check: unchecked,
  },
}
