import {type ChildProcess, spawn, spawnSync} from 'node:child_process'
import {createHash} from 'node:crypto'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {read, statOf} from '../../lib/kernel.ts'
import {
  HEW,
  hew,
  IN_GUEST,
  type Outcome,
  requires,
  run,
  type Spawning,
  scratch,
  shell,
  until,
} from '../support.ts'

/** `enter -t`: a command in a container that runs, or beside any process. */

const here = scratch()
fs.chmodSync(here, 0o755)
const asRoot = requires(test, 'root')

const root = `${here}/root`
fs.mkdirSync(root)
hew(
  'copy-deps',
  '-q',
  '-r',
  root,
  ...'sh bash cat sleep true id readlink ls grep env stat mkdir ps kill touch'.split(' '),
)
for (const directory of ['etc', 'home/user', 'mnt', 'proc', 'tmp'])
  fs.mkdirSync(`${root}/${directory}`, {recursive: true})
fs.writeFileSync(`${root}/etc/passwd`, 'root:x:0:0::/root:/bin/sh\nuser:x:1000:100::/home/user:/bin/sh\n')
fs.writeFileSync(`${root}/etc/group`, 'root:x:0:\nusers:x:100:\nwheel:x:10:user\n')

const STATES = '/run/hew'
const stateOf = (id: string, states = STATES) =>
  JSON.parse(fs.readFileSync(`${states}/${id}/state.json`, 'utf8'))
const children: ChildProcess[] = []
const names: string[] = []

/** A container in the background, of this test's own. */
function container(...options: string[]): {id: string; pid: number; supervisor: number} {
  const id = `join-${process.pid}-${names.length}`
  names.push(id)
  const {stdout, stderr, status} = hew(
    'enter',
    '-d',
    '--name',
    id,
    '-r',
    root,
    ...options,
    '--',
    'sleep',
    '300',
  )
  assert.equal([stderr, status], ['', 0])
  const {pid, annotations} = JSON.parse(stdout)
  return {id, pid, supervisor: Number(annotations['dev.hew.supervisor'].split(' ')[0])}
}

test.after(() => {
  for (const child of children) child.kill('SIGKILL')
  for (const id of names) if (fs.existsSync(`${STATES}/${id}`)) hew('rm', '-f', id)
})

/** What a shell line prints in there; it must succeed. */
function inside(
  target: string | number,
  line: string,
  options: string[] = [],
  spawning: Spawning = {},
): string {
  const {stdout, stderr, status} = run(
    HEW,
    ['enter', '-t', `${target}`, ...options, '--', 'sh', '-c', line],
    spawning,
  )
  assert.equal([stderr, status], ['', 0])
  return stdout.trimEnd()
}

/** The test kernel has no time namespaces. */
const KINDS = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'time', 'user', 'uts'].filter(kind =>
  fs.existsSync(`/proc/self/ns/${kind}`),
)
const TIME = KINDS.includes('time') ? ['--time'] : []
const namespaces = (pid: number | 'self'): string[] =>
  KINDS.map(kind => fs.readlinkSync(`/proc/${pid}/ns/${kind}`))
const LIST = `for kind in ${KINDS.join(' ')}; do readlink /proc/self/ns/$kind; done`
/** What makes up an identity: ids, capabilities and what cannot be gained. */
const IDENTITY = '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Umask|Seccomp):'
const identityOf = (pid: number): string =>
  fs
    .readFileSync(`/proc/${pid}/status`, 'utf8')
    .split('\n')
    .filter(line => new RegExp(IDENTITY).test(line))
    .join('\n')

