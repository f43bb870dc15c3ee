import {type ChildProcess, spawn, spawnSync} from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {basename, join, resolve} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {IN_GUEST, type Outcome, requires, scratch, until} from '../support.ts'

/** The stage alone: steps in, a container out. What the commands make of it is shown elsewhere, on the binary. */

const tests = suite('stage: container')
const test = requires(tests, 'root', 'busybox')
const STAGE = resolve(process.env.HEW_STAGE ?? join(import.meta.dirname, '../../dist/hew-stage'))

// ---- roots and plans ----

const place = scratch()
chmodSync(place, 0o755)

/** A root that holds BusyBox under all of its names. */
function busyboxRoot(name: string): string {
  const root = join(place, name)
  for (const directory of ['bin', 'proc', 'sys', 'dev', 'tmp', 'etc', 'root', 'mnt'])
    mkdirSync(join(root, directory), {recursive: true})
  copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'))
  const applets = spawnSync('/usr/bin/busybox', ['--list']).stdout.toString().trim().split('\n')
  for (const applet of applets) if (applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet))
  return root
}

const ROOT = process.getuid!() === 0 ? busyboxRoot('root') : ''
const ALL = 'mnt,uts,ipc,net,pid,user'
const DEFAULT_CAPS = 'a80425fb'

interface Plan {
  root?: string
  kinds?: string
  /** uid map, gid map, setgroups */
  map?: [string, string, string, string]
  before?: string[]
  /** Behind the mounts, before pivot. */
  mounts?: string[]
  /** Instead of the default ones. */
  allMounts?: string[]
  /** Behind pivot. */
  after?: string[]
  env?: string[]
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']
// biome-ignore format: a step a line
const MOUNTS = [
  'mount', 'proc', 'proc', '/proc', 'nosuid,noexec,nodev',
  'mount', 'tmpfs', 'tmpfs', '/dev', 'nosuid,strictatime,mode=755,size=65536k',
  'mount', 'devpts', 'devpts', '/dev/pts', 'nosuid,noexec,newinstance,ptmxmode=0666,mode=0620',
  'mount', 'mqueue', 'mqueue', '/dev/mqueue', 'nosuid,noexec,nodev',
  ...DEVICES.flatMap(name => ['device', name]),
  'symlink', '/proc/self/fd', '/dev/fd',
]

/** A whole `enter`. */
function plan(command: string[], options: Plan = {}): string[] {
  const {
    root = ROOT,
    kinds = ALL,
    map = ['direct', '0 0 1\n', '0 0 1\n', 'deny'],
    env = ['PATH=/bin'],
  } = options
  // biome-ignore format: a step a line
  return [
    'as', 'hew enter',
    ...(options.before ?? []),
    'clone', kinds, ...map,
    'private', 'rprivate',
    ...(kinds.includes('net') ? ['loopback'] : []),
    'root', root,
    'container-root', '',
    ...(options.allMounts ?? MOUNTS),
    ...(options.mounts ?? []),
    'pivot',
    ...(options.after ?? []),
    'env', `${env.length}`, ...env,
    'exec', `${command.length}`, ...command,
  ]
}

const environment = (words: string[]) => Object.fromEntries(words.map((word, i) => [`${i}`, word]))

const numbers: Record<string, number> = {SIGKILL: 9, SIGTERM: 15, SIGSEGV: 11, SIGABRT: 6, SIGINT: 2}

function stage(words: string[], input: string | Buffer = ''): Outcome {
  const done = spawnSync(STAGE, ['enter'], {
    argv0: 'hew-stage',
    env: environment(words),
    input,
    maxBuffer: 1 << 28,
    timeout: 60_000,
    killSignal: 'SIGKILL',
  })
  // Who ends may leave what it was given unread.
  if (done.error && (done.error as NodeJS.ErrnoException).code !== 'EPIPE') throw done.error
  const status = done.status ?? 128 + numbers[done.signal!]!
  return {stdout: done.stdout.toString(), stderr: done.stderr.toString(), status}
}

/** A shell line in a container. */
const sh = (line: string, options: Plan = {}) => stage(plan(['sh', '-c', line], options))

function succeeds(line: string, options: Plan = {}): string {
  const {stdout, stderr, status} = sh(line, options)
  assert.is(stderr, '')
  assert.is(status, 0)
  return stdout
}

/** The same words for a stage that something else starts: as a shell line, without words in any environment. */
let files = 0
function asShellLine(words: string[]): string {
  const file = join(place, `plan-${files++}`)
  writeFileSync(file, words.map(word => `${word}\0`).join(''), {mode: 0o644})
  return `env -i 0=words-from 1=3 ${STAGE_FOR_ALL} enter 3< ${file}`
}
/** Where everybody can reach it, under the name by which it is the stage. */
const STAGE_FOR_ALL = join(place, 'hew-stage')
if (existsSync(STAGE)) copyFileSync(STAGE, STAGE_FOR_ALL)

/** What a container must not change outside. */
const machine = () => ({
  mounts: readFileSync('/proc/self/mountinfo', 'utf8'),
  // Ours alone: other tests run at the same time.
  stages: readdirSync('/proc').filter(name => {
    try {
      return /^\d+$/.test(name) && [STAGE, STAGE_FOR_ALL].includes(readlinkSync(`/proc/${name}/exe`))
    } catch {
      return false
    }
  }),
})

/** A stage that runs on; it has printed "ready" when this returns. */
async function started(
  words: string[],
  input = '',
): Promise<ChildProcess & {output(): string; ended: Promise<number>}> {
  const child = spawn(STAGE, ['enter'], {argv0: 'hew-stage', env: environment(words), stdio: 'pipe'})
  child.stdin.write(input)
  let output = ''
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', data => {
      output += data
    })
  const ended = new Promise<number>(done =>
    child.on('close', (status, signal) => done(status ?? 128 + numbers[signal!]!)),
  )
  await until('the container', () => output.includes('ready\n') || child.exitCode !== null)
  return Object.assign(child, {output: () => output, ended})
}

const gone = (pid: number) => !existsSync(`/proc/${pid}`)
const childOf = (pid: number) =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0])

// ---- namespaces ----

