import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import type {Check} from '../../lib/check/check.ts'
import {inFreshContainer} from '../guest/fresh.ts'
import {HEW, hew, type Outcome, requires, run, scratch} from '../support.ts'

/** What `hew check` says of a place, held against what the commands really do there. */

const tests = suite('check')
const asRoot = requires(tests, 'root', 'busybox')
/** The same in every kernel. */
const outside = requires(tests, 'root', 'busybox', 'crun', 'native')
const here = scratch()
fs.chmodSync(here, 0o755)

interface Report {
  hew: string
  works: boolean
  machine: {system: string; kernel: string; uid: number; contained: boolean}
  checks: Check[]
}

/** What is tried for a check, by hand, with a root that has sh, true and chown. */
const CLAIMS: Record<string, string> = {
  enter: 'hew enter -r "$root" true',
  time: 'hew enter --time -r "$root" true',
  machine: 'hew enter --share user -r "$root" true',
  ids: 'hew enter --map auto -r "$root" -- chown 1:1 /tmp',
  roots: 'made=$(hew mkroot -q --empty) && rm -r "$made"',
  states: 'hew enter --name "claims-$(basename "$root")" -r "$root" true',
  memory: 'hew limit --json --memory 64M < "$document" | hew enter true',
  cpu: 'hew limit --json --cpu 50% < "$document" | hew enter true',
  pids: 'hew limit --json --pids 50 < "$document" | hew enter true',
  cpuset: `cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/self/status); hew limit --json --cpuset "$cpu" < "$document" | hew enter true`,
  xz: 'command -v xz',
  debootstrap: 'command -v debootstrap',
}

/** Runs in sh, with hew on the PATH, and prints the report, and a line "ID STATUS" for each claim. */
const SCRIPT = `
  root=$(mktemp -d /tmp/hew-claims-XXXXXX) && document=$root.json
  trap 'rm -rf "$root" "$document"' EXIT
  hew mkroot --json --with sh,true,chown --into "$root" > "$document"
  hew check --json; echo "$?"
  ${Object.entries(CLAIMS)
    .map(([id, line]) => `(${line}) >/dev/null 2>&1 && echo '${id} fine' || echo '${id} fails'`)
    .join('\n  ')}
`

/** The report, its exit status, and for each claim whether the commands did it. */
function examined({stdout, stderr}: Outcome): {report: Report; status: number; does: Map<string, boolean>} {
  assert.is(stderr, '')
  const [report, status, ...lines] = stdout.trim().split('\n')
  const does = new Map(
    lines.map(line => {
      const [id, outcome] = line.split(' ')
      return [id!, outcome === 'fine']
    }),
  )
  assert.equal([...does.keys()], Object.keys(CLAIMS), stdout)
  return {report: JSON.parse(report!) as Report, status: Number(status), does}
}

/** Every claim is compared; what is needed is there exactly when `enter` works. */
function holds(outcome: Outcome): Record<string, Check> {
  const {report, status, does} = examined(outcome)
  const byId = Object.fromEntries(report.checks.map(check => [check.id, check]))
  // What takes a container works when both do.
  const possible = (id: string): boolean =>
    report.works || id === 'machine' || !CLAIMS[id]!.includes('hew enter')
  const wrong = [...does].filter(([id, works]) => works !== (byId[id]!.status === 'fine' && possible(id)))
  assert.equal(wrong, [], JSON.stringify(wrong.map(([id]) => byId[id])))
  assert.is(report.works, does.get('enter'))
  assert.is(status, report.works ? 0 : 1)
  const needed = report.checks.filter(check => check.needed && check.id !== 'enter')
  assert.is(
    needed.every(check => check.status === 'fine'),
    report.works,
    JSON.stringify([byId.enter, ...needed.filter(check => check.status !== 'fine')]),
  )
  for (const {id, status, found, means, fix} of report.checks)
    if (status === 'fine' || found.startsWith('takes: '))
      assert.equal([means, fix], [undefined, undefined], id)
    else assert.ok(means && fix, `${id}: ${found}: ${means}: ${fix}`)
  return byId
}

