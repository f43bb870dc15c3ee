import * as fs from 'node:fs'
import {cgroupOf, isKernelsRoot, systemdRuns, topmost} from '../cgroups/hierarchies.ts'
import {delegation} from '../cgroups/plan.ts'
import {isTerminal} from '../cli/output.ts'
import {DEVICES} from '../container/plan.ts'
import {idMappings} from '../container/users.ts'
import {stateDirectory} from '../containers/directory.ts'
import type {Resources} from '../document/oci.ts'
import {reason} from '../errors.ts'
import {read} from '../kernel.ts'
import {rootsDirectory} from '../root/roots.ts'
import {type Check, type Finding, fine} from './check.ts'
import type {Facts} from './facts.ts'
import {hasFile, LIMITS, tried} from './limits.ts'
import {PROBES, type Probe} from './probes.ts'
import {rootsPlace, thereAlready, trial} from './trial.ts'

interface Row extends Pick<Check, 'id' | 'group' | 'title'> {
  needed?: boolean
  find(facts: Facts): Finding
}

const missing = (found: string, means: string, fix?: string): Finding => ({
  status: 'missing',
  found,
  means,
  ...(fix !== undefined && {fix}),
})
const limited = (found: string, means: string, fix?: string): Finding => ({
  ...missing(found, means, fix),
  status: 'limited',
})

/** Nothing of its own is to be said: what it stands on is not there. */
const without = (title: string): Finding => ({status: 'missing', found: `takes: ${title}`})

function probed({id, after = [], without: left, means, fix}: Probe, facts: Facts): Finding {
  const error = facts.probes[id]
  if (error === undefined) return fine('works')
  const first = PROBES.find(probe => after.includes(probe.id) && facts.probes[probe.id] !== undefined)
  if (first) return without(first.title)
  const status = left === 'limited' ? 'limited' : 'missing'
  return {status, found: error, means, fix: fix(error, facts)}
}

const probeRows: Row[] = PROBES.map(probe => ({
  id: probe.id,
  group: probe.group,
  title: probe.title,
  needed: probe.without === 'no container',
  find: facts => probed(probe, facts),
}))

const ROWS: Row[] = [
  {
    id: 'enter',
    group: 'in short',
    title: 'a container',
    needed: true,
    find: ({enters}) =>
      enters === undefined
        ? fine('was made')
        : missing(enters, "'hew enter' does not work here", 'the lines below say what is in the way'),
  },
  {id: 'roots', group: 'in short', title: 'a place for roots', find: roots},
  {id: 'states', group: 'in short', title: 'a place for names', find: states},
  {id: 'ids', group: 'in short', title: 'more ids than one', find: ids},
  {id: 'filter', group: 'kernel', title: 'system calls', find: filter},
  {id: 'apparmor', group: 'kernel', title: 'AppArmor', find: confined},
  ...probeRows,
  {id: 'dev', group: 'file systems', title: '/dev', needed: true, find: devices},
  {id: 'restrictions', group: 'namespaces', title: 'settings', find: restrictions},
  {id: 'cgroups', group: 'cgroups', title: 'hierarchies', find: cgroups},
  {id: 'delegation', group: 'cgroups', title: 'a cgroup of ours', find: delegated},
  ...LIMITS.map(
    ({controller, option, resources}): Row => ({
      id: controller,
      group: 'cgroups',
      title: controller,
      find: facts => limit(resources(), option, facts),
    }),
  ),
  {id: 'cgroup-kill', group: 'cgroups', title: 'cgroup.kill', find: cgroupKill},
  {
    id: 'debootstrap',
    group: 'programs',
    title: 'debootstrap',
    find: programs('debootstrap', "no 'hew mkroot --debootstrap'", 'debootstrap'),
  },
  ...[
    ['xz', 'xz-utils'],
    ['zstd', 'zstd'],
    ['bzip2', 'bzip2'],
  ].map(
    ([tool, name]): Row => ({
      id: tool!,
      group: 'programs',
      title: tool!,
      find: programs(tool!, `no 'hew mkroot --from' an archive that is packed with ${tool}`, name!),
    }),
  ),
  ...(['newuidmap', 'newgidmap'] as const).map(
    (tool): Row => ({
      id: tool,
      group: 'programs',
      title: tool,
      find: programs(tool, "no 'hew enter --map auto' for ordinary users", 'uidmap'),
    }),
  ),
  {
    id: 'tar',
    group: 'programs',
    title: 'tar',
    find: programs('tar', 'hew reads archives itself, debootstrap does not', 'tar'),
  },
  {
    id: 'ip',
    group: 'programs',
    title: 'ip',
    find: programs('ip', 'no network can be set up by hand', 'iproute2'),
  },
  {id: 'terminal', group: 'terminal', title: 'this one', find: terminal},
]