test('every namespace asked for is new, and no other', () => {
  // Linux may be built without time namespaces.
  const time = existsSync('/proc/self/ns/time') ? ['time'] : []
  const names = ['cgroup', 'ipc', 'mnt', 'net', 'pid', ...time, 'user', 'uts']
  const list = `for n in ${names.join(' ')}; do readlink /proc/self/ns/$n; done`
  const outside = names.map(n => readlinkSync(`/proc/self/ns/${n}`))
  const inside = succeeds(list).trim().split('\n')
  const same = outside.filter((link, i) => inside[i] === link).map(link => link.replace(/:.*/, ''))
  assert.equal(same, ['cgroup', ...time])
  const more = stage(plan(['sh', '-c', list], {kinds: [ALL, ...time].join(), mounts: ['unshare', 'cgroup']}))
  assert.equal(
    more.stdout
      .trim()
      .split('\n')
      .filter(link => outside.includes(link)),
    [],
  )
})

test('ids are mapped as asked', () => {
  const map: Plan['map'] = ['direct', '0 0 1\n1 100000 65535\n', '0 0 1\n1 100000 65535\n', 'allow']
  const out = succeeds('cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u; id -g', {map})
  assert.equal(out.trim().split(/\s+/), [
    ...'0 0 1 1 100000 65535 0 0 1 1 100000 65535'.split(' '),
    'allow',
    '0',
    '0',
  ])
  const {stderr, status} = sh('true', {map: ['direct', '0 0 1\n0 5 1\n', '0 0 1\n', 'deny']})
  assert.is(stderr, 'hew enter: cannot write the map of ids to uid_map: Invalid argument\n')
  assert.is(status, 125)
})

test('hostname, domain name, loopback and sysctls belong to the container', () => {
  const before = readFileSync('/proc/sys/kernel/hostname', 'utf8')
  const mounts = [
    'hostname',
    'box',
    'domainname',
    'yard',
    'sysctl',
    'net.ipv4.ip_forward',
    '1',
    'sysctl',
    'net/ipv4/conf/lo/forwarding',
    '0',
  ]
  const out = succeeds(
    'hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding; ip -o addr show lo | grep -c 127.0.0.1; ls /sys/class/net 2>/dev/null; ping -c 1 -W 2 127.0.0.1 | grep -c "1 packets received"',
    {mounts},
  )
  assert.is(out, 'box\nyard\n1\n0\n1\n1\n')
  assert.is(readFileSync('/proc/sys/kernel/hostname', 'utf8'), before)
  for (const name of ['../../etc/passwd', '/etc/passwd', 'net.no.such']) {
    const {stderr, status} = sh('true', {mounts: ['sysctl', name, 'x']})
    assert.is(status, 125)
    assert.match(stderr, `hew enter: cannot set the sysctl ${name} to 'x'`)
  }
})

test('a namespace can be joined by its file', async () => {
  const other = await started(
    plan(['sh', '-c', 'echo ready; exec sleep 60'], {mounts: ['hostname', 'joined']}),
  )
  const pid = childOf(other.pid!)
  const {stdout} = stage([
    'join',
    'uts',
    `/proc/${pid}/ns/uts`,
    'env',
    '1',
    'PATH=/bin',
    'exec',
    '1',
    'hostname',
  ])
  other.kill('SIGKILL')
  await other.ended
  assert.is(stdout, 'joined\n')
})

test('what is no namespace is refused, and nothing is made', () => {
  const {stderr, status} = sh('true', {kinds: 'mnt,seccomp'})
  assert.is(stderr, "hew enter: no namespace is called 'seccomp'\n")
  assert.is(status, 125)
})

// ---- mounts ----

/** path -> options of the mount, type, options of the file system; the last one on a path counts. */
function table(mountinfo: string): Map<string, {options: string; type: string; root: string; data: string}> {
  return new Map(
    mountinfo
      .trim()
      .split('\n')
      .map(line => {
        const [before, after] = line.split(' - ')
        const words = before!.split(' ')
        const [type, , data] = after!.split(' ')
        return [words[4]!, {options: words[5]!, type: type!, root: words[3]!, data: data!}]
      }),
  )
}

test('mounts are those of the plan, with their options, and the old root is gone', () => {
  const mounts = table(succeeds('cat /proc/self/mountinfo'))
  assert.equal(
    [...mounts.keys()].sort(),
    ['/', '/dev', '/dev/mqueue', '/dev/pts', '/proc', ...DEVICES.map(name => `/dev/${name}`)].sort(),
  )
  assert.is(mounts.get('/proc')!.options, 'rw,nosuid,nodev,noexec,relatime')
  assert.is(mounts.get('/dev')!.options, 'rw,nosuid')
  assert.match(mounts.get('/dev')!.data, 'size=65536k,mode=755')
  assert.match(mounts.get('/dev/pts')!.data, 'mode=620,ptmxmode=666')
  assert.is(succeeds('ls /..'), succeeds('ls /'))
})

test('the devices are the devices', () => {
  const out = succeeds(
    'cd /dev; stat -c "%n %F %t:%T" null zero full random urandom tty; head -c 5 zero | wc -c; readlink fd; (echo x > full) 2>/dev/null || echo full',
  )
  assert.is(
    out.replace('full\n', ''),
    ['null', 'zero', 'full', 'random', 'urandom', 'tty']
      .map((name, i) => `${name} character special file ${['1:3', '1:5', '1:7', '1:8', '1:9', '5:0'][i]}\n`)
      .join('')
      .concat('5\n/proc/self/fd\n'),
  )
})

test('hidden and read-only paths are', () => {
  // biome-ignore format: a step a line
  const mounts = [
    'mask', '/proc/keys', 'mask', '/proc/acpi', 'mask', '/proc/tty', 'mask', '/no/such/thing',
    'read-only', '/proc/sys', 'read-only', '/no/such/thing', 'read-only', '/etc',
  ]
  const out = succeeds(
    'wc -c < /proc/keys; ls /proc/tty | wc -l; touch /proc/tty/x 2>/dev/null || echo masked; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo read-only; touch /etc/x 2>/dev/null || echo read-only; ls /no 2>/dev/null || echo nothing',
    {mounts, map: ['direct', '0 0 1\n', '0 0 1\n', 'deny']},
  )
  assert.is(out, '0\n0\nmasked\nread-only\nread-only\nnothing\n')
})

test('a read-only root leaves what is mounted in it writable', () => {
  const out = succeeds('touch /x 2>/dev/null || echo ro; touch /dev/x && echo rw', {
    mounts: ['read-only-root'],
  })
  assert.is(out, 'ro\nrw\n')
  assert.not(existsSync(join(ROOT, 'x')))
})

