import * as fs from 'node:fs'
import * as path from 'node:path'
import {isTerminal} from '../cli/output.ts'
import {DEVICES} from '../container/plan.ts'
import {idMappings} from '../container/users.ts'
import {stateDirectory} from '../containers/directory.ts'
import {HewError, reason} from '../errors.ts'
import {read} from '../kernel.ts'
import {rootsDirectory} from '../root/roots.ts'
import {CGROUPS} from './cgroups.ts'
import {type Check, type Finding, fine, limited, missing, without} from './check.ts'
import type {Facts} from './facts.ts'
import {masked, PROBES, type Probe} from './probes.ts'
import {rootsPlace, thereAlready, trial} from './trial.ts'

interface Row extends Pick<Check, 'id' | 'group' | 'title'> {
  needed?: boolean
  find(facts: Facts): Finding
}

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

/** Outside programs, the packages that Debian has them in, and what cannot be done without. */
const PROGRAMS: [name: string, packaged: string, means: string][] = [
  ['debootstrap', 'debootstrap', "no 'hew mkroot --debootstrap'"],
  ['xz', 'xz-utils', "no 'hew mkroot --from' an archive that is packed with xz"],
  ['zstd', 'zstd', "no 'hew mkroot --from' an archive that is packed with zstd"],
  ['bzip2', 'bzip2', "no 'hew mkroot --from' an archive that is packed with bzip2"],
  ['newuidmap', 'uidmap', "no 'hew enter --map auto' for ordinary users"],
  ['newgidmap', 'uidmap', "no 'hew enter --map auto' for ordinary users"],
  ['tar', 'tar', 'hew reads archives itself, debootstrap does not'],
  ['ip', 'iproute2', 'no network can be set up by hand'],
]

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
  {id: 'version', group: 'kernel', title: 'Linux', find: release},
  {id: 'filter', group: 'kernel', title: 'system calls', find: filter},
  {id: 'apparmor', group: 'kernel', title: 'AppArmor', find: confined},
  ...probeRows,
  {id: 'dev', group: 'file systems', title: '/dev', needed: true, find: devices},
  {id: 'masked', group: 'file systems', title: 'masked parts', find: masked},
  {id: 'read-only', group: 'file systems', title: 'read-only mounts', find: readOnly},
  {id: 'restrictions', group: 'namespaces', title: 'settings', find: restrictions},
  ...CGROUPS.map(([id, title, find]): Row => ({id, group: 'cgroups', title, find})),
  ...PROGRAMS.map(
    ([name, packaged, means]): Row => ({
      id: name,
      group: 'programs',
      title: name,
      find: () => program(name, packaged, means),
    }),
  ),
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
  const means = "no 'hew enter --name' or --detach: containers run unnamed"
  let place = ''
  try {
    const directory = stateDirectory()
    place = thereAlready(directory)
    // No name of a container begins with a dot.
    fs.rmdirSync(fs.mkdtempSync(path.join(place, '.hew-check-')))
    return fine(directory)
  } catch (error) {
    if (error instanceof HewError) return missing(error.message, means, 'make it yours alone, or remove it')
    return missing(`${place}: ${reason(error)}`, means, "as root: 'mkdir -p /run; mount -t tmpfs tmpfs /run'")
  }
}

function ids({machine, noNewPrivileges, enters}: Facts): Finding {
  const means = "no 'hew enter --map auto': root is the one user inside"
  if (enters !== undefined) return without('a container')
  if (machine.uid !== 0 && noNewPrivileges)
    return missing(
      'no_new_privs',
      means,
      'start it without: setuid programs as newuidmap are powerless with it',
    )
  try {
    const mapped = idMappings('auto', machine)
    const why = trial(machine, mapped)
    if (why !== undefined) throw new HewError(why)
    return fine(`${mapped!.uids.reduce((sum, {size}) => sum + size, 0)} with 'hew enter --map auto'`)
  } catch (error) {
    // What to do comes last in an error.
    const [, found, fix] = /^(?:--map auto: )?(.*): (.*)$/s.exec(reason(error)) ?? []
    return missing(found ?? reason(error), means, fix ?? 'see newuidmap(1)')
  }
}

/** mount_setattr(2) came with this version, the last of all that `enter` takes. */
const ENOUGH = [5, 12]

/** Only a hint: what a kernel has is tried, as distributions put more into old ones. */
function release({kernel}: Facts): Finding {
  const [major = 0, minor = 0] = kernel.split('.').map(Number.parseFloat)
  const [enough = 0, point = 0] = ENOUGH
  return major > enough || (major === enough && minor >= point)
    ? fine(kernel)
    : limited(
        kernel,
        'what it lacks is told below',
        `Linux ${ENOUGH.join('.')} or newer has all that it takes`,
      )
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

/** Where things are made or set. (What cgroups are mounted as is told of them.) */
const WRITTEN = ['/', '/proc/sys', '/sys', '/dev', '/run', '/tmp', '/var']

function readOnly({machine: {mounts}, contained}: Facts): Finding {
  const found = WRITTEN.filter(at => mounts.findLast(({point}) => point === at)?.options.includes('ro'))
  if (found.length === 0) return fine('none that matter')
  return limited(
    found.join(', '),
    'there nothing can be made or set: no roots, no states of containers, no sysctl',
    contained
      ? "'docker run --privileged', and no --read-only, for the container around this"
      : `'mount -o remount,rw ${found[0]}'`,
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
  if (!setting) return fine('users may make user namespaces')
  const what = setting.replace(/=.*/, '')
  const fix = `as root: 'sysctl -w ${setting}'`
  return uid === 0
    ? limited(what, "no 'hew enter' for ordinary users", fix)
    : missing(what, "no 'hew enter' for ordinary users", fix)
}

function program(name: string, packaged: string, means: string): Finding {
  const at = search(name)
  return at === undefined ? missing('not installed', means, installing(packaged)) : fine(at)
}

/** Only Debian's names are known here. */
function installing(packaged: string): string {
  return search('apt-get') === undefined
    ? `it is in Debian's package ${packaged}`
    : `'apt-get install ${packaged}'`
}

/** execvp(3)'s. */
function search(name: string): string | undefined {
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