/** Everything there is to say about a machine. */
export function checks(facts: Facts): Check[] {
  return ROWS.map(({id, group, title, needed = false, find}) => ({id, group, title, needed, ...find(facts)}))
}

/** Whether `hew enter` works. */
export function works(all: Check[]): boolean {
  return all.every(({needed, status}) => !needed || status !== 'missing')
}

function roots(): Finding {
  const place = rootsPlace()
  const means = "'hew mkroot' needs a DIR"
  const fix = "name one: 'hew mkroot DIR'"
  try {
    const usual = rootsDirectory(process.getuid!(), process.env)
    fs.rmdirSync(fs.mkdtempSync(`${place}/hew-check-`))
    return fine(usual)
  } catch (error) {
    return limited(place === undefined ? reason(error) : `${place}: ${reason(error)}`, means, fix)
  }
}

function states(): Finding {
  try {
    const directory = stateDirectory()
    // No name of a container begins with a dot.
    fs.rmdirSync(fs.mkdtempSync(`${thereAlready(directory)}/.hew-check-`))
    return fine(directory)
  } catch (error) {
    return missing(reason(error), "no 'hew enter --name' or --detach: containers run unnamed")
  }
}

function ids({machine, noNewPrivileges, enters}: Facts): Finding {
  const means = "no 'hew enter --map auto': root is the one user inside"
  if (machine.uid !== 0 && noNewPrivileges)
    return missing(
      'no_new_privs',
      means,
      'start it without: setuid programs as newuidmap are powerless with it',
    )
  try {
    const mapped = idMappings('auto', machine)
    const why = enters ?? trial(machine, mapped)
    if (why !== undefined) return missing(why, means)
    return fine(`${mapped!.uids.reduce((sum, {size}) => sum + size, 0)} with 'hew enter --map auto'`)
  } catch (error) {
    return missing(reason(error).replace(/^--map auto: /, ''), means)
  }
}

function filter({seccomp}: Facts): Finding {
  if (!seccomp) return fine('nothing filters them')
  return limited(
    'a seccomp filter',
    'what it forbids fails, here and in containers',
    "'docker run --security-opt seccomp=unconfined' is without",
  )
}

function devices(): Finding {
  const absent = DEVICES.filter(name => !fs.existsSync(`/dev/${name}`))
  if (absent.length === 0) return fine('has what containers get of it')
  return missing(
    `no ${absent.join(', ')}`,
    "'hew enter' cannot make a container",
    "'mount -t devtmpfs devtmpfs /dev'",
  )
}

function confined({apparmor}: Facts): Finding {
  if (apparmor === undefined) return fine('no profile')
  return limited(
    `the profile ${apparmor}`,
    'what it forbids fails, here and in containers',
    "'docker run --security-opt apparmor=unconfined' is without",
  )
}

function restrictions({machine: {forbids, chrooted, uid}}: Facts): Finding {
  if (chrooted)
    return missing(
      'a chroot',
      'the kernel makes no user namespaces in it',
      "get here with 'hew enter', or pivot_root(8)",
    )
  const [setting] = forbids
  if (!setting) return fine('nothing keeps users from making user namespaces')
  const what = setting.replace(/=.*/, '')
  const fix = `as root: 'sysctl -w ${setting}'`
  return uid === 0
    ? limited(what, "no 'hew enter' for ordinary users", fix)
    : missing(what, "no 'hew enter' for ordinary users", fix)
}