test('bind mounts: a directory, a file, read-only to the bottom', () => {
  const source = join(place, 'source')
  mkdirSync(join(source, 'below'), {recursive: true})
  writeFileSync(join(source, 'file'), 'content\n')
  const script = asShellLine(
    plan(
      [
        'sh',
        '-c',
        'cat /new/dir/file /new/file; for f in /new/dir/x /new/dir/below/x /ro/x /ro/below/x; do touch $f 2>/dev/null && echo $f; done; :',
      ],
      {
        // biome-ignore format: a step a line
        mounts: [
        'mount', 'bind', source, '/new/dir', 'rbind', 'mount', 'none', join(source, 'file'), '/new/file', 'bind,ro,nosuid',
        'mount', 'bind', source, '/ro', 'rbind,ro',
      ],
      },
    ),
  )
  const {stdout, stderr} = spawnSync('unshare', [
    '-m',
    'sh',
    '-c',
    `mount -t tmpfs t ${source}/below; ${script}`,
  ])
  assert.is(stderr.toString(), '')
  assert.is(stdout.toString(), 'content\ncontent\n/new/dir/x\n/new/dir/below/x\n')
  rmSync(join(ROOT, 'new'), {recursive: true})
  rmSync(join(ROOT, 'ro'), {recursive: true})
})

test('in a user namespace, a bind mount of what is locked only adds to its options', () => {
  const source = join(place, 'locked')
  mkdirSync(source)
  const script = asShellLine(
    plan(['grep', ' /mnt ', '/proc/self/mountinfo'], {
      mounts: ['mount', 'bind', source, '/mnt', 'bind,rw,suid,exec,ro'],
    }),
  )
  const {stdout, stderr} = spawnSync('unshare', [
    '-m',
    'sh',
    '-c',
    `mount -t tmpfs -o nosuid,noexec,nodev t ${source}; ${script}`,
  ])
  assert.is(stderr.toString(), '')
  assert.is(stdout.toString().split(' ')[5], 'ro,nosuid,nodev,noexec,relatime')
})

test('a mount that is refused says what the file system says; its mount point goes again', () => {
  for (const [words, message] of [
    [
      ['mount', 'tmpfs', 'tmpfs', '/a/b/c', 'size=nonsense'],
      "cannot mount tmpfs on /a/b/c (tmpfs: Bad value for 'size'): Invalid argument",
    ],
    [['mount', 'nofs', 'none', '/a/b/c', ''], 'cannot mount nofs on /a/b/c: No such device'],
    [
      ['mount', 'bind', '/nonesuch', '/a/b/c', 'bind'],
      'cannot bind /nonesuch to /a/b/c: No such file or directory',
    ],
    [
      ['mount', 'bind', '/etc/passwd', '/a/b/c', 'bind,mode=755'],
      'cannot bind /etc/passwd to /a/b/c with the option mode=755',
    ],
    [
      ['mount', 'bind', '/etc/passwd', '/mnt', 'bind'],
      'cannot mount /etc/passwd on /mnt (one is a directory, the other is not)',
    ],
    [
      ['hint', '22', 'look here', 'mount', 'tmpfs', 'tmpfs', '/tmp', 'what'],
      "cannot mount tmpfs on /tmp (tmpfs: Unknown parameter 'what'): Invalid argument: look here",
    ],
    [['device', '../etc/passwd'], "no device is called '../etc/passwd'"],
  ] as const) {
    const made = [
      'mkdir',
      '0755',
      '/dev/sub',
      'mount',
      'tmpfs',
      'tmpfs',
      '/dev/sub',
      '',
      'mount',
      'tmpfs',
      'tmpfs',
      '/made/here',
      '',
      'mount',
      'bind',
      '/etc/passwd',
      '/made/file',
      'bind',
    ]
    const {stderr, status} = sh('true', {mounts: [...made, ...words]})
    assert.is(stderr, `hew enter: ${message}\n`)
    assert.is(status, 125)
    assert.not(existsSync(join(ROOT, 'a')), 'a mount point is left')
    assert.not(existsSync(join(ROOT, 'made')), 'a mount point with a mount on it is left')
  }
})

test('a command that is not there leaves no mount point either', () => {
  assert.is(stage(plan(['nonesuch'], {mounts: ['mount', 'tmpfs', 'tmpfs', '/made/here', '']})).status, 127)
  assert.not(existsSync(join(ROOT, 'made')))
})

test('a hostile root: nothing is mounted or made outside it', () => {
  const canary = join(place, 'canary')
  mkdirSync(canary)
  writeFileSync(join(canary, 'file'), 'mine')
  const hostile = busyboxRoot('hostile')
  for (const name of ['proc', 'dev', 'mnt']) rmSync(join(hostile, name), {recursive: true})
  symlinkSync('/etc', join(hostile, 'proc'))
  symlinkSync(`../../../../../../../../../${canary}`, join(hostile, 'dev'))
  symlinkSync(canary, join(hostile, 'data'))
  symlinkSync('../../data/new', join(hostile, 'mnt'))
  symlinkSync('/proc/self/root/', join(hostile, 'magic'))
  symlinkSync('loop', join(hostile, 'loop'))
  const before = machine()
  const {stdout, stderr, status} = stage(
    plan(['sh', '-c', 'cat /etc/self/mountinfo; ls -a /data/'], {
      root: hostile,
      // biome-ignore format: a step a line
      mounts: [
        'mount', 'tmpfs', 'tmpfs', '/data', '', 'mount', 'tmpfs', 'tmpfs', '/data/../../../../../../deep/er', '',
        'mount', 'tmpfs', 'tmpfs', '/mnt', '', 'mount', 'bind', '/etc/passwd', '/data/file', 'bind', 'mask', '/data/../../../../../../proc/keys',
      ],
    }),
  )
  assert.is(stderr, '')
  assert.is(status, 0)
  const mounts = table(
    stdout
      .split('\n')
      .filter(line => line.includes(' - '))
      .join('\n'),
  )
  for (const path of ['/etc', '/deep/er', canary, `${canary}/file`, `${canary}/new`])
    assert.ok(mounts.has(path), `${path} in ${[...mounts.keys()]}`)
  assert.equal(machine(), before)
  assert.equal(readdirSync(canary), ['file'])
  assert.is(readFileSync(join(canary, 'file'), 'utf8'), 'mine')
  assert.not(existsSync('/deep'))
  for (const path of ['/magic/x', '/loop', '/loop/x']) {
    const refused = stage(plan(['true'], {root: hostile, mounts: ['mount', 'tmpfs', 'tmpfs', path, '']}))
    assert.is(refused.status, 125)
    assert.match(refused.stderr, `cannot make the mount point ${path}: Too many levels of symbolic links`)
  }
})