asRoot('namespaces, cgroups, root, ids and capabilities are those of the container', () => {
  for (const options of [
    [],
    ['--user', 'user', '--cap-drop', 'CHOWN', '--map', 'auto', ...TIME],
    ['--share', 'user,net'],
    ['--init'],
  ]) {
    const {id, pid} = container(...options)
    const found = inside(id, `${LIST}; stat -c %d:%i /`).split('\n')
    assert.equal(found.slice(0, -1), namespaces(pid))
    const {dev, ino} = fs.statSync(`/proc/${pid}/root/`)
    assert.is(found.at(-1), `${dev}:${ino}`)
    // As the machine counts: the same file, read from outside.
    const joined = spawn(HEW, ['enter', '-t', id, '--', 'sh', '-c', 'echo ready; exec sleep 300'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(joined)
    const command = childOf(joined)
    assert.is(
      fs.readFileSync(`/proc/${command}/cgroup`, 'utf8'),
      fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8'),
    )
    const first =
      options[0] === '--init' ? Number(fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) : pid
    assert.is(identityOf(command), identityOf(first), `${options}`)
    joined.kill('SIGKILL')
    hew('rm', '-f', id)
  }
})

/** The process that a supervisor waits for, once it executes. */
function childOf(supervisor: ChildProcess): number {
  for (let i = 0; i < 400; i++) {
    const pid = Number(
      fs.readFileSync(`/proc/${supervisor.pid}/task/${supervisor.pid}/children`, 'utf8').split(' ')[0],
    )
    // The first child only joins, and is gone at once.
    if (pid && read(`/proc/${pid}/cmdline`)?.startsWith('sleep')) return pid
    spawnSync('sleep', ['0.025'])
  }
  throw new Error('never: a joined command')
}

asRoot('nothing of the caller comes along: descriptors, environment, directory', () => {
  const {id} = container('--env', 'OWN=1', '--workdir', '/tmp')
  const secret = fs.openSync('/etc/passwd', 'r')
  const words = ['enter', '-t', id, '--', 'sh', '-c', 'ls /proc/self/fd; pwd; env']
  const {stdout} = spawnSync(HEW, words, {
    stdio: ['ignore', 'pipe', 'inherit', secret, secret],
    env: {PATH: process.env.PATH, SECRET: 'x'},
    cwd: here,
  })
  fs.closeSync(secret)
  const lines = stdout.toString().trim().split('\n')
  // 3 is what ls reads.
  assert.equal(lines.slice(0, 5), ['0', '1', '2', '3', '/tmp'])
  assert.ok(lines.includes('OWN=1'))
  assert.not.ok(lines.some(line => line.startsWith('SECRET')))
  assert.is(inside(id, 'pwd; id -u; echo $A', ['-w', '/home', '-e', 'A=b']), '/home\n0\nb')
})

asRoot('-u is a user of the root, and no option widens what the container may', () => {
  const {id} = container('--map', 'auto')
  assert.is(inside(id, 'id -u; id -g; id -G; echo $HOME', ['-u', 'user']), '1000\n100\n100 10\n/home/user')
  for (const option of [
    ['--cap-add', 'ALL'],
    ['--bind', '/:/mnt'],
    ['--name', 'x'],
    ['--detach'],
    ['-r', root],
    ['--by-hand'],
  ]) {
    const {status, stderr} = hew('enter', '-t', id, ...option, '--', 'true')
    assert.is(status, 2)
    assert.match(stderr, /^hew enter: --target joins what is there already: leave --[a-z-]+ out\n/)
  }
})

asRoot('a directory outside of the root is none (CVE-2024-21626)', () => {
  const {id} = container()
  for (const cwd of ['/proc/self/fd/8', '/proc/self/fd/9', '/nowhere', '/proc/1/cwd/../../..']) {
    const {stdout, status} = hew('enter', '-t', id, '-w', cwd, '--', 'ls', '-d', 'etc/shadow')
    assert.is(stdout, '')
    assert.is.not(status, 0)
  }
})

asRoot('a container entered by hand: its root by chroot, all capabilities, the environment it had', () => {
  const {id, pid} = container('--by-hand')
  assert.is(
    inside(id, 'pwd; ls -d /home/user; test -e /etc/shadow || echo out of sight'),
    '/\n/home/user\nout of sight',
  )
  const words = ['enter', '-t', id, '--', 'sleep', '300']
  const joined = spawn(HEW, words, {stdio: 'ignore'})
  children.push(joined)
  const command = childOf(joined)
  assert.is(identityOf(command), identityOf(pid))
  assert.equal(namespaces(command), namespaces(pid))
  assert.is(
    fs.readFileSync(`/proc/${command}/environ`, 'utf8').split('\0').sort().join('\n'),
    fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').sort().join('\n'),
  )
})

asRoot('any process: one that unshare has isolated, and one that nobody has', async () => {
  const flags = '--mount --uts --ipc --net --pid --fork --user --map-root-user --kill-child'
  const isolated = spawn('unshare', [...flags.split(' '), 'chroot', root, 'sleep', '300'], {stdio: 'ignore'})
  children.push(isolated)
  let pid = 0
  await until('an isolated process', () => {
    pid = Number(fs.readFileSync(`/proc/${isolated.pid}/task/${isolated.pid}/children`, 'utf8').split(' ')[0])
    return pid > 0 && fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep')
  })
  assert.is(
    inside(pid, 'mount -t proc none /proc 2>/dev/null; echo $$; id -u; ls -d /home/user; echo $A', [], {
      env: {A: 'own', PATH: '/bin:/usr/bin'},
    }),
    '2\n0\n/home/user\nown',
  )
  assert.is(hew('enter', '-t', `${pid}`, '--', 'sh', '-c', 'exit 5').status, 5)

  const plain = spawn('sleep', ['300'], {stdio: 'ignore', cwd: '/usr'})
  children.push(plain)
  const found = inside(plain.pid!, `${LIST}; pwd; grep CapEff /proc/self/status; echo $A`, [], {
    env: {A: 'b', PATH: process.env.PATH},
  }).split('\n')
  assert.equal(found.slice(0, KINDS.length), namespaces('self'))
  const own = /^CapEff:.*$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))![0]
  assert.equal(found.slice(KINDS.length), ['/usr', own, 'b'])
})