/** A folder with hew in it that everybody may see, for a PATH. */
function folder(): string {
  const made = path.join(here, 'bin')
  if (!fs.existsSync(made)) {
    fs.mkdirSync(made)
    fs.copyFileSync(HEW, path.join(made, 'hew'))
  }
  return made
}

const search = (): string => `${folder()}:${process.env.PATH}`

function standing(byId: Record<string, Check>, ...ids: string[]): string[] {
  return ids.map(id => byId[id]!.status)
}

asRoot('here, as root', () => {
  const byId = holds(run('sh', ['-c', SCRIPT], {env: {PATH: search()}}))
  assert.equal(standing(byId, 'enter', 'user', 'proc', 'machine', 'ids'), Array(5).fill('fine'))
})

asRoot('here, as an ordinary user', () => {
  const home = path.join(here, 'home')
  fs.mkdirSync(home)
  fs.chownSync(home, 1000, 1000)
  const env = {PATH: search(), HOME: home}
  const byId = holds(run('sh', ['-c', SCRIPT], {env, uid: 1000, gid: 1000}))
  assert.equal(standing(byId, 'enter', 'machine', 'memory', 'roots'), ['fine', 'missing', 'missing', 'fine'])
  const homeless = holds(run('sh', ['-c', SCRIPT], {env: {...env, HOME: '/proc'}, uid: 1000, gid: 1000}))
  assert.is(homeless.roots!.fix, "name one: 'hew mkroot DIR'")
})

asRoot('nothing stays of it', () => {
  const look = `cat /proc/self/mountinfo; find /sys/fs/cgroup -name 'hew-check*'; ls -d /tmp/hew-check* 2>/dev/null; ls /proc/self/ns /var/lib/hew 2>/dev/null`
  const before = run('sh', ['-c', look]).stdout
  assert.is(hew('check').status, 0)
  assert.is(run('sh', ['-c', look]).stdout, before)
})

outside('where users may make no user namespaces', () => {
  const line = 'echo 0 > /proc/sys/user/max_user_namespaces && exec sh -c "$0"'
  const byId = holds(
    run('unshare', ['--user', '--map-root-user', '--mount', 'sh', '-c', line, SCRIPT], {
      env: {PATH: search()},
    }),
  )
  assert.equal(standing(byId, 'enter', 'user', 'restrictions'), ['missing', 'missing', 'limited'])
  assert.is(byId.user!.found, 'ENOSPC')
  assert.match(byId.user!.fix!, "'sysctl -w user.max_user_namespaces=10000'")
  assert.equal([byId.proc!.found, byId.proc!.fix], ['takes: user', undefined])
})

// Only Debian's and Ubuntu's kernels have these: they are shown to it as those have them.
for (const [setting, value, allows] of [
  ['kernel.apparmor_restrict_unprivileged_userns', '1', '0'],
  ['kernel.unprivileged_userns_clone', '0', '1'],
] as const)
  outside(`where ${setting} is in the way`, () => {
    const [directory = '', name = ''] = setting.split('.')
    const line = `mount -t tmpfs tmpfs /proc/sys/${directory} && echo ${value} > /proc/sys/${directory}/${name} &&
      exec setpriv --reuid "$1" --regid "$1" --clear-groups "$0" check --json`
    const found = (uid: string) => {
      const {stdout} = run('unshare', ['--mount', 'sh', '-c', line, `${folder()}/hew`, uid], {
        env: {HOME: here},
      })
      return (JSON.parse(stdout) as Report).checks.find(({id}) => id === 'restrictions')!
    }
    const fix = `as root: 'sysctl -w ${setting}=${allows}'`
    const says = (uid: string) => {
      const {status, found: what, fix} = found(uid)
      return [status, what, fix]
    }
    assert.equal(says('1000'), ['missing', setting, fix])
    assert.equal(says('0'), ['limited', setting, fix])
  })

