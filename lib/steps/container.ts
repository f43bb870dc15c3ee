import * as fs from 'node:fs'
import {capabilitiesOf, mask} from '../container/capabilities.ts'
import {echo, inRoot, quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {before, call, callEach, type Line, type Reasoned, typed, unchecked} from './line.ts'

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

/** What a script has to know of a process beforehand. */
export interface Seen {
  /** Its namespaces that are not ours: in `first` it is not yet out of sight of its cgroups. */
  first: (CloneKind | 'cgroup')[]
  rest: (CloneKind | 'cgroup')[]
  /** Its working directory, as a path in its root. */
  cwd: string
}

/** Steps around a container: up to `clone` in hew's own process, from there on in the container's first. */
export interface ContainerSteps {
  /**
   * `parent`: who it is, found out at the start, since it may be gone by now; 0: whoever it is then. `unbound`: the command is
   * another user's, whom a script cannot bind.
   */
  'die-with-parent': {parent: number; unbound?: boolean}
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
  'clone-into': {pid: number; start: string; cwd: boolean; seen?: Seen}
  /** The container's first process; this one stays as its supervisor. */
  clone: {
    kinds: CloneKind[]
    /** `newuidmap`: written by the setuid helpers, for ranges that the kernel lets no ordinary user map. */
    mapping: 'none' | 'direct' | 'newuidmap'
    uids: IdRange[]
    gids: IdRange[]
    setgroups: boolean
    /** It ends with who waits for it. */
    bound?: boolean
    propagation?: 'rprivate' | 'rslave' | 'rshared'
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
  'container-root': {path: string; slave?: boolean}
  /** `lacks`: what is to be made there first, as was seen when the script was printed. */
  mount: {
    type: string
    source: string
    path: string
    options: string[]
    lacks?: 'directory' | 'file' | undefined
  }
  /** A device of the machine appears at the same name inside. */
  device: {name: string; expected?: {type: string; major?: number | undefined; minor?: number | undefined}}
  /** The terminal appears as /dev/console. */
  console: object
  mask: {path: string}
  'read-only': {path: string}
  'read-only-root': object
  /** `machines`: it is the machine's own /, whose programs are there. */
  pivot: {machines: boolean}
  /** Only the root directory changes, as the lesson does it: no protection. */
  chroot: object
  /** `callers`: as it was before Node changed it. */
  rlimit: {name: string; soft: string; hard: string; callers?: boolean}
  /** `callers`: as it is. */
  umask: {mask: number; callers?: boolean}
  /** Who the command runs as, and what it may do. */
  identity: {uid: number; gid: number; groups: number[]; capabilities: CapabilitySets; setgroups?: boolean}
  'no-new-privs': object
  chdir: {path: string}
  /** `callers`: as it is, but for what the launcher has taken away. */
  env: {variables: string[]; callers?: boolean}
  /** A small init as PID 1: hands signals on, reaps orphans. */
  init: object
  exec: {command: string[]}
}

const none = (): never[] => []
const hex = (set: bigint): string => set.toString(16)
const map = (ranges: IdRange[]): string => ranges.map(r => `${r.inside} ${r.outside} ${r.size}\n`).join('')
const kindFlag: Record<string, string> = {
  mnt: '--mount',
  uts: '--uts',
  ipc: '--ipc',
  net: '--net',
  pid: '--pid',
  user: '--user',
  time: '--time',
  cgroup: '--cgroup',
}

/** unshare(1) with these kinds; a new PID namespace begins with its child, and so does a time namespace. */
function unshare(kinds: string[], bound = false): string {
  const fork = bound ? '--fork --kill-child' : '--fork'
  const at = kinds.includes('pid') ? 'pid' : 'time'
  const flags = kinds.flatMap(kind => [kindFlag[kind], ...(kind === at ? [fork] : [])])
  return flags.length > 0 ? `unshare ${flags.join(' ')}` : ''
}

/** What unshare(1) can map by itself: root inside is the caller. Only a process outside can map more: user_namespaces(7). */
function mapsItself({mapping, uids, gids, setgroups}: ContainerSteps['clone']): boolean {
  const single = [uids, gids].every(
    ([first, ...more]) => first?.inside === 0 && first.size === 1 && more.length === 0,
  )
  return mapping === 'direct' && single && !setgroups
}

const MAPPED =
  'Which ids a user namespace has, only a process outside can say. Until somebody else is in it, one that sleeps keeps it.\nuser_namespaces(7)'
const STILL =
  "The machine's / stays ours until all of its programs have run. It still is the process that was meant: its PID may be another's by\nnow. proc_pid_stat(5)"

/** nsenter(1), twice: whoever is in the cgroup namespace cannot come into the cgroup any more (cgroups(7), nsdelegate). */
function joining(s: ContainerSteps['clone-into'], {first, rest, cwd}: Seen): (Line | Reasoned)[] {
  const enter = (kinds: string[], more: string): string =>
    `nsenter --target ${s.pid}${kinds.map(kind => ` ${kindFlag[kind]}`).join('')}${more}`
  const start = `"$(sed 's/.*) //' /proc/${s.pid}/stat | cut -d ' ' -f 20)"`
  const still = `[ ${start} = ${s.start} ] || { echo 'the process ${s.pid} is gone' >&2; exit 125; }; exec "$@"`
  return [
    {cannot: SUPERVISE},
    ...(first.length > 0
      ? [before('around', enter(first, first.includes('user') ? ' --preserve-credentials' : ''))]
      : []),
    before('own', enter(rest, ` --root=/ --wd=/proc/${s.pid}/root`)),
    // Its directory has no path from here, of which dash would warn.
    {line: before('own', `env PWD=/proc/${s.pid}/root sh -c ${quote(still)} sh`), because: STILL},
    {line: before('root', 'chroot .'), because: INTO_ROOT},
    ...(s.cwd && cwd !== '/' ? [before('root', `--wd=${quote(cwd)}`)] : []),
  ]
}

const INTO_ROOT = 'Into the root. chroot(1)'

const VIEW =
  "A second view of the machine's /: its programs are wanted after pivot_root(2), too, and the root may have none"

const view = (root: string): Reasoned => ({
  line: before('within', `sh -c 'mount --rbind / "$0" && exec chroot "$0" "$@"' ${quote(root)}`),
  because: VIEW,
})

const SUPERVISE =
  'pass signals on to it, close the descriptors from 3 on that it was given, or say what limits did'

/** The namespaces of a container; its user namespace first, where another process has to say which ids it has. */
function beginnings(s: ContainerSteps['clone']): (Line | Reasoned)[] {
  const supervise = {cannot: SUPERVISE}
  const begin = (words: string): Line => ({before: words, place: 'birth', begins: true})
  const propagation = s.propagation === 'rslave' ? ' --propagation slave' : ''
  if (!s.kinds.includes('user')) return [supervise, begin(unshare(s.kinds, s.bound) + propagation)]
  if (mapsItself(s)) return [supervise, begin(`${unshare(s.kinds, s.bound)} --map-root-user${propagation}`)]
  const maps = (['uid', 'gid'] as const).map(kind => {
    const ranges = (kind === 'uid' ? s.uids : s.gids).map(r => `${r.inside} ${r.outside} ${r.size}`)
    return s.mapping === 'newuidmap'
      ? `new${kind}map "$ids" ${ranges.join(' ')}`
      : `printf '%s\\n' ${ranges.map(quote).join(' ')} >"/proc/$ids/${kind}_map"`
  })
  const root = [s.uids, s.gids].every(ranges => ranges.some(r => r.inside === 0))
  const others = s.kinds.filter(kind => kind !== 'user')
  return [
    supervise,
    ...[
      `ids=$(unshare --user sh -c 'sleep 60 >/dev/null 2>&1 & echo $!')`,
      ...(s.mapping === 'direct' && !s.setgroups ? ['echo deny >"/proc/$ids/setgroups"'] : []),
      ...maps,
    ].map(line => ({line, because: MAPPED})),
    before('around', `nsenter --user="/proc/$ids/ns/user"${root ? '' : ' --preserve-credentials'}`),
    before('around', `sh -c 'kill "$0" && exec "$@"' "$ids"`),
    begin(unshare(others, s.bound) + propagation),
  ]
}

/** Capabilities as setpriv(1) names them. */
function capabilityWords(set: bigint): string {
  const names = capabilitiesOf('ALL').filter((_, i) => (set >> BigInt(i)) & 1n)
  return ['-all', ...names.map(name => `+${name.replace('CAP_', '').toLowerCase()}`)].join(',')
}

const EVERY = (1n << BigInt(capabilitiesOf('ALL').length)) - 1n

const LATE =
  "do this with the machine's setpriv(1): without CAP_SYS_CHROOT nobody enters the root, so it takes the root's own"

/** setpriv(1), outside: whoever is no longer allowed to enter the root would need the root's own, and gets that. */
function identity({uid, gid, groups, capabilities: c, setgroups}: ContainerSteps['identity']): Line[] {
  const needed = mask(['CAP_SYS_CHROOT', ...(uid === 0 ? [] : ['CAP_SETUID'])])
  const late = (c.bounding & needed) !== needed || (uid !== 0 && c.ambient !== 0n)
  const options = [
    ...(late && uid !== 0 ? [`--reuid ${uid}`] : []),
    ...(gid !== 0 ? [`--regid ${gid}`] : []),
    ...(groups.length > 0
      ? [`--groups ${groups.join(',')}`]
      : setgroups
        ? ['--clear-groups']
        : gid !== 0
          ? ['--keep-groups']
          : []),
    ...((c.bounding & EVERY) === EVERY ? [] : [`--bounding-set ${capabilityWords(c.bounding)}`]),
    ...(c.inheritable === 0n ? [] : [`--inh-caps ${capabilityWords(c.inheritable)}`]),
    ...(c.ambient === 0n ? [] : [`--ambient-caps ${capabilityWords(c.ambient)}`]),
  ]
  return [
    ...(late ? [{cannot: LATE}] : []),
    ...(options.length > 0 ? [before(late ? 'inside' : 'own', `setpriv ${options.join(' ')}`)] : []),
    ...(uid !== 0 && !late ? [before('root', `--setuid=${uid}`)] : []),
  ]
}

/** Options that mount(8) takes; in a namespace of its own a mount is private anyway. */
const optionWords = ({options}: ContainerSteps['mount']): string =>
  options
    .filter(option => !/^(r?bind|r?private|remount)$/.test(option))
    .map(option => option.replace(/^r(?=ro$|rw$|no|s|dev$|exec$)/, ''))
    .join(',')

/** Words with commas and = in them. */
const quoteOptions = (words: string): string => (/^[\w=.,-]+$/.test(words) ? words : quote(words))

/** All that is mounted in there gets the options, too, where mount(8) gives them to its top alone. */
const isTree = (s: ContainerSteps['mount']): boolean => s.options.includes('rbind') && optionWords(s) !== ''

function mountLine(s: ContainerSteps['mount']): string {
  const words = optionWords(s)
  if (s.options.includes('remount')) return `mount -o remount,bind,${quoteOptions(words)} ${inRoot(s.path)}`
  const how = s.options.includes('rbind') ? '--rbind' : isBind(s) ? '--bind' : `-t ${quote(s.type)}`
  const options = words === '' || isTree(s) ? '' : ` -o ${quoteOptions(words)}`
  return `mount ${how}${options} ${quote(s.source)} ${inRoot(s.path)}`
}

const isBind = ({type, options}: ContainerSteps['mount']): boolean =>
  type === 'bind' || options.includes('bind') || options.includes('rbind')

/** A mount point, where there is none. */
function making(lacks: 'directory' | 'file', path: string): string {
  if (lacks === 'directory') return `mkdir -p ${inRoot(path)}`
  const above = path.slice(0, path.lastIndexOf('/'))
  return `${above ? `mkdir -p ${inRoot(above)}; ` : ''}: >${inRoot(path)}`
}

/** `K=V`, with quotes around the value alone. */
function assignment(entry: string): string {
  const [, name, value] = /^(\w+=)(.*)$/s.exec(entry) ?? []
  return name === undefined ? quote(entry) : `${name}${value && quote(value)}`
}

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
    // The script with its caller, the container with the script: a fork, or another user, is bound to nobody.
    shell: s => [
      {whole: 'exec setpriv --pdeathsig KILL', behind: ' "$PPID"', replaces: true},
      ...(s.unbound
        ? [{cannot: 'bind a command of another user to who called: setuid(2) unbinds it', asked: true}]
        : []),
      '[ "$PPID" = "$0" ] # or it has ended meanwhile',
      before('bound', `setpriv --pdeathsig KILL sh -c 'case $0 in "$$" | "$PPID") exec "$@" ;; esac' "$$"`),
    ],
    told: () => 'setpriv --pdeathsig KILL',
    words: s => [s.parent],
    check: unchecked,
  },
  'on-exit-remove': {
    because: 'The root goes when the container has ended. rm(1)',
    shell: s => ({
      atEnd: typed(call('remove_tree', s.path, `${s.dev}:${s.ino}`)),
      name: 'remove_tree',
    }),
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
  pty: {
    because: 'A terminal of its own: script(1), pty(7)',
    shell: () => ({
      cannot: "give it a terminal of its own in its /dev: where there is one it has the caller's",
    }),
    words: none,
    check: unchecked,
  },
  join: {
    because: 'A namespace that is there already. nsenter(1), setns(2)',
    shell: s => before('around', `nsenter ${kindFlag[s.kind]}=${quote(s.path)}`),
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
    shell: s => (s.seen ? joining(s, s.seen) : ''),
    told: s => `nsenter --target ${s.pid} --all --root${s.cwd ? ' --wd' : ''}`,
    words: s => [s.pid, s.start, s.cwd ? 'cwd' : 'root'],
    check: unchecked,
  },
  clone: {
    because: 'Namespaces of its own. unshare(1), namespaces(7)',
    shell: beginnings,
    told: s => `${unshare(s.kinds)}${s.kinds.includes('user') ? ' --map-root-user' : ''}`,
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
    because: 'Its own cgroup is the topmost that it sees. cgroup_namespaces(7)',
    shell: s => before('within', unshare(s.kinds)),
    words: s => [s.kinds.join(',')],
    check: unchecked,
  },
  private: {
    because: 'Mounts from here on are seen by nobody else. mount_namespaces(7)',
    // unshare(1) makes them so by itself.
    shell: () => '',
    words: s => [s.how],
    check: unchecked,
  },
  hostname: {
    because: 'The name of the machine that it is. uts_namespaces(7)',
    // hostname(1) wants it to be one of the DNS.
    shell: s =>
      /^[a-z\d]([a-z\d.-]*[a-z\d])?$/i.test(s.name)
        ? `hostname ${s.name}`
        : `printf %s ${quote(s.name)} >/proc/sys/kernel/hostname`,
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
    shell: s =>
      `${echo(s.value)} >${quote(`/proc/sys/${s.name.includes('/') ? s.name : s.name.replaceAll('.', '/')}`)}`,
    words: s => [s.name, s.value],
    check: unchecked,
  },
  'oom-score-adj': {
    because: 'Who is killed first when memory runs out. proc_pid_oom_score_adj(5)',
    shell: s => `echo ${s.value} >/proc/self/oom_score_adj`,
    words: s => [s.value],
    check: unchecked,
  },
  'container-root': {
    because: 'The root becomes a mount: pivot_root(2) asks for one',
    shell: s => [
      ...(s.path === '/' ? [] : [view(s.path)]),
      `mount --rbind ${s.path === '/' ? '/' : '"$root"'} "$root"`,
      ...(s.slave ? ['mount --make-rprivate "$root"'] : []),
    ],
    told: () => 'mount --rbind "$root" "$root"',
    words: () => [''],
    check: unchecked,
  },
  mount: {
    because: 'What is mounted in it. mount(8)',
    shell: s => [
      ...(s.lacks ? [making(s.lacks, s.path)] : []),
      mountLine(s),
      ...(isTree(s) ? [call('remount_all', s.path, optionWords(s))] : []),
    ],
    told: mountLine,
    words: s => [s.type, s.source, s.path, s.options.join(',')],
    check: s =>
      isBind(s) && !fs.existsSync(s.source)
        ? `${s.source} is not there, and cannot appear at ${s.path}`
        : undefined,
  },
  device: {
    because: 'Devices of the machine, since a user namespace makes none. mknod(2), mount(8)',
    shell: s => callEach('device', s.name),
    told: s => `mount --bind ${quote(`/dev/${s.name}`)} ${inRoot(`/dev/${s.name}`)}`,
    words: s => [s.name],
    check: s => anotherDevice(`/dev/${s.name}`, s.expected),
  },
  console: {
    because: 'The terminal is the console. console(4)',
    shell: () =>
      `if tty -s; then : >${inRoot('/dev/console')}; mount --bind "$(tty)" ${inRoot('/dev/console')}; fi`,
    words: none,
    check: unchecked,
  },
  mask: {
    because: 'What a container is not to read. proc(5), mount(8)',
    shell: s => callEach('mask', s.path),
    words: s => [s.path],
    check: unchecked,
  },
  'read-only': {
    because: 'What a container is not to write. proc(5), mount(8)',
    shell: s => callEach('read_only', s.path),
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
    because: 'The root becomes /, and the old one is nowhere. pivot_root(2), nsenter(1)',
    shell: s => [
      'cd "$root"',
      `${s.machines ? '' : 'nsenter --mount=/proc/self/ns/mnt --wd=. '}pivot_root . .`,
      'umount -l .',
      {line: before('root', 'chroot .'), because: INTO_ROOT},
    ],
    told: () => 'cd "$root" && pivot_root . . && umount -l . && cd /',
    words: none,
    check: unchecked,
  },
  chroot: {
    because: 'Only / changes: no protection. chroot(1), chroot(2)',
    shell: () => before('root', 'chroot "$root"'),
    words: none,
    check: unchecked,
  },
  rlimit: {
    because: 'prlimit(1), getrlimit(2)',
    shell: s => (s.callers ? '' : before('own', `prlimit --${s.name}=${s.soft}:${s.hard}`)),
    words: s => [s.name, s.soft, s.hard],
    check: unchecked,
  },
  umask: {
    because: 'umask(2)',
    shell: s => (s.callers ? '' : `umask ${s.mask.toString(8).padStart(4, '0')}`),
    words: s => [s.mask.toString(8)],
    check: unchecked,
  },
  identity: {
    because: 'Who the command runs as, and what it may do. setpriv(1), capabilities(7)',
    shell: identity,
    told: s => `setpriv --reuid ${s.uid} --regid ${s.gid} --groups ${s.groups.join(',') || s.gid}`,
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
    shell: () => before('own', 'setpriv --no-new-privs'),
    words: none,
    check: unchecked,
  },
  chdir: {
    because: 'The directory to start in. chdir(2)',
    shell: s => (s.path === '/' ? '' : before('root', `--wd=${quote(s.path)}`)),
    told: s => `cd ${quote(s.path)}`,
    words: s => [s.path],
    check: unchecked,
  },
  env: {
    because: 'A clean environment. env(1), environ(7)',
    shell: s => (s.callers ? '' : before('own', `env -i ${s.variables.map(assignment).join(' ')}`)),
    words: s => [s.variables.length, ...s.variables],
    check: unchecked,
  },
  init: {
    because: 'The shell stays as PID 1, and reaps what loses its parent. wait(2)',
    shell: () => before('behind', '|| exit'),
    told: () => '',
    words: none,
    check: unchecked,
  },
  exec: {
    because: 'The command takes the place of all this. execve(2)',
    shell: s => before('command', s.command.map(quote).join(' ')),
    words: s => [s.command.length, ...s.command],
    check: unchecked,
  },
}