asRoot('by its PID, or by that of its supervisor, it is the container', () => {
  const {pid, supervisor} = container('--env', 'OWN=1')
  assert.is(inside(pid, 'echo $OWN'), '1')
  assert.is(inside(supervisor, 'echo $OWN'), '1')
})

asRoot('without a command: bash, where there is one', () => {
  const {id} = container()
  assert.is(run(HEW, ['enter', '-t', id], {input: 'echo $BASH_VERSION\n'}).stdout.slice(0, 2), '5.')
  assert.is(run(HEW, ['enter', '-t', id], {input: 'exit 7\n'}).status, 7)
})

asRoot('what is not there: one line, and 125', async () => {
  const {id, pid, supervisor} = container()
  const attempts: [string, RegExp][] = [
    ['join-none-such', /no container is called join-none-such/],
    ['4194303', /there is no process 4194303/],
  ]
  process.kill(supervisor, 'SIGTERM')
  await until('its end', () => stateOf(id).status === 'stopped')
  attempts.push([id, new RegExp(`${id} has ended`)], [`${pid}`, /there is no process/])
  for (const [target, message] of attempts) {
    const {stdout, stderr, status} = hew('enter', '-t', target, '--', 'true')
    assert.equal([stdout, status], ['', 125])
    assert.match(stderr, message)
    assert.is(stderr.split('\n').length, 2)
  }
  assert.is(hew('enter', '-t', container().id, '--', 'nonesuch').status, 127)
  assert.is(hew('enter', '-t', container().id, '--', '/etc/passwd').status, 126)
})

/** The stage alone, as hew becomes it. */
function stage(...words: string[]): Outcome {
  const env = Object.fromEntries(words.map((word, i) => [`${i}`, word]))
  const {stdout, stderr, status} = spawnSync(HEW, ['enter'], {argv0: 'hew-stage', env, timeout: 60_000})
  return {stdout: `${stdout}`, stderr: `${stderr}`, status: status ?? -1}
}

