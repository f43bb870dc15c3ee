import {spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, type Outcome, requires, run, scratch, shell, until} from '../support.ts'

/** `enter`, through the built binary: what a command finds inside. */

const here = scratch()
fs.chmodSync(here, 0o755)
const asRoot = requires(test, 'root')

const root = `${here}/root`
fs.mkdirSync(root)
const PROGRAMS =
  'sh bash ls cat id env grep readlink hostname mount umount ip sleep touch rm mkdir stat wc ps kill unshare test true false tr head sort find capsh'
hew('copy-deps', '-q', '-r', root, ...PROGRAMS.split(' ').filter(name => name !== 'capsh'))
for (const directory of ['etc', 'root', 'mnt', 'home/user'])
  fs.mkdirSync(`${root}/${directory}`, {recursive: true})
fs.writeFileSync(`${root}/etc/passwd`, 'root:x:0:0::/root:/bin/sh\nuser:x:1000:100::/home/user:/bin/sh\n')
fs.writeFileSync(`${root}/etc/group`, 'root:x:0:\nusers:x:100:\nwheel:x:10:user\n')

const enter = (...words: string[]): Outcome => hew('enter', '-r', root, ...words)
/** What a shell line prints inside; it must succeed. */
function inside(line: string, ...options: string[]): string {
  const {stdout, stderr, status} = enter(...options, '--', 'sh', '-c', line)
  assert.is(stderr, '')
  assert.is(status, 0)
  return stdout.trimEnd()
}

const KINDS = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts']
const own = (kind: string): string => fs.readlinkSync(`/proc/self/ns/${kind}`)
const namespaces = (...options: string[]): string[] =>
  inside(
    `cd /proc/self/ns && for kind in ${KINDS.join(' ')} time; do [ ! -L $kind ] || readlink $kind; done`,
    ...options,
  ).split('\n')

asRoot('every namespace but time is new', () => {
  const found = namespaces()
  assert.equal(
    KINDS.map((kind, i) => found[i] === own(kind)),
    KINDS.map(() => false),
  )
  // Linux may be built without them.
  if (!fs.existsSync('/proc/self/ns/time')) return
  assert.is(found.at(-1), own('time'))
  assert.is.not(namespaces('--time').at(-1), own('time'))
})

asRoot('--share keeps some', () => {
  const shared = ['net', 'uts']
  const found = namespaces('--share', 'uts', '--net', 'host')
  assert.equal(
    KINDS.filter((kind, i) => found[i] === own(kind)),
    shared,
  )
  // Where the machine mounts no /dev/mqueue, sharing its queues is said not to be honoured.
  assert.is(enter('--share', 'ipc', '--', 'readlink', '/proc/self/ns/ipc').stdout, `${own('ipc')}\n`)
  assert.equal(namespaces('--share', 'pid')[4], own('pid'))
  assert.equal(namespaces('--share', 'user')[5], own('user'))
})

asRoot('root inside is the caller outside; --map auto and all map more', () => {
  assert.is(inside('cat /proc/self/uid_map').replace(/ +/g, ' '), ' 0 0 1')
  assert.match(
    inside('cat /proc/self/uid_map', '--map', 'auto').replace(/ +/g, ' '),
    /^ 0 0 1\n 1 \d+ \d{5,}$/,
  )
  assert.is(inside('cat /proc/self/gid_map', '--map', 'all').replace(/ +/g, ' '), ' 0 0 4294967295')
})

asRoot("the machine's files are out of sight", () => {
  assert.is(
    inside('pwd; test -e /proc/1/root/bin/bash && ls /proc/1/root/etc | sort | tr "\\n" " "'),
    '/\ngroup passwd',
  )
  const mounts = inside('cat /proc/self/mountinfo').split('\n')
  assert.equal(
    mounts.map(line => line.split(' ')[4]).filter(at => !/^\/(dev|proc|sys|tmp)\b|^\/$/.test(at!)),
    [],
  )
})

asRoot('the mounts and devices of the default document', () => {
  const types = inside('cat /proc/mounts')
    .split('\n')
    .map(line => line.split(' '))
  const type = (at: string): string | undefined => types.find(([, path]) => path === at)?.[2]
  assert.equal(['/proc', '/sys', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue', '/tmp'].map(type), [
    'proc',
    'sysfs',
    'tmpfs',
    'devpts',
    'tmpfs',
    'mqueue',
    'tmpfs',
  ])
  assert.is(
    inside('ls /dev | sort | tr "\\n" " "'),
    'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero',
  )
  assert.is(
    inside('echo gone > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c'),
    '3\n3',
  )
  assert.is(inside('stat -c %a /tmp /dev/shm'), '1777\n1777')
})