test('chroot changes the root and mounts nothing', () => {
  const words = [
    'clone',
    ALL,
    'direct',
    '0 0 1\n',
    '0 0 1\n',
    'deny',
    'private',
    'rprivate',
    'root',
    ROOT,
    'chroot',
    'env',
    '1',
    'PATH=/bin',
  ]
  const line = 'ls /proc; mount -t proc proc /proc && echo $$ && grep CapEff /proc/self/status'
  const {stdout} = stage([...words, 'exec', '3', 'sh', '-c', line])
  assert.match(stdout, /^1\nCapEff:\t0*1f+e?f*\n$/)
})

// ---- the process ----

test('the exit status is the command’s own', () => {
  for (let status = 0; status < 256; status++) assert.is(sh(`exit ${status}`).status, status)
})

test('a command that a signal kills: 128+n, with an init too', () => {
  // PID 1 of a namespace cannot kill itself; its child can, and so can the machine.
  assert.is(sh('sh -c "kill -KILL \\$\\$"; echo $?').stdout, '137\n')
  for (const [name, number] of [
    ['TERM', 143],
    ['KILL', 137],
    ['SEGV', 139],
    ['USR1', 138],
  ] as const)
    assert.is(sh(`kill -${name} $$`, {after: ['init']}).status, number)
})

test('a command that cannot be run: 126 and 127, and why', () => {
  const bin = join(ROOT, 'bin')
  writeFileSync(join(bin, 'plain'), 'text')
  writeFileSync(join(bin, 'nothing'), '\x7fELF', {mode: 0o755})
  writeFileSync(join(bin, 'lost'), '#!/no/such\n', {mode: 0o755})
  for (const [command, status, message] of [
    ['/nonesuch', 127, 'cannot run /nonesuch: No such file or directory'],
    ['/bin/sh/x', 127, 'cannot run /bin/sh/x: Not a directory'],
    ['nonesuch', 127, 'cannot find nonesuch in /bin: No such file or directory'],
    ['', 127, 'cannot find  in /bin: No such file or directory'],
    ['/etc', 126, 'cannot run /etc: Is a directory'],
    ['plain', 126, 'cannot run /bin/plain: Permission denied'],
    ['nothing', 126, 'cannot run /bin/nothing: Exec format error'],
    ['lost', 126, 'cannot run /bin/lost (its interpreter or loader is missing): No such file or directory'],
  ] as const) {
    const outcome = stage(plan([command]))
    assert.equal([outcome.status, outcome.stderr], [status, `hew enter: ${message}\n`])
  }
})

test('the environment is exactly what the plan says', () => {
  const env = ['PATH=/bin', 'EMPTY=', 'TWO=a=b\nc', 'NO_SIGN', 'DOUBLE=1', 'DOUBLE=2']
  assert.is(stage(plan(['cat', '/proc/self/environ'], {env})).stdout, env.map(entry => `${entry}\0`).join(''))
  assert.is(stage(plan(['/bin/cat', '/proc/self/environ'], {env: []})).stdout, '')
})

test('limits, umask, working directory and oom score', () => {
  const after = [
    'rlimit',
    'nofile',
    '64',
    '128',
    'rlimit',
    'core',
    '0',
    'unlimited',
    'umask',
    '027',
    'chdir',
    '/tmp',
    'oom-score-adj',
    '500',
  ]
  const out = succeeds(
    'ulimit -Sn; ulimit -Hn; umask; pwd; cat /proc/self/oom_score_adj; sed -n "s/  */ /g;/core/p" /proc/self/limits',
    {after},
  )
  assert.is(out, '64\n128\n0027\n/tmp\n500\nMax core file size 0 unlimited bytes \n')
  assert.is(
    sh('true', {after: ['chdir', '/nonesuch']}).stderr,
    'hew enter: the working directory /nonesuch is not in the root: No such file or directory\n',
  )
  assert.is(
    sh('true', {after: ['rlimit', 'nofil', '1', '1']}).stderr,
    "hew enter: no limit is called 'nofil'\n",
  )
})

/** Value of a line in /proc/self/status. */
const field = (status: string, name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)![1]!

test('identity: ids, groups and capabilities, as root and as another user', () => {
  const map: Plan['map'] = ['direct', '0 0 65536\n', '0 0 65536\n', 'allow']
  const status = (after: string[]) => stage(plan(['cat', '/proc/self/status'], {map, after})).stdout
  const root = status([
    'identity',
    '0',
    '0',
    '0',
    DEFAULT_CAPS,
    DEFAULT_CAPS,
    DEFAULT_CAPS,
    '0',
    '0',
    'no-new-privs',
  ])
  for (const name of ['CapBnd', 'CapPrm', 'CapEff']) assert.is(field(root, name), `00000000${DEFAULT_CAPS}`)
  assert.is(field(root, 'CapInh'), '0000000000000000')
  assert.is(field(root, 'NoNewPrivs'), '1')
  assert.is(field(root, 'Groups').trim(), '')
  const user = status(['identity', '1000', '1001', '2', '7', '1002', DEFAULT_CAPS, '0', '0', '0', '0'])
  assert.equal(
    ['Uid', 'Gid', 'Groups', 'CapBnd', 'CapEff', 'CapPrm'].map(name => field(user, name).trim()),
    [
      '1000\t1000\t1000\t1000',
      '1001\t1001\t1001\t1001',
      '7 1002',
      `00000000${DEFAULT_CAPS}`,
      '0000000000000000',
      '0000000000000000',
    ],
  )
  const bind = status(['identity', '1000', '1000', '0', '400', '400', '400', '400', '400'])
  for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    assert.is(field(bind, name), '0000000000000400', name)
})

test('identity: ids that the kernel would take for "unchanged", or cut to 32 bits, never leave root root', () => {
  const map: Plan['map'] = ['direct', '0 0 65536\n', '0 0 65536\n', 'allow']
  const sets = ['0', '0', '0', '0', '0']
  for (const ids of [
    ['-1', '0', '0'],
    ['4294967295', '0', '0'],
    ['4294967296', '0', '0'],
    ['0', '4294967296', '0'],
    ['0', '0', '1', '4294967296'],
  ]) {
    const {stdout, stderr, status} = stage(plan(['id'], {map, after: ['identity', ...ids, ...sets]}))
    assert.match(stderr, /: there is no user or group (-1|429496729[56])\n$/)
    assert.is(stdout, '')
    assert.is(status, 125)
  }
})