/** A root of BusyBox and hew, with what SCRIPT calls. */
function busyboxRoot(): string {
  const root = path.join(here, 'busybox-root')
  if (fs.existsSync(root)) return root
  for (const name of ['bin', 'proc', 'dev', 'sys', 'tmp', 'root', 'etc'])
    fs.mkdirSync(path.join(root, name), {recursive: true})
  fs.copyFileSync(HEW, path.join(root, 'bin/hew'))
  fs.copyFileSync(run('sh', ['-c', 'command -v busybox']).stdout.trim(), path.join(root, 'bin/busybox'))
  run('chroot', [root, '/bin/busybox', '--install', '-s', '/bin'])
  return root
}

outside('in a chroot', () => {
  const line = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"'
  const byId = holds(
    run('unshare', ['--mount', 'sh', '-c', line, busyboxRoot(), SCRIPT], {
      env: {PATH: '/bin:/usr/bin:/sbin:/usr/sbin'},
    }),
  )
  assert.equal(standing(byId, 'enter', 'user', 'restrictions'), ['missing', 'missing', 'missing'])
  assert.match(byId.user!.fix!, /in a chroot the kernel makes no user namespaces/)
})

outside("in a container of hew's own", () => {
  const words = ['enter', '-r', busyboxRoot(), '--', 'sh', '-c', SCRIPT]
  const byId = holds(run(HEW, words))
  assert.is(byId.machine!.status, 'missing')
})

/** What crun starts of its own example, changed a little. */
function inCrun(change: (config: Config) => void): Outcome {
  const bundle = fs.mkdtempSync(path.join(here, 'bundle-'))
  run('crun', ['spec'], {cwd: bundle})
  const config = JSON.parse(fs.readFileSync(path.join(bundle, 'config.json'), 'utf8')) as Config
  Object.assign(config.process, {terminal: false, args: ['/bin/sh', '-c', SCRIPT], rlimits: []})
  config.process.env = ['PATH=/bin', 'HOME=/root']
  config.root = {path: busyboxRoot(), readonly: false}
  change(config)
  fs.writeFileSync(path.join(bundle, 'config.json'), JSON.stringify(config))
  // crun refuses hosts that have cgroup v2 beside v1: there that is hidden from it, in a namespace of its own.
  const line = `if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec crun run -b "$0" hew-check-${path.basename(bundle)}`
  return run('unshare', ['--mount', 'sh', '-c', line, bundle])
}

interface Config {
  process: {env: string[]; capabilities: Record<string, string[]>}
  root: object
  linux: {maskedPaths?: string[]; readonlyPaths?: string[]; seccomp?: object}
}

const inContainers = requires(tests, 'root', 'busybox', 'crun')

const mayMapRoot = ({process: {capabilities}}: Config): void => {
  for (const set of Object.values(capabilities)) set.push('CAP_SETFCAP')
}
const uncovered = ({linux}: Config): void => {
  delete linux.maskedPaths
  delete linux.readonlyPaths
}

inContainers('in an unprivileged container, and what it advises there is right', () => {
  const bare = holds(inCrun(() => {}))
  assert.equal(standing(bare, 'enter', 'user', 'map', 'proc'), ['missing', 'fine', 'missing', 'missing'])
  assert.match(bare.map!.fix!, '--cap-add SETFCAP')
  assert.match(bare.masked!.found, /\/proc\/keys\b.*\/sys\/firmware\b/)
  assert.match(bare['read-only']!.found, /\/proc\/sys\b/)
  const mapping = holds(inCrun(mayMapRoot))
  assert.equal(standing(mapping, 'enter', 'map', 'tmpfs', 'proc'), ['missing', 'fine', 'fine', 'missing'])
  assert.match(mapping.proc!.fix!, /\/proc\/keys.*systempaths=unconfined/)
  const works = holds(
    inCrun(config => {
      mayMapRoot(config)
      uncovered(config)
    }),
  )
  assert.equal(standing(works, 'enter', 'proc', 'sysfs'), ['fine', 'fine', 'fine'])
  assert.match(works.delegation!.found, /read-only|mounted/)
})