asRoot('what runc masks is masked, what it makes read-only is read-only', () => {
  assert.is(inside('cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l'), '0\n0')
  assert.match(inside('(echo x > /proc/sys/kernel/domainname) 2>&1 || true'), /Read-only file system/)
  const mounts = inside('cat /proc/self/mountinfo')
    .split('\n')
    .map(line => line.split(' '))
  for (const path of ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/sys'])
    assert.match(mounts.find(fields => fields[4] === path)?.[5] ?? '', /^ro,/, path)
})

asRoot('the loopback is up, and nothing else is there', () => {
  assert.match(inside('ip -o link'), /^1: lo: <LOOPBACK,UP,LOWER_UP> [^\n]*$/)
  assert.not.match(inside('ip -o link', '--net', 'host'), /^1: lo:[^\n]*$/)
})

asRoot("the hostname is the root's name, or --hostname", () => {
  assert.is(inside('hostname'), 'root')
  assert.is(inside('hostname', '--hostname', 'other'), 'other')
})

asRoot('--bind, --bind :ro with what is mounted below, --tmpfs, --read-only', () => {
  fs.mkdirSync(`${here}/shared/below`, {recursive: true})
  fs.writeFileSync(`${here}/shared/file`, 'text')
  inside('cat /mnt/file && touch /mnt/made', '--bind', `${here}/shared:/mnt`)
  assert.ok(fs.existsSync(`${here}/shared/made`))
  const {stdout} = run('unshare', [
    '--mount',
    'sh',
    '-c',
    `mount -t tmpfs tmpfs ${here}/shared/below && '${HEW}' enter -r ${root} --bind ${here}/shared:/mnt:ro -- sh -c '(touch /mnt/x; touch /mnt/below/x) 2>&1'`,
  ])
  assert.is(stdout.match(/Read-only file system/g)?.length, 2)
  assert.is(inside('stat -f -c %T /scratch; touch /scratch/x', '--tmpfs', '/scratch:1m'), 'tmpfs')
  fs.rmdirSync(`${root}/scratch`)
  assert.is(
    inside('(touch /x) 2>&1; touch /tmp/x', '--read-only'),
    "touch: cannot touch '/x': Read-only file system",
  )
  assert.is(inside('cat /etc/hello', '--bind', `${here}/shared/file:/etc/hello`), 'text')
  fs.rmSync(`${root}/etc/hello`)
})

asRoot('a clean environment, --env, --workdir', () => {
  const from = {
    TERM: 'vt100',
    SECRET: 'x',
    NODE_OPTIONS: '--inspect',
    LD_LIBRARY_PATH: '/x',
    ZX_SHELL: 'y',
    TOLD: 'z',
  }
  const outcome = run(
    HEW,
    ['enter', '-r', root, '-e', 'A=1', '-e', 'A=2', '-e', 'TOLD', '-e', 'E=', '--', 'env'],
    {env: from},
  )
  assert.equal(outcome.stdout.trim().split('\n').sort(), [
    'A=2',
    'E=',
    'HOME=/root',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'TERM=vt100',
    'TOLD=z',
  ])
  assert.is(inside('pwd', '--workdir', '/usr/bin'), '/usr/bin')
  assert.is(
    enter('--workdir', '/nope', '--', 'true').stderr,
    'hew enter: the working directory /nope is not in the root: No such file or directory\n',
  )
})

asRoot("--user by the root's own passwd; an id that is not mapped says what to do", () => {
  assert.is(
    inside('id; echo $HOME', '--map', 'all', '--user', 'user'),
    'uid=1000(user) gid=100(users) groups=100(users),10(wheel)\n/home/user',
  )
  assert.is(inside('id', '--map', 'all', '--user', '7:8'), 'uid=7 gid=8 groups=8')
  assert.is(
    enter('--user', 'nobody', 'true').stderr,
    `hew enter: ${root} has no user nobody: its /etc/passwd has no such line\n`,
  )
  assert.is(
    enter('--user', 'user', 'true').stderr,
    'hew enter: user 1000 does not exist in this user namespace: map more ids with --map auto\n',
  )
})

const status = (...options: string[]): Record<string, string> =>
  Object.fromEntries(
    inside('cat /proc/self/status', ...options)
      .split('\n')
      .map(line => line.split(':\t') as [string, string]),
  )

asRoot("Docker's capabilities and no_new_privs; --cap-add, --cap-drop", () => {
  const {CapEff, CapBnd, CapAmb, NoNewPrivs} = status()
  assert.equal(
    [CapEff, CapBnd, CapAmb, NoNewPrivs],
    ['00000000a80425fb', '00000000a80425fb', '0000000000000000', '1'],
  )
  assert.is(status('--cap-drop', 'ALL').CapEff, '0000000000000000')
  assert.is(status('--cap-drop', 'ALL', '--cap-add', 'net_admin').CapEff, '0000000000001000')
  assert.is(status('--cap-add', 'ALL').CapEff, '000001ffffffffff')
  // Without a user namespace CAP_MKNOD would be the right to the machine's disks.
  assert.is(status('--share', 'user').CapEff, '00000000a00425fb')
})

asRoot('a clean process: signals, mask, descriptors, limits, umask', () => {
  const line = `exec 7</dev/null 8>/dev/null; trap '' PIPE USR1; ulimit -n 512; umask 027; hew enter -r '${root}' -- sh -c 'grep -E "^Sig(Ign|Blk|Cgt)" /proc/self/status; ls -l /proc/self/fd | wc -l; ulimit -n; umask'`
  const {stdout} = shell(line)
  const lines = stdout.trim().split('\n')
  assert.equal(
    lines.slice(0, 3).map(text => /\s0{16}$/.test(text)),
    [true, true, lines[2]!.startsWith('SigCgt') && /\s0{16}$/.test(lines[2]!)],
  )
  assert.equal(lines.slice(3), ['5', '512', '0027'])
})

asRoot('--by-hand: all capabilities, nothing mounted, and the three mount lines of the lesson work', () => {
  const bare = hew(
    'enter',
    '--by-hand',
    '-r',
    root,
    '--',
    'sh',
    '-c',
    'test -e /proc/self || echo nothing mounted; pwd',
  )
  assert.is(bare.stdout, 'nothing mounted\n/\n')
  const mounted = hew(
    'enter',
    '--by-hand',
    '-r',
    root,
    'sh',
    '-c',
    'mount -t proc none /proc && mount -t sysfs none /sys && mount -t tmpfs none /tmp && grep CapEff /proc/self/status && ps ax | grep -c .',
  )
  assert.is(mounted.stderr, '')
  assert.match(mounted.stdout, /^CapEff:\t000001ffffffffff\n\d\n$/)
})

for (const [name, words, expected] of [
  ["the command's own", ['sh', '-c', 'exit 42'], 42],
  ['255', ['sh', '-c', 'exit 255'], 255],
  ['killed by a signal', ['sh', '-c', 'kill -9 $$; sh -c "kill -9 \\$PPID"; exit 3'], 3],
  ['a child killed', ['sh', '-c', 'sh -c "kill -TERM \\$\\$"'], 143],
  ['under --init killed by a signal', ['--init', '--', 'sh', '-c', 'kill -9 $$'], 137],
] as const)
  asRoot(`exit status: ${name}`, () => assert.is(enter(...words).status, expected))

asRoot('--init: PID 1 reaps, the command is PID 2', () => {
  assert.is(
    inside('echo $$; (sleep 0.1 & ); sleep 0.4; ps ax -o stat | grep -c Z || true', '--init').split('\n')[0],
    '2',
  )
})

async function started(words: string[]): Promise<{child: ReturnType<typeof spawn>; ended: Promise<number>}> {
  const child = spawn(HEW, words, {stdio: ['ignore', 'pipe', 'inherit']})
  const ended = new Promise<number>(done =>
    child.on('exit', (code, signal) => done(signal ? 1000 : (code ?? -1))),
  )
  await new Promise(ready => child.stdout!.once('data', ready))
  return {child, ended}
}

asRoot('signals are passed on; a command without a handler ends by them', async () => {
  const trapped = await started([
    'enter',
    '-r',
    root,
    '--',
    'bash',
    '-c',
    'trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done',
  ])
  trapped.child.kill('SIGTERM')
  assert.is(await trapped.ended, 5)
  const plain = await started(['enter', '-r', root, '--', 'bash', '-c', 'echo ready; exec sleep 100'])
  const command = fs.readFileSync(`/proc/${plain.child.pid}/task/${plain.child.pid}/children`, 'utf8').trim()
  await until('the exec', () => fs.readFileSync(`/proc/${command}/comm`, 'utf8') === 'sleep\n')
  plain.child.kill('SIGINT')
  assert.is(await plain.ended, 130)
})

/** Is there a process `sleep SECONDS`, itself? */
const sleeps = (seconds: string): boolean =>
  fs.readdirSync('/proc').some(pid => {
    try {
      return /^\d+$/.test(pid) && fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `sleep\0${seconds}\0`
    } catch {
      return false
    }
  })

async function eventually(what: () => boolean): Promise<boolean> {
  for (let i = 0; i < 100 && !what(); i++) await new Promise(later => setTimeout(later, 50))
  return what()
}

asRoot('without a mount namespace only the root changes', () => {
  assert.is(inside('pwd; ls /etc', '--share', 'mount'), '/\ngroup\npasswd')
})

asRoot('where setgroups is denied already', () => {
  const {stdout, stderr} = run('unshare', ['--user', '--map-root-user', HEW, 'enter', '-r', root, 'id', '-u'])
  assert.equal([stdout, stderr], ['0\n', ''])
})

asRoot('killed with -9, the container dies too', async () => {
  const marker = `98765.${process.pid}`
  const {child, ended} = await started([
    'enter',
    '-r',
    root,
    '--',
    'bash',
    '-c',
    `echo ready; sleep ${marker} & sleep ${marker}`,
  ])
  assert.ok(await eventually(() => sleeps(marker)))
  child.kill('SIGKILL')
  assert.is(await ended, 1000)
  assert.ok(await eventually(() => !sleeps(marker)))
})

asRoot('--die-with-parent', async () => {
  const marker = `87654.${process.pid}`
  const line = `'${HEW}' enter --die-with-parent -r '${root}' -- sleep ${marker} & wait`
  const parent = spawn('sh', ['-c', line], {stdio: 'ignore'})
  assert.ok(await eventually(() => sleeps(marker)))
  parent.kill('SIGKILL')
  assert.ok(await eventually(() => !sleeps(marker)))
})

asRoot('what waits beside a container is small', async () => {
  const words = ['enter', '-r', root, '--', 'bash', '-c', 'echo ready; exec sleep 100']
  const {child, ended} = await started(words)
  const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')
  const comm = fs.readFileSync(`/proc/${child.pid}/comm`, 'utf8')
  child.kill('SIGTERM')
  assert.is(await ended, 143)
  // What is nobody else's: the rest of it is the file's, in the page cache.
  const kilobytes = Number(/^RssAnon:\s+(\d+) kB/m.exec(status)![1])
  assert.ok(kilobytes < 500, `${kilobytes} KB of private memory`)
  assert.is(comm, 'hew:supervisor\n')
})

asRoot('the rest of the pipe belongs to the command', () => {
  fs.writeFileSync(`${here}/data`, 'line\n'.repeat(100_000))
  const piped = shell(`(hew copy-deps -r '${root}' true; cat '${here}/data') | hew enter -- wc -l`)
  assert.equal([piped.stdout, piped.stderr], ['100000\n', ''])
  const pretty = JSON.stringify(JSON.parse(hew('copy-deps', '-r', root, 'true').stdout), null, 4)
  fs.writeFileSync(`${here}/pretty`, `${pretty}\nrest\n`)
  assert.is(shell(`hew enter -- cat < '${here}/pretty'`).stdout, 'rest\n')
  assert.is(shell(`cat '${here}/pretty' | hew enter -- cat`).stdout, 'rest\n')
})

asRoot('nothing is left of a container: mounts, processes', () => {
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8')
  for (let i = 0; i < 5; i++) assert.is(enter('--', 'true').status, 0)
  assert.is(fs.readFileSync('/proc/self/mountinfo', 'utf8'), mounts)
})

asRoot('a hostile root: its links lead nowhere, and nothing is made outside', () => {
  const hostile = `${here}/hostile`
  fs.cpSync(root, hostile, {recursive: true, verbatimSymlinks: true})
  const outside = `${here}/outside`
  fs.mkdirSync(outside)
  for (const name of ['proc', 'sys', 'dev', 'tmp']) {
    fs.rmSync(`${hostile}/${name}`, {recursive: true, force: true})
    fs.symlinkSync(`../../../../../../../../..${outside}`, `${hostile}/${name}`)
  }
  hew('enter', '-r', hostile, '--', 'true')
  assert.equal(fs.readdirSync(outside), [])
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8')
  assert.not.match(mounts, /hew-test-[^ ]*outside/)
})

requires(
  test,
  'root',
  'setpriv',
)('as an ordinary user, on a root of their own', () => {
  const user = {uid: 65534, gid: 65534, env: {HOME: `${here}/user`}}
  fs.mkdirSync(`${here}/user`)
  fs.chownSync(`${here}/user`, 65534, 65534)
  const mine = `${here}/user/root`
  fs.mkdirSync(mine)
  fs.chownSync(mine, 65534, 65534)
  assert.is(run(HEW, ['copy-deps', '-q', '-r', mine, 'sh', 'id', 'cat'], user).stderr, '')
  const outcome = run(
    HEW,
    ['enter', '-r', mine, '--', 'sh', '-c', 'id -u; cat /proc/self/uid_map; echo > /made'],
    user,
  )
  assert.is(outcome.stderr, '')
  assert.is(outcome.stdout.replace(/ +/g, ' '), '0\n 0 65534 1\n')
  assert.is(fs.statSync(`${mine}/made`).uid, 65534)
  assert.is(
    run(HEW, ['enter', '-r', mine, '--map', 'all', 'true'], user).stderr,
    'hew enter: --map all takes root: --map auto maps the ids that /etc/subuid gives to you\n',
  )
})

requires(
  test,
  'root',
  'setpriv',
  'newuidmap',
)('as an ordinary user, with a range of subordinate ids', () => {
  fs.writeFileSync(`${here}/subids`, 'nobody:200000:65536\n')
  const line = `mount --bind ${here}/subids /etc/subuid && mount --bind ${here}/subids /etc/subgid &&
    exec setpriv --reuid 65534 --regid 65534 --clear-groups '${HEW}' enter --map auto -r '${root}' "$@"`
  const as = (...words: string[]): Outcome => run('unshare', ['--mount', 'sh', '-c', line, 'sh', ...words])
  const mapped = as('cat', '/proc/self/uid_map')
  assert.is(mapped.stderr, '')
  assert.is(mapped.stdout.replace(/ +/g, ' '), ' 0 65534 1\n 1 200000 65536\n')
  assert.is(as('--user', 'user', '--', 'id', '-u').stdout, '1000\n')
})

requires(
  test,
  'root',
  'newuidmap',
  'setpriv',
)('--rm as an ordinary user: what other ids of the range own goes, too', () => {
  fs.writeFileSync(`${here}/subids`, 'nobody:200000:65536\n')
  // As /tmp: sticky, so that only the owner of a root may remove it.
  fs.mkdirSync(`${here}/sticky`)
  fs.chmodSync(`${here}/sticky`, 0o1777)
  const line = `mount --bind ${here}/subids /etc/subuid && mount --bind ${here}/subids /etc/subgid &&
    exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '
      "$0" mkroot --rm --with sh,touch,chown,chmod,mkdir,stat "$1" | "$0" enter --map auto -- sh -ec "$2"' "$@"`
  const as = (inside: string): Outcome =>
    run('unshare', ['--mount', 'sh', '-c', line, 'sh', HEW, `${here}/sticky/root`, inside])
  const files =
    'touch /x; chown 7:8 /x; mkdir /d /d/e; touch /d/e/y; chown -R 7 /d; chmod 700 /d; stat -c %u:%g /x'
  assert.equal(as(files), {stdout: '7:8\n', stderr: '', status: 0})
  assert.equal(fs.readdirSync(`${here}/sticky`), [])
  assert.equal(as(`${files}; chown 7 /; exit 3`), {stdout: '7:8\n', stderr: '', status: 3})
  assert.equal(fs.readdirSync(`${here}/sticky`), [])
})

asRoot('two containers of one root at once do not see each other', async () => {
  const first = await started(['enter', '-r', root, '--', 'bash', '-c', 'echo ready; exec sleep 100'])
  assert.is(inside('ps ax -o args | grep -c "[s]leep" || true'), '0')
  first.child.kill('SIGTERM')
  assert.is(await first.ended, 143)
})

test.run()