test('a clean process: signals, blocking streams, descriptors, whatever the caller had', () => {
  const words = plan([
    'sh',
    '-c',
    'grep -E "^Sig(Blk|Ign|Cgt)" /proc/self/status; ls /proc/self/fd; grep flags /proc/self/fdinfo/0',
  ])
  const unclean = `use POSIX; use Fcntl; $^F = 100;
    $SIG{$_} = 'IGNORE' for qw(PIPE INT CHLD XFSZ USR1);
    sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGUSR2, SIGCHLD));
    fcntl(STDIN, F_SETFL, O_NONBLOCK | fcntl(STDIN, F_GETFL, 0));
    open($f[$_], '<', '/etc/passwd') for 0 .. 20; exec {$ARGV[0]} 'hew-stage', 'enter'`
  const {stdout, stderr} = spawnSync('perl', ['-e', unclean, STAGE], {env: environment(words), input: ''})
  assert.is(stderr.toString(), '')
  const [blocked, ignored, caught, ...rest] = stdout.toString().trim().split('\n')
  for (const line of [blocked, ignored, caught]) assert.match(line!, /^Sig...:\t0{16}$/)
  // 3 is the directory that ls reads
  assert.equal(rest.slice(0, -1), ['0', '1', '2', '3'])
  assert.match(rest.at(-1)!, /^flags:\s+0\d*[0-3]\d{3}$|^flags:\s+0?\d{1,3}$/)
})

test('stdin arrives whole, stdout leaves whole', () => {
  const data = Buffer.alloc(20 << 20, 'some bytes\0\xff\n', 'latin1')
  const sum = spawnSync('sha256sum', {input: data}).stdout.toString()
  assert.is(stage(plan(['sha256sum']), data).stdout, sum)
  assert.is(stage(plan(['sh', '-c', 'cat | cat']), data).stdout.length, data.toString().length)
})

test('what comes next in a pipe sees the end of our stdout when the container closes it', async () => {
  const line = asShellLine(plan(['sh', '-c', 'echo out; exec sleep 60 >&- 2>&-']))
  const pipe = spawn('sh', ['-c', `( ${line} ) | { cat; echo end; }`], {detached: true})
  let said = ''
  pipe.stdout.on('data', data => {
    said += data
  })
  const ended = new Promise(resolve => pipe.on('close', resolve))
  await until('the end', () => said === 'out\nend\n', 30).finally(() => process.kill(-pipe.pid!, 'SIGTERM'))
  await ended
})

test('--init reaps orphans, has no way in, and its command is PID 2', async () => {
  const line = `echo $$; cat /proc/1/comm; tr -d '\\0' < /proc/1/cmdline; echo; tr -d '\\0' < /proc/1/environ; echo; readlink /proc/1/exe
    (sh -c 'sleep 0.1 & echo' &); (sleep 0.2 &); sleep 0.5; ps -o pid,stat | grep Z; echo end`
  assert.is(
    succeeds(line, {after: ['init']}),
    '2\nhew:init\nhew-stage\n\n/memfd:hew-stage (deleted)\n\nend\n',
  )
  assert.is(stage(plan(['nonesuch'], {after: ['init']})).status, 127)
  assert.is(sh('exit 7', {after: ['init']}).status, 7)
})

// ---- the supervisor ----

test('signals reach the command; one that it does not handle ends the container', async () => {
  for (const [after, signal] of [
    [[], 'SIGTERM'],
    [[], 'SIGINT'],
    [[], 'SIGHUP'],
    [[], 'SIGUSR1'],
    [['init'], 'SIGTERM'],
    [['init'], 'SIGQUIT'],
  ] as const) {
    // Not a shell that becomes sleep: until it has, it catches SIGINT and ignores SIGQUIT.
    const container = await started(plan(['cat'], {after: [...after]}), 'ready\n')
    container.kill(signal)
    const number = {SIGTERM: 15, SIGINT: 2, SIGHUP: 1, SIGUSR1: 10, SIGQUIT: 3}[signal]
    assert.is(await container.ended, 128 + number, `${signal} ${after}`)
  }
  for (const after of [[], ['init']]) {
    const line =
      'trap "echo caught; exit 9" TERM; trap "echo usr" USR1; trap "" HUP; echo ready; while :; do sleep 0.05; done'
    const container = await started(plan(['sh', '-c', line], {after}))
    container.kill('SIGHUP')
    container.kill('SIGUSR1')
    await until('the handler', () => container.output().includes('usr\n'))
    container.kill('SIGTERM')
    assert.is(await container.ended, 9)
    assert.is(container.output(), 'ready\nusr\ncaught\n')
  }
})

test('a container that is stopped from outside stays so, and its supervisor waits', async () => {
  const state = (pid: number) => readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) (.).*\n/s, '$1')
  for (const kinds of [ALL, ALL.replace(',pid', '')]) {
    const container = await started(plan(['sh', '-c', 'echo ready; exec sleep 60'], {kinds, allMounts: []}))
    const command = childOf(container.pid!)
    process.kill(command, 'SIGSTOP')
    await until('the stop', () => state(command) === 'T')
    await sleep(50)
    assert.is(state(command) + state(container.pid!), 'TS')
    process.kill(command, 'SIGCONT')
    container.kill('SIGTERM')
    assert.is(await container.ended, 143)
  }
})

test('a signal during the setup ends it, and takes back what it made', async () => {
  const words = plan(['true'], {mounts: ['mount', 'tmpfs', 'tmpfs', '/made/here', '']})
  const upTo = words.indexOf('pivot')
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const child = spawn(STAGE_FOR_ALL, ['enter'], {
      env: environment(['words-from', '3']),
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    })
    const ended = new Promise<number | null>(done => child.on('close', done))
    const plans = child.stdio[3] as NodeJS.WritableStream
    plans.on('error', () => {})
    plans.write(
      words
        .slice(0, upTo)
        .map(word => `${word}\0`)
        .join(''),
    )
    await until('the mount point', () => existsSync(join(ROOT, 'made/here')))
    await until('the mount', () =>
      readFileSync(`/proc/${childOf(child.pid!)}/mountinfo`, 'utf8').includes('/made/here'),
    )
    child.kill(signal)
    assert.is(await ended, signal === 'SIGTERM' ? 143 : 130)
    assert.not(existsSync(join(ROOT, 'made')))
  }
})