outside('where a filter of system calls hides some', () => {
  const byId = holds(
    inCrun(config => {
      config.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64'],
        syscalls: [
          {names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38},
          {names: ['unshare'], action: 'SCMP_ACT_ERRNO', errnoRet: 1},
          {names: ['pidfd_send_signal'], action: 'SCMP_ACT_KILL_PROCESS'},
        ],
      }
    }),
  )
  assert.equal(
    ['clone3', 'pidfd', 'user'].map(id => byId[id]!.found),
    ['ENOSYS', 'SIGSYS', 'EPERM'],
  )
  assert.is(byId.filter!.status, 'limited')
  for (const id of ['clone3', 'pidfd', 'user']) assert.match(byId[id]!.fix!, 'seccomp=unconfined')
})

requires(
  tests,
  'root',
  'cgroup2',
)('in fresh privileged containers', () => {
  const before = holds(inFreshContainer('debian', ['/bin/sh', '-c', SCRIPT]))
  assert.equal(standing(before, 'enter', 'memory', 'pids'), ['fine', 'limited', 'limited'])
  assert.is(before.memory!.fix, "'hew cgroup-init'")
  const ready = `hew cgroup-init >/dev/null; ${SCRIPT}`
  const after = holds(inFreshContainer('busybox', ['/bin/sh', '-c', ready]))
  assert.equal(standing(after, 'cgroups', 'memory', 'pids', 'cgroup-kill'), Array(4).fill('fine'))
})

/** In the container of nothing but hew. */
const alone = (line: string): Outcome => {
  const [program = '', ...words] = line.split(' ')
  return inFreshContainer('hew', [program, ...words])
}

requires(
  tests,
  'root',
  'cgroup2',
)('where there is nothing but hew', () => {
  const {stdout, stderr, status} = alone('/hew check --json')
  const {works, checks} = JSON.parse(stdout) as Report
  assert.equal([stderr, status, works], ['', 1, false])
  const fix = (name: string) => checks.find(({id}) => id === name)!.fix
  assert.is(fix('sysfs'), "the machine's own is not mounted: 'mount -t sysfs sysfs /sys'")
  assert.is(fix('dev'), "'mount -t devtmpfs devtmpfs /dev'")
  const {stderr: why, status: failed} = alone('/hew enter -r / /hew --version')
  assert.match(
    why,
    /^hew enter: this machine has no \/dev\/null .*: 'mount -t devtmpfs .*--by-hand' needs none\n$/,
  )
  assert.is(failed, 125)
  assert.equal(alone('/hew enter --by-hand -r / /hew --version'), run(HEW, ['--version']))
})

asRoot('a line for each thing, as text; the same as JSON', () => {
  const {stdout, stderr, status} = hew('check')
  assert.equal([stderr, status], ['', 0])
  const {checks} = JSON.parse(hew('check', '--json').stdout) as Report
  for (const {status, title, id} of checks)
    assert.ok(
      stdout.split('\n').some(line => line.startsWith(`  ${status.padEnd(8)} ${title}`)),
      id,
    )
  assert.is(new Set(checks.map(({id}) => id)).size, checks.length)
  assert.ok(!stdout.includes('\x1b'))
  for (const line of stdout.split('\n')) assert.ok(line.length <= 80 || !line.startsWith('   '), line)
})

asRoot('colours in a terminal, unless NO_COLOR says otherwise', () => {
  const at = (env: Record<string, string>) =>
    run('script', ['-qec', `${HEW} check`, '/dev/null'], {env: {TERM: 'xterm', ...env}}).stdout
  assert.match(at({}), /\x1b\[32mfine {4}\x1b\[m user/)
  assert.match(at({}), /fine {4}\x1b\[m this one +xterm, /)
  assert.ok(!at({NO_COLOR: '1'}).includes('\x1b'))
})

tests.run()