asRoot('a PID that is another process by now is not joined', () => {
  const plain = spawn('sleep', ['300'], {stdio: 'ignore'})
  children.push(plain)
  const start = statOf(plain.pid!)![19]!
  const then = ['env', '0', 'exec', '1', '/bin/true']
  assert.is(stage('as', 'hew enter', 'clone-into', `${plain.pid}`, start, 'root', ...then).status, 0)
  const recycled = stage(
    'as',
    'hew enter',
    'clone-into',
    `${plain.pid}`,
    `${Number(start) - 1}`,
    'root',
    ...then,
  )
  assert.equal(recycled, {stdout: '', stderr: `hew enter: the process ${plain.pid} is gone\n`, status: 125})
})

asRoot('signals reach the joined command; the container lives on, and ends it', async () => {
  const {id, supervisor} = container()
  const words = [
    'enter',
    '-t',
    id,
    '--',
    'sh',
    '-c',
    'trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done',
  ]
  const start = async (): Promise<{child: ChildProcess; ended: Promise<number>}> => {
    const child = spawn(HEW, words, {stdio: ['ignore', 'pipe', 'inherit']})
    children.push(child)
    const ended = new Promise<number>(done => child.on('exit', (code, signal) => done(signal ? 1000 : code!)))
    await new Promise(ready => child.stdout!.once('data', ready))
    return {child, ended}
  }
  const first = await start()
  first.child.kill('SIGTERM')
  assert.is(await first.ended, 5)
  assert.is(stateOf(id).status, 'running')
  const killed = await start()
  killed.child.kill('SIGKILL')
  assert.is(await killed.ended, 1000)
  await until(
    'the end of what was joined',
    () =>
      !/trap/.test(
        inside(id, 'cd /proc; for p in [0-9]*; do [ $p = $$ ] || cat $p/cmdline; done 2>/dev/null; true'),
      ),
  )
  const second = await start()
  process.kill(supervisor, 'SIGTERM')
  assert.is(await second.ended, 137)
})

requires(
  test,
  'root',
  'strace',
)('kernels that join one namespace at a time (before Linux 5.8)', () => {
  for (const options of [[], ['--share', 'user,net']]) {
    const {id, pid} = container(...options)
    const words = [
      '-f',
      '-qq',
      '-o',
      '/dev/null',
      '-e',
      'trace=setns',
      '-e',
      'inject=setns:error=EINVAL:when=1',
    ]
    const {stdout, stderr} = run('strace', [...words, HEW, 'enter', '-t', id, '--', 'sh', '-c', LIST])
    assert.is(stderr, '')
    assert.equal(stdout.trim().split('\n'), namespaces(pid))
  }
})

asRoot('an ordinary user joins what is their own, and nothing else', async () => {
  const runtime = `${here}/runtime`
  fs.mkdirSync(runtime, {mode: 0o700})
  fs.chownSync(runtime, 65534, 65534)
  const user = {uid: 65534, gid: 65534, env: {XDG_RUNTIME_DIR: runtime, PATH: process.env.PATH}}
  const words = ['enter', '-d', '--name', 'mine', '-r', root, '--', 'sleep', '300']
  const {stdout, stderr} = run(HEW, words, user)
  assert.is(stderr, '')
  const {pid, annotations} = JSON.parse(stdout)
  assert.equal(inside('mine', `${LIST}; id -u`, [], user).split('\n'), [...namespaces(pid), '0'])
  const plain = spawn('sleep', ['300'], {stdio: 'ignore', uid: 65534, gid: 65534, cwd: '/usr'})
  children.push(plain)
  assert.is(inside(plain.pid!, 'pwd; id -u', [], user), '/usr\n65534')
  for (const target of [`${process.pid}`, `${container().pid}`]) {
    const refused = run(HEW, ['enter', '-t', target, '--', 'true'], user)
    assert.is(refused.status, 125)
    assert.match(
      refused.stderr,
      /^hew enter: cannot join the process \d+: Permission denied: this takes root, or a process of your own\n$/,
    )
  }
  process.kill(Number(annotations['dev.hew.supervisor'].split(' ')[0]), 'SIGKILL')
})