test('a supervisor that is killed takes the container with it', async () => {
  for (const after of [
    [],
    ['init'],
    // The kernel forgets PR_SET_PDEATHSIG when the user changes.
    ['identity', '1000', '1000', '0', DEFAULT_CAPS, '0', '0', '0', '0'],
    ['identity', '1000', '1000', '0', DEFAULT_CAPS, '0', '0', '0', '0', 'init'],
  ]) {
    const map: Plan['map'] = ['direct', '0 0 65536\n', '0 0 65536\n', 'allow']
    const container = await started(plan(['sh', '-c', 'sleep 60 & echo ready; sleep 60'], {after, map}))
    const one = childOf(container.pid!)
    const inside = [
      one,
      ...readFileSync(`/proc/${one}/task/${one}/children`, 'utf8').trim().split(' ').map(Number),
    ]
    container.kill('SIGKILL')
    await until('their end', () => inside.every(gone))
  }
})

test('die-with-parent: the container ends with whoever started it', async () => {
  const before = ['die-with-parent', '@PARENT@']
  const line = asShellLine(plan(['sh', '-c', 'echo ready; exec sleep 60'], {before}))
  const words = line.replace(/.*< /, '')
  const parent = spawn('sh', ['-c', `sed -i "s/@PARENT@/$$/" ${words}; ${line} & echo $!; wait`])
  let output = ''
  parent.stdout.on('data', data => {
    output += data
  })
  await until('the container', () => output.includes('ready'))
  const supervisor = Number(output.split('\n')[0])
  const command = childOf(supervisor)
  parent.kill('SIGKILL')
  await until('their end', () => gone(supervisor) && gone(command))
})

test('the supervisor holds little, and no descriptor of the caller', async () => {
  const file = openSync('/etc/passwd', 'r')
  const child = spawn(STAGE, ['enter', '/some/root'], {
    argv0: 'hew-stage',
    env: environment(plan(['sh', '-c', 'echo ready; exec sleep 60'])),
    stdio: ['pipe', 'pipe', 'pipe', file, file],
  })
  let output = ''
  child.stdout!.on('data', data => {
    output += data
  })
  await until('the container', () => output.includes('ready'))
  const links = readdirSync(`/proc/${child.pid}/fd`).map(fd =>
    readlinkSync(`/proc/${child.pid}/fd/${fd}`).replace(/\d+/, 'N'),
  )
  assert.equal(
    links.sort(),
    [
      '/dev/null',
      '/dev/null',
      'anon_inode:[pidfd]',
      'anon_inode:[signalfd]',
      'socket:[N]',
      'socket:[N]',
    ].sort(),
  )
  assert.is(readFileSync(`/proc/${child.pid}/comm`, 'utf8'), 'hew:supervisor\n')
  assert.is(readFileSync(`/proc/${child.pid}/cmdline`, 'utf8'), 'hew-stage\0enter\0/some/root\0')
  const memory = readFileSync(`/proc/${child.pid}/smaps_rollup`, 'utf8')
  const of = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(memory)![1])
  if (!process.env.HEW_STAGE) assert.ok(of('Private_Dirty') + of('Private_Clean') < 500, memory)
  child.kill('SIGKILL')
  closeSync(file)
  await new Promise(done => child.on('close', done))
})

test('on-exit-remove: that very directory goes, whatever the end was', async () => {
  const make = () => {
    const path = join(place, 'leftover')
    mkdirSync(join(path, 'a/b'), {recursive: true})
    symlinkSync('/etc', join(path, 'a/link'))
    const {dev, ino} = statSync(path)
    return {path, before: ['on-exit-remove', path, `${dev}`, `${ino}`]}
  }
  for (const command of [['true'], ['false'], ['nonesuch']]) {
    const {path, before} = make()
    stage(plan(command, {before}))
    assert.not(existsSync(path), command[0])
  }
  const {path, before} = make()
  const container = await started(plan(['sh', '-c', 'echo ready; sleep 60'], {before}))
  assert.ok(existsSync(path))
  container.kill('SIGTERM')
  assert.is(await container.ended, 143)
  assert.not(existsSync(path))
  const other = make()
  const {status, stderr} = stage(plan(['true'], {before: ['on-exit-remove', other.path, '1', '1']}))
  assert.is(status, 125)
  assert.is(stderr, `hew enter: ${other.path} stays: it is another directory by now\n`)
  assert.ok(existsSync(other.path))
})

test('without a PID namespace signals do what they do', async () => {
  const container = await started(
    plan(['sh', '-c', 'echo ready; exec sleep 60'], {kinds: 'mnt,uts,ipc,net,user', allMounts: []}),
  )
  container.kill('SIGTERM')
  assert.is(await container.ended, 143)
})

// ---- logs ----

/** A directory for a log, and the step that has it written there. */
function logged(limit: number): {directory: string; before: string[]; text: (name?: string) => string} {
  const directory = mkdtempSync(join(place, 'log-'))
  return {
    directory,
    before: ['log', directory, `${limit}`],
    text: (name = 'log') => readFileSync(join(directory, name), 'latin1'),
  }
}

test('log: stdout and stderr to their last byte, stdin empty, the messages of hew for the caller', () => {
  const {before, text, directory} = logged(1 << 20)
  const line = 'echo out; echo err >&2; cat; printf "\\0\\377"; echo by name > /dev/stderr; exit 3'
  const user = ['identity', '7', '7', '0', DEFAULT_CAPS, '0', '0', '0', '0']
  const map: Plan['map'] = ['direct', '0 0 65536\n', '0 0 65536\n', 'allow']
  // biome-ignore format: a step a line
  const mounts = ['symlink', '/proc/self/fd/2', '/dev/stderr']
  const done = stage(plan(['sh', '-c', line], {before, after: user, map, mounts}), 'nobody reads this')
  assert.equal(done, {stdout: '', stderr: '', status: 3})
  assert.is(text(), 'out\nerr\n\0\xffby name\n')
  assert.is(statSync(join(directory, 'log')).mode & 0o777, 0o600)

  const failed = logged(1 << 20)
  const {stderr, status} = stage(plan(['nonesuch'], {before: failed.before}))
  assert.is(stderr, 'hew enter: cannot find nonesuch in /bin: No such file or directory\n')
  assert.is(status, 127)
  assert.is(failed.text(), '')
  assert.is(stage(plan(['true'], {before: ['log', '/no/such', '1']})).status, 125)
  assert.is(stage(plan(['true'], {before: ['log', place, '0']})).status, 125)
})