function cgroups({hierarchies, machine: {uid}}: Facts): Finding {
  const v1 = hierarchies.filter(({version}) => version === 1)
  const v2 = hierarchies.find(({version}) => version === 2)
  const readOnly = hierarchies.find(h => h.readOnly)
  if (hierarchies.length === 0)
    return missing(
      'none are mounted',
      "no 'hew limit'",
      uid === 0 ? "'hew cgroup-init' mounts them" : 'root has to mount them',
    )
  if (readOnly)
    return missing(
      `${readOnly.mount} is read-only`,
      "no 'hew limit'",
      "start the container around this with 'docker run --privileged'",
    )
  if (v2 && v1.length === 0) return fine(`v2 at ${v2.mount}`)
  return limited(
    `v1${v2 ? `, and a bare v2 at ${v2.mount}` : ''}`,
    "no 'hew limit --memory-high', and no limits for ordinary users",
    "the kernel's parameter systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all",
  )
}

/** The cgroup below which ours are made. */
function delegated({hierarchies, machine: {uid}}: Facts): Finding {
  const means = "no 'hew limit'"
  const h = hierarchies.find(({controllers}) => controllers.includes('memory')) ?? hierarchies[0]
  if (!h) return missing('none are mounted', means)
  const own = cgroupOf('self', h)
  if (own === undefined)
    return missing(
      `ours cannot be seen below ${h.mount}`,
      means,
      `mount it anew: 'mount -t cgroup2 cgroup2 ${h.mount}'`,
    )
  const top = h.version === 1 ? own : topmost(h, own)
  try {
    fs.accessSync(top, fs.constants.W_OK)
    return fine(isKernelsRoot(top) ? `${top}, the kernel's own root` : top)
  } catch (error) {
    const fix = systemdRuns()
      ? `'${delegation()} sh', and hew in there`
      : uid === 0
        ? "start the container around this with 'docker run --privileged'"
        : 'root can give you one: a directory of yours, with its cgroup.procs'
    return missing(`${top}: ${reason(error)}`, means, fix)
  }
}

function limit(resources: Resources, option: string, facts: Facts): Finding {
  const why = tried(resources, facts.hierarchies)
  if (why === undefined) return fine(`'hew limit ${option}' works`)
  const means = `no 'hew limit ${option}'`
  if (delegated(facts).status === 'missing') return without('a cgroup of ours')
  return why.includes("'hew cgroup-init'")
    ? limited(why, `${means} yet`, "'hew cgroup-init'")
    : missing(why, means)
}

function cgroupKill({hierarchies}: Facts): Finding {
  const means = 'the processes of a container are frozen first, and then killed one by one'
  const v2 = hierarchies.find(({version}) => version === 2)
  if (!v2) return limited('cgroup v1', means)
  const has = hasFile(v2, 'cgroup.kill')
  if (has) return fine('works')
  return has === undefined
    ? limited('no cgroup is ours, to look', means)
    : limited('not there', means, 'it takes Linux 5.14 or newer')
}

function programs(name: string, means: string, packaged: string): () => Finding {
  return () => {
    const at = installed(name)
    if (at !== undefined) return fine(at)
    const fix = installed('apt-get')
      ? `'apt-get install ${packaged}'`
      : `it is in Debian's package ${packaged}`
    return missing('not installed', means, fix)
  }
}

/** execvp(3)'s search. */
function installed(name: string): string | undefined {
  return `${process.env.PATH ?? ''}:/usr/sbin:/sbin`
    .split(':')
    .map(directory => `${directory}/${name}`)
    .find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return fs.statSync(file).isFile()
  } catch {
    return false
  }
}

function terminal(): Finding {
  const fd = [0, 1, 2].find(isTerminal)
  if (fd === undefined)
    return limited(
      'no terminal',
      "'hew enter' starts no interactive shell, and runs commands",
      "'ssh -t', 'docker run -it'",
    )
  const {TERM} = process.env
  if (!TERM || TERM === 'dumb')
    return limited(
      TERM ? `TERM=${TERM}` : 'no TERM',
      'programs that draw on the screen cannot',
      "'export TERM=linux'",
    )
  const injects = read('/proc/sys/dev/tty/legacy_tiocsti') !== '0'
  const {columns, rows} = new (process.getBuiltinModule('node:tty').WriteStream)(fd)
  return fine(`${TERM}, ${columns} x ${rows}${injects ? ', TIOCSTI is allowed' : ''}`)
}