// ---- hew's own file ----

const hash = (file: string): string => createHash('sha256').update(fs.readFileSync(file)).digest('hex')

asRoot("a root cannot reach hew's own file (CVE-2019-5736)", () => {
  const before = hash(HEW)
  const hostile = `${here}/hostile`
  fs.cpSync(root, hostile, {recursive: true, verbatimSymlinks: true})
  fs.writeFileSync(`${hostile}/evil`, '#!/proc/self/exe --version\n', {mode: 0o755})
  for (const options of [[], ['--by-hand'], ['--share', 'user'], ['--init']]) {
    // Behind a bind mount hew leaves it to the kernel what can be executed.
    const bind = options.includes('--by-hand') ? [] : ['--bind', `${here}:/mnt`]
    const line = options.includes('--by-hand')
      ? 'mkdir -p /proc; mount -t proc none /proc; exec /evil'
      : 'exec /evil'
    const {stdout} = hew('enter', '-r', hostile, ...bind, ...options, '--', 'sh', '-c', line)
    assert.is(stdout, '', `${options}`)
    const direct = hew('enter', '-r', hostile, ...bind, ...options, '--', '/evil')
    assert.is(direct.stdout, '', `${options}`)
    assert.is.not(direct.status, 0)
  }
  // Who stays in the container as hew is not its file either; and nobody in there can write to it, with every capability.
  const {id, pid} = container('--init', '--share', 'user', '--cap-add', 'ALL')
  assert.match(fs.readlinkSync(`/proc/${pid}/exe`), /^\/memfd:hew-stage/)
  const attack =
    'for exe in /proc/1/exe /proc/self/exe; do (echo evil >> $exe) 2>/dev/null && echo written; done; true'
  assert.is(inside(id, attack), '')
  assert.is(hash(HEW), before)
})

asRoot('who watches those that join sees no file of hew either', async () => {
  const before = hash(HEW)
  const {id} = container('--share', 'user', '--cap-add', 'ALL')
  const watch = `cd /proc; while :; do for p in [0-9]*; do
    exe=$(readlink $p/exe 2>/dev/null) && case $exe in *dist/hew*) echo "$exe"; (echo evil >> /proc/$p/exe) 2>/dev/null;; esac
    done; done`
  const watcher = spawn(HEW, ['enter', '-t', id, '--', 'sh', '-c', watch], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  children.push(watcher)
  let seen = ''
  watcher.stdout.on('data', data => {
    seen += data
  })
  // One emulated CPU, which the watcher uses up.
  for (let i = 0; i < (IN_GUEST ? 4 : 20); i++) {
    const joined = spawn(HEW, ['enter', '-t', id, '--', 'true'], {stdio: 'ignore'})
    assert.is(await new Promise(done => joined.on('exit', done)), 0)
  }
  watcher.kill('SIGTERM')
  assert.is(seen, '')
  assert.is(hash(HEW), before)
})

asRoot('where memory files cannot be executed it goes without', () => {
  if (!fs.existsSync('/proc/sys/vm/memfd_noexec')) return
  // The setting is one of the PID namespace, and cannot be taken back there.
  const line = `unshare --pid --fork --mount-proc sh -c 'echo 2 > /proc/sys/vm/memfd_noexec && exec "${HEW}" enter -r "${root}" -- id -u'`
  const {stdout, stderr} = shell(line)
  assert.match(stdout + stderr, /^0\n$|Operation not permitted|memfd/)
})

test.run()