test('log: at its limit it becomes log.1, and no byte is lost between them', () => {
  const {before, text, directory} = logged(1_000_001)
  assert.is(stage(plan(['seq', '400000'], {before})).status, 0)
  const all = spawnSync('seq', ['400000'], {maxBuffer: 1 << 28}).stdout.toString()
  assert.equal(readdirSync(directory).sort(), ['log', 'log.1'])
  assert.is(text('log.1').length, 1_000_001)
  assert.ok(text('log').length > 0 && text('log').length < 1_000_001)
  assert.ok(all.endsWith(text('log.1') + text('log')))
})

test('log: who lives on with the descriptor keeps nobody waiting, and what was written before is there', () => {
  const {before, text} = logged(1 << 20)
  const begin = Date.now()
  const kinds = 'mnt,uts,ipc,net,user'
  const line = 'sleep 20 & seq 10000; echo last'
  // A shell gives /dev/null to what it starts in the background.
  const allMounts = ['mount', 'tmpfs', 'tmpfs', '/dev', 'mode=755', 'device', 'null']
  assert.is(stage(plan(['sh', '-c', line], {before, kinds, allMounts})).status, 0)
  assert.ok(Date.now() - begin < 15_000, `${Date.now() - begin} ms`)
  assert.is(text().slice(-20), '9998\n9999\n10000\nlast\n'.slice(-20))
})

test('log: where the disk is full, or the directory is gone, it loses, and the container goes on', () => {
  const full = logged(1 << 20)
  const words = plan(['sh', '-c', 'seq 100000; exit 4'], {before: full.before})
  const line = `mount -t tmpfs -o size=64k tmpfs ${full.directory} && { ${asShellLine(words)}; echo $? $(stat -c %s ${full.directory}/log); }`
  const {stdout, stderr} = spawnSync('unshare', ['-m', 'sh', '-c', line], {timeout: 30_000})
  assert.is(stdout.toString() + stderr.toString(), '4 65536\n')

  const gone = logged(1000)
  const rm = plan(['sh', '-c', 'rm -r /log; seq 100000; exit 5'], {
    before: gone.before,
    mounts: ['mount', 'bind', place, '/mnt', 'rbind'],
  })
  const removed = rm.map(word => word.replace('/log;', `/mnt/${basename(gone.directory)};`))
  assert.is(stage(removed).status, 5)
  assert.not(existsSync(gone.directory))
})

// ---- terminals ----

/** A pseudo-terminal with a program in it, and a person before it. */
class Terminal {
  text = ''
  private seen = 0
  readonly child
  readonly ended: Promise<number | null>
  constructor(command: string) {
    this.child = spawn('script', ['-qefc', command, '/dev/null'], {
      stdio: 'pipe',
      env: {PATH: process.env.PATH, SHELL: '/bin/sh', TERM: 'dumb'},
    })
    this.child.stdout.on('data', data => {
      this.text += data
    })
    this.child.stderr.on('data', data => {
      this.text += data
    })
    this.ended = new Promise(done => this.child.on('close', done))
  }
  type(text: string): void {
    this.child.stdin.write(text)
  }
  /** Waits for what is printed after the last thing waited for. */
  async expect(pattern: RegExp): Promise<RegExpExecArray> {
    for (let tries = 0; tries < 3000; tries++) {
      const found = pattern.exec(this.text.slice(this.seen))
      if (found) {
        this.seen += found.index + found[0].length
        return found
      }
      await sleep(10)
    }
    this.child.kill('SIGKILL')
    throw new Error(
      `${pattern} never came:\n${JSON.stringify(this.text.slice(this.seen))}\nafter\n${this.text.slice(0, this.seen)}`,
    )
  }
}

/** Until such a program is what a terminal's keys are for, or has none (-1): a shell starts it after it has echoed the line. */
function inForeground(terminal: Terminal, name: string): Promise<void> {
  const below = (pid: number): number[] => {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
    return children.map(Number).flatMap(child => [child, ...below(child)])
  }
  return until(
    `${name} in the foreground`,
    () =>
      below(terminal.child.pid!).some(pid => {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        const [, comm, state, , group, , , foreground] = /\((.*)\) (\S) (\S+) (\S+) (\S+) (\S+) (\S+)/s.exec(
          stat,
        )!
        return comm === name.slice(0, 15) && state !== 'T' && [group, '-1'].includes(foreground!)
      }),
    30,
  )
}

/** A root with the machine's own programs, read-only. */
function hostRoot(): Plan {
  const root = join(place, 'host')
  for (const directory of ['usr', 'proc', 'dev', 'tmp']) mkdirSync(join(root, directory), {recursive: true})
  for (const name of ['bin', 'sbin', 'lib', 'lib64'])
    if (!lstatSync(join(root, name), {throwIfNoEntry: false}))
      symlinkSync(readlinkSync(`/${name}`), join(root, name))
  return {
    root,
    mounts: ['mount', 'bind', '/usr', '/usr', 'rbind,ro', 'pty', 'console'],
    env: ['PATH=/bin', 'PS1=in> ', 'TERM=dumb'],
    before: ['terminal', 'keep'],
  }
}

test('an interactive bash: job control, Ctrl-C, Ctrl-Z, and the terminal as it was', async () => {
  const words = plan(['bash', '--norc', '--noediting', '-i'], hostRoot())
  const terminal = new Terminal(
    `stty -a > ${place}/before; ${asShellLine(words)}; echo status $?; stty -a > ${place}/after; exec cat`,
  )
  await terminal.expect(/in> /)
  terminal.type('echo $$-$((1+1))\n')
  await terminal.expect(/1-2\r\n/)
  terminal.type('sleep 60\n')
  await inForeground(terminal, 'sleep')
  terminal.type('\x03')
  await terminal.expect(/in> /)
  terminal.type('echo was $?\n')
  await terminal.expect(/was 130\r\n/)
  terminal.type('sleep 60\n')
  await inForeground(terminal, 'sleep')
  terminal.type('\x1a')
  await terminal.expect(/Stopped +sleep 60/)
  terminal.type('bg\n')
  await terminal.expect(/sleep 60 &/)
  terminal.type('kill %1; wait; jobs; tty; stat -c %t:%T /dev/console; stty -echo raw; exit 5\n')
  await terminal.expect(/[0-9a-f]+:[0-9a-f]+\r\n/)
  await terminal.expect(/status 5\r\n/)
  assert.not.match(terminal.text, /no job control|cannot set terminal process group/)
  terminal.child.stdin.end('\x04')
  await terminal.ended
  assert.is(readFileSync(`${place}/after`, 'utf8'), readFileSync(`${place}/before`, 'utf8'))
})

test('Ctrl-C and Ctrl-\\ end a command that does not handle them', async () => {
  for (const [key, status] of [
    ['\x03', 130],
    ['\x1c', 131],
  ] as const)
    for (const after of [[], ['init']]) {
      const words = plan(['sh', '-c', 'exec sleep 60'], {before: ['terminal', 'keep'], after})
      const terminal = new Terminal(`trap : INT QUIT; ${asShellLine(words)}; echo status $?`)
      await inForeground(terminal, 'sleep')
      terminal.type(key)
      assert.is(Number((await terminal.expect(/status (\d+)/))[1]), status)
      await terminal.ended
    }
})

test('in an interactive shell: the container is a job like any other', async () => {
  for (const after of [[], ['init']]) {
    const before = ['terminal', 'keep']
    const line = asShellLine(plan(['sh', '-c', 'echo re""ady; while :; do sleep 0.1; done'], {before, after}))
    const terminal = new Terminal("env PS1='out> ' bash --norc --noediting -i")
    await terminal.expect(/out> /)
    terminal.type(`true | ${line}\n`)
    await terminal.expect(/ready/)
    terminal.type('\x1a')
    await terminal.expect(/Stopped/)
    await terminal.expect(/out> /)
    // The container is a session of its own.
    terminal.type(
      'p=$(pgrep -x hew:supervisor -t $(tty | cut -c 6-)); ps -o stat,comm -p $p --sid $(pgrep -P $p); jobs\n',
    )
    await terminal.expect(/T\w* +hew:supervisor/)
    await terminal.expect(/T\w* +sh\r\n/)
    await terminal.expect(/out> /)
    terminal.type('fg\n')
    await inForeground(terminal, 'hew:supervisor')
    terminal.type('\x03')
    await terminal.expect(/out> /)
    terminal.type('echo was $?\n')
    await terminal.expect(/was 130/)
    terminal.type('exit\n')
    await terminal.ended
  }
})

test('an interactive shell inside, suspended from outside, gets the terminal back with fg', async () => {
  const line = asShellLine(plan(['bash', '--norc', '--noediting', '-i'], hostRoot()))
  const terminal = new Terminal("env PS1='out> ' bash --norc --noediting -i")
  await terminal.expect(/out> /)
  terminal.type(`${line}\n`)
  await terminal.expect(/in> /)
  let supervisor = terminal.child.pid!
  while (readFileSync(`/proc/${supervisor}/comm`, 'utf8') !== 'hew:supervisor\n')
    supervisor = childOf(supervisor)
  process.kill(supervisor, 'SIGTSTP')
  await terminal.expect(/Stopped/)
  await terminal.expect(/out> /)
  terminal.type('fg\n')
  await inForeground(terminal, 'hew:supervisor')
  terminal.type('echo $((40+2)); exit 3\n')
  await terminal.expect(/42\r\n/)
  await terminal.expect(/out> /)
  terminal.type('echo was $?; exit\n')
  await terminal.expect(/was 3/)
  await terminal.ended
})

test('stdin used up by the pipe: the terminal takes its place', async () => {
  const words = plan(['sh', '-c', 'read line; echo got $line; [ -t 0 ] && echo tty'], {
    before: ['terminal', 'take'],
  })
  const terminal = new Terminal(`true | ${asShellLine(words)}; echo status $?`)
  await sleep(200)
  terminal.type('hello\n')
  await terminal.expect(/got hello\r\ntty\r\nstatus 0/)
  await terminal.ended
  assert.is(stage(plan(['cat'], {before: ['terminal', 'keep']}), 'data').stdout, 'data')
})

// ---- as an ordinary user ----

const asUser = requires(tests, 'root', 'busybox', 'setpriv', 'newuidmap')
const NOBODY = 65534

/** As nobody, who may have a range of ids: in a mount namespace where /etc/subuid says so. */
function asNobody(words: string[]): Outcome {
  writeFileSync(join(place, 'subid'), `${NOBODY}:200000:65536\n`)
  const line = `mount --bind ${place}/subid /etc/subuid && mount --bind ${place}/subid /etc/subgid &&
    exec setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups ${asShellLine(words)}`
  const {stdout, stderr, status} = spawnSync('unshare', ['-m', 'sh', '-c', line], {input: ''})
  return {stdout: stdout.toString(), stderr: stderr.toString(), status: status!}
}

asUser('an ordinary user: own id, and a range by newuidmap', () => {
  const line =
    'id -u; id -g; cat /proc/self/uid_map; touch /tmp/mine && chown 7:7 /tmp/mine && stat -c %u /tmp/mine; ls /dev | wc -l'
  // biome-ignore format: a step a line
  const mounts = ['mount', 'tmpfs', 'tmpfs', '/tmp', 'mode=1777', 'oom-score-adj', '100']
  const range = `0 ${NOBODY} 1\n1 200000 65536\n`
  const whole = asNobody(plan(['sh', '-c', line], {map: ['newuidmap', range, range, 'allow'], mounts}))
  assert.is(whole.stderr, '')
  assert.equal(whole.stdout.trim().split(/\s+/), [
    '0',
    '0',
    '0',
    `${NOBODY}`,
    '1',
    '1',
    '200000',
    '65536',
    '7',
    '9',
  ])
  const one = asNobody(
    plan(['sh', '-c', line], {map: ['direct', `0 ${NOBODY} 1\n`, `0 ${NOBODY} 1\n`, 'deny'], mounts}),
  )
  assert.match(one.stderr, 'chown: /tmp/mine: Invalid argument')
  assert.equal(one.stdout.trim().split(/\s+/), ['0', '0', '0', `${NOBODY}`, '1', '9'])
  const toomuch = asNobody(plan(['true'], {map: ['newuidmap', '0 0 10\n', '0 0 10\n', 'allow'], mounts}))
  assert.is(toomuch.status, 125)
  assert.match(
    toomuch.stderr,
    'cannot map a range of ids: newuidmap refused (see /etc/subuid and /etc/subgid)',
  )
})

// ---- nothing is left ----

test('a thousand containers leave nothing', () => {
  const before = machine()
  const files = readdirSync(ROOT)
  for (let i = 0; i < (IN_GUEST ? 100 : 1000); i++) assert.is(stage(plan(['true'])).status, 0)
  assert.equal(machine(), before)
  assert.equal(readdirSync(ROOT), files)
  assert.ok(lstatSync(ROOT).isDirectory())
})

tests.run()
