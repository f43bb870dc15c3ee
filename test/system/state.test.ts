import {type ChildProcess, spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {hierarchies} from '../../lib/cgroups/hierarchies.ts'
import {statOf} from '../../lib/kernel.ts'
import {HEW, hew, IN_GUEST, type Outcome, requires, run, scratch, shell, until} from '../support.ts'

/** Names, and what other commands come to know of a container. */

const here = scratch()
fs.chmodSync(here, 0o755)
const asRoot = requires(test, 'root')

const root = `${here}/root`
fs.mkdirSync(root)
hew('copy-deps', '-q', '-r', root, 'sh', 'bash', 'cat', 'sleep', 'true', 'id', 'readlink')
fs.mkdirSync(`${root}/mnt`)
fs.mkdirSync(`${root}/etc`)

/** Names of this test's own: others run containers here, too. */
let count = 0
const fresh = (): string => `state-${process.pid}-${count++}`
const STATES = '/run/hew'
const v2 = hierarchies().find(({version}) => version === 2)
const read = (id: string, states = STATES) =>
  JSON.parse(fs.readFileSync(`${states}/${id}/state.json`, 'utf8'))
const there = (id: string): boolean => fs.existsSync(`${STATES}/${id}`)

const children: ChildProcess[] = []
test.after(() => {
  for (const child of children) child.kill('SIGKILL')
  for (const id of fs.readdirSync(STATES)) if (id.startsWith(`state-${process.pid}-`)) put(id)
})

interface Started {
  child: ChildProcess
  ended: Promise<Outcome>
}

/** `hew enter`, whose stdin stays open. */
function start(
  words: string[],
  options: {uid?: number; gid?: number; env?: NodeJS.ProcessEnv} = {},
): Started {
  const child = spawn(HEW, ['enter', '-r', root, ...words], {stdio: ['pipe', 'pipe', 'pipe'], ...options})
  let [stdout, stderr] = ['', '']
  child.stdout!.on('data', data => {
    stdout += data
  })
  child.stderr!.on('data', data => {
    stderr += data
  })
  children.push(child)
  const ended = new Promise<Outcome>(done =>
    child.on('close', (code, signal) => done({stdout, stderr, status: signal ? 1000 : (code ?? -1)})),
  )
  return {child, ended}
}

const startOf = (pid: number): string => statOf(pid)![19]!
const alive = (pid: number): boolean => fs.existsSync(`/proc/${pid}`)

asRoot('while it runs its state says so; at its end nothing is left', async () => {
  const id = fresh()
  const {child, ended} = start(['--name', id, '--env', 'A="b"\\', '--', 'cat'])
  await until('running', () => there(id) && read(id).status === 'running')
  const state = read(id)
  assert.is(state.id, id)
  assert.is(state.bundle, `${STATES}/${id}`)
  assert.is(fs.readFileSync(`/proc/${state.pid}/cmdline`, 'utf8'), 'cat\0')
  assert.is(state.annotations['dev.hew.start'], startOf(state.pid))
  assert.is(state.annotations['dev.hew.rootfs'], root)
  const [pid, started, namespace, boot] = state.annotations['dev.hew.supervisor'].split(' ')
  assert.is(Number(pid), child.pid)
  assert.is(started, startOf(child.pid!))
  assert.is(`pid:[${namespace}]`, fs.readlinkSync('/proc/self/ns/pid'))
  assert.is(boot, fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
  const configuration = JSON.parse(fs.readFileSync(`${STATES}/${id}/config.json`, 'utf8'))
  assert.equal(configuration.process.args, ['cat'])
  assert.ok(configuration.process.env.includes('A="b"\\'))
  assert.is(fs.statSync(`${STATES}/${id}`).mode & 0o777, 0o700)
  child.stdin!.end()
  assert.equal(await ended, {stdout: '', stderr: '', status: 0})
  assert.not.ok(there(id))
  assert.equal(
    fs.readdirSync(STATES).filter(name => name.startsWith('.') && name.includes(`-${child.pid}-`)),
    [],
  )
})

asRoot('of two that want one name exactly one gets it, fifty times', async () => {
  for (let round = 0; round < (IN_GUEST ? 5 : 50); round++) {
    const id = fresh()
    const both = [start(['--name', id, '--', 'cat']), start(['--name', id, '--', 'cat'])]
    const loser = await Promise.race(both.map(async ({ended}, i) => ({i, ...(await ended)})))
    assert.is(loser.status, 125)
    assert.is(
      loser.stderr,
      `hew enter: the name ${id} is taken by a container that runs: choose another name, or end that one with 'hew rm -f ${id}'\n`,
    )
    const winner = both[1 - loser.i]!
    winner.child.stdin!.end()
    assert.is((await winner.ended).status, 0)
    assert.not.ok(there(id))
  }
})

asRoot('without a name it is the one of the root, then -2', async () => {
  const named = `${here}/${fresh()}`
  fs.cpSync(root, named, {recursive: true, verbatimSymlinks: true})
  const id = named.split('/').at(-1)!
  const two = [1, 2].map(() =>
    spawn(HEW, ['enter', '-r', named, '--', 'cat'], {stdio: ['pipe', 'ignore', 'inherit']}),
  )
  const ends = two.map(child => new Promise(done => child.on('exit', done)))
  await until('two states', () =>
    [id, `${id}-2`].every(name => there(name) && read(name).status === 'running'),
  )
  for (const child of two) child.stdin!.end()
  assert.equal(await Promise.all(ends), [0, 0])
  assert.equal([there(id), there(`${id}-2`)], [false, false])
})

asRoot('a name is no PID, no option and no path', () => {
  for (const name of ['1', '123', '-a', '.a', 'a/b', '..', 'a b', 'ü', 'x'.repeat(101)]) {
    const {status, stderr} = hew('enter', `--name=${name}`, '-r', root, '--', 'true')
    assert.is(status, 2, name)
    assert.match(stderr, /^hew enter: --name/)
  }
})

/** The container of `hew enter`, when its state is running. */
async function running(
  id: string,
  ...options: string[]
): Promise<Started & {pid: number; cgroups: string[]}> {
  const started = start(['--name', id, ...options, '--', 'cat'])
  await until('running', () => there(id) && read(id).status === 'running')
  const {pid, annotations} = read(id)
  return {...started, pid, cgroups: annotations['dev.hew.cgroups'].split('\n').filter(Boolean)}
}

asRoot('killed with -9: the next command cleans up, and the name is free', async () => {
  const id = fresh()
  const {child, ended, pid, cgroups} = await running(id)
  child.kill('SIGKILL')
  assert.is((await ended).status, 1000)
  await until('the end of its command', () => !alive(pid))
  const again = start(['--name', id, '--', 'cat'])
  await until(
    'a second one',
    () => there(id) && read(id).annotations['dev.hew.supervisor'].startsWith(`${again.child.pid} `),
  )
  again.child.stdin!.end()
  assert.equal(await again.ended, {stdout: '', stderr: '', status: 0})
  assert.equal([there(id), ...cgroups.map(at => fs.existsSync(at))], [false, ...cgroups.map(() => false)])
})

asRoot(
  'a container that joins a namespace has its cgroups, its verdict and its end as any other',
  async () => {
    const id = fresh()
    const other = spawn('unshare', ['--net', 'sleep', '300'])
    children.push(other)
    const net = () => fs.readlinkSync(`/proc/${other.pid}/ns/net`)
    await until('its namespace', () => net() !== fs.readlinkSync('/proc/self/ns/net'))
    const document = {
      ociVersion: '1.0.2',
      root: {path: root},
      process: {
        cwd: '/',
        args: ['sh', '-c', 'readlink /proc/self/ns/net; cat /proc/self/cgroup'],
        env: ['PATH=/bin:/usr/bin'],
      },
      mounts: [{destination: '/proc', type: 'proc', source: 'proc'}],
      linux: {
        namespaces: [{type: 'mount'}, {type: 'pid'}, {type: 'network', path: `/proc/${other.pid}/ns/net`}],
      },
    }
    const verdict = `${here}/${id}.json`
    const {stdout, stderr, status} = shell(`hew enter --name ${id} --verdict '${verdict}'`, {
      input: JSON.stringify(document),
    })
    assert.equal([stderr, status], ['', 0])
    assert.is(stdout.split('\n')[0], net())
    assert.match(stdout, new RegExp(`/${id}$`, 'm'))
    assert.is(JSON.parse(fs.readFileSync(verdict, 'utf8')).exitStatus, 0)
    assert.not.ok(there(id))
    for (const {mount} of hierarchies()) assert.not.ok(fs.existsSync(`${mount}/${id}`))
  },
)

asRoot('what fails before its command runs leaves no state', () => {
  const id = fresh()
  // Behind a bind mount only the kernel knows what there is.
  const bound = ['--name', id, '-r', root, '--bind', `${here}:/mnt`, '--']
  assert.is(hew('enter', ...bound, '/mnt/nothing').status, 127)
  assert.not.ok(there(id))
  fs.writeFileSync(`${here}/no-program`, 'text', {mode: 0o755})
  assert.is(hew('enter', ...bound, '/mnt/no-program').status, 126)
  assert.not.ok(there(id))
  assert.is(
    hew('enter', '--name', id, '-r', root, '--share', 'pid', '--time', '--workdir', '/none', '--', 'true')
      .status,
    125,
  )
  assert.not.ok(there(id))
  // In hew itself: the plan is refused.
  assert.is(hew('enter', '--name', id, '-r', root, '--bind', `${here}/none:/mnt`, '--', 'true').status, 125)
  assert.not.ok(there(id))
})

asRoot('a state that cannot be written: without a name it runs, with one it does not', () => {
  const line = (words: string): Outcome =>
    run('unshare', [
      '--mount',
      'sh',
      '-c',
      `mount -t tmpfs -o ro none /run && exec '${HEW}' enter -r '${root}' ${words}`,
    ])
  assert.equal(line('-- true'), {stdout: '', stderr: '', status: 0})
  const named = line('--name x -- true')
  assert.is(named.status, 125)
  assert.match(named.stderr, /^hew enter: cannot make \/run\/hew, .*read-only[^\n]*\n$/i)
})

asRoot('an ordinary user has a place of their own', async () => {
  const runtime = `${here}/runtime`
  fs.mkdirSync(runtime, {mode: 0o700})
  fs.chownSync(runtime, 65534, 65534)
  const id = fresh()
  const user = {uid: 65534, gid: 65534, env: {PATH: process.env.PATH, XDG_RUNTIME_DIR: runtime}}
  const {child, ended} = start(['--name', id, '--', 'cat'], user)
  await until(
    'running',
    () => fs.existsSync(`${runtime}/hew/${id}`) && read(id, `${runtime}/hew`).status === 'running',
  )
  assert.is(fs.statSync(`${runtime}/hew`).uid, 65534)
  assert.is(fs.readFileSync(`/proc/${read(id, `${runtime}/hew`).pid}/cmdline`, 'utf8'), 'cat\0')
  child.stdin!.end()
  assert.equal(await ended, {stdout: '', stderr: '', status: 0})
  assert.equal(fs.readdirSync(`${runtime}/hew`), [])
})

// ---- in the background ----

const detached = (id: string, ...words: string[]): Outcome =>
  hew('enter', '-d', '--name', id, '-r', root, ...words)

/** Ends a container in the background, and removes what is left of it. */
function put(id: string): void {
  hew('rm', '-f', id)
}

asRoot('--detach: the state is printed when the command runs; log, verdict and state stay', async () => {
  const id = fresh()
  const done = detached(id, '--', 'sh', '-c', 'echo out; echo err >&2; read x; echo "x=$x"')
  assert.equal([done.stderr, done.status], ['', 0])
  await until('its end', () => read(id).status === 'stopped')
  assert.is(fs.readFileSync(`${STATES}/${id}/log`, 'utf8'), 'out\nerr\nx=\n')

  const other = fresh()
  const {stdout} = detached(other, '--', 'sleep', '100')
  const state = JSON.parse(stdout)
  assert.is(stdout, fs.readFileSync(`${STATES}/${other}/state.json`, 'utf8'))
  assert.is(state.status, 'running')
  assert.is(fs.readFileSync(`/proc/${state.pid}/cmdline`, 'utf8'), 'sleep\x00100\0')
  const [supervisor, started] = state.annotations['dev.hew.supervisor'].split(' ')
  assert.is(started, startOf(supervisor))
  assert.is(fs.readFileSync(`/proc/${supervisor}/comm`, 'utf8'), 'hew:supervisor\n')
  // A session of its own, and nothing of the caller's.
  assert.is(
    fs
      .readFileSync(`/proc/${supervisor}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[3],
    supervisor,
  )
  const open = fs
    .readdirSync(`/proc/${supervisor}/fd`)
    .map(fd => fs.readlinkSync(`/proc/${supervisor}/fd/${fd}`))
  assert.equal(
    open.filter(
      to => !/^(\/dev\/null|anon_inode:.*|socket:.*|pipe:.*|\/run\/hew.*|\/sys\/fs\/cgroup.*)$/.test(to),
    ),
    [],
  )
  assert.is(fs.statSync(`/proc/${state.pid}/fd/0`).rdev, fs.statSync('/dev/null').rdev)

  // What is nobody else's: the rest of it is the file's, in the page cache.
  const kilobytes = Number(
    /^RssAnon:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${supervisor}/status`, 'utf8'))![1],
  )
  assert.ok(kilobytes < 500, `${kilobytes} KB`)

  process.kill(Number(supervisor), 'SIGTERM')
  await until('its end', () => read(other).status === 'stopped')
  assert.is(read(other).pid, undefined)
  const verdict = JSON.parse(fs.readFileSync(`${STATES}/${other}/verdict.json`, 'utf8'))
  assert.equal([verdict.exitStatus, verdict.signal], [143, 9])
  put(id)
  put(other)
})

asRoot('--detach: nobody waits for more than that, neither a pipe nor a shell', () => {
  const id = fresh()
  const before = Date.now()
  const {stdout, stderr} = shell(`echo "$(hew enter -d --name ${id} -r '${root}' -- sleep 60 2>&1)" | cat`)
  assert.is(stderr, '')
  assert.is(JSON.parse(stdout).id, id)
  assert.ok(Date.now() - before < 20_000)
  put(id)
})

asRoot('--detach: what cannot be executed is told, and leaves nothing', () => {
  const bound = ['--bind', `${here}:/mnt`, '--']
  fs.writeFileSync(`${here}/no-program`, 'text', {mode: 0o755})
  const attempts: [number, RegExp, string[]][] = [
    [127, /^hew enter: cannot run \/mnt\/nothing: No such file[^\n]*\n$/, [...bound, '/mnt/nothing']],
    [126, /^hew enter: cannot run \/mnt\/no-program: Exec format error\n$/, [...bound, '/mnt/no-program']],
    [127, /^hew enter: [^\n]*nonesuch[^\n]*\n$/, ['--', 'nonesuch']],
    [
      125,
      /^hew enter: the working directory \/none is not in the root[^\n]*\n$/,
      ['--workdir', '/none', '--', 'true'],
    ],
  ]
  for (const [status, message, words] of attempts) {
    const id = fresh()
    const done = detached(id, ...words)
    assert.is(done.status, status)
    assert.match(done.stderr, message)
    assert.is(done.stdout, '')
    assert.not.ok(there(id))
    if (v2) assert.not.ok(fs.existsSync(`${v2.mount}/${id}`))
  }
  for (const words of [['--die-with-parent'], ['--log-size', '0'], ['--log-size', 'x']])
    assert.is(detached(fresh(), ...words, '--', 'true').status, 2)
  assert.is(hew('enter', '--log-size', '1M', '-r', root, '--', 'true').status, 2)
})

asRoot('--detach: a log has a limit, and what hew itself has to say is in it', async () => {
  const id = fresh()
  fs.writeFileSync(`${root}/lines`, 'line\n'.repeat(20_000))
  const large = fresh()
  detached(large, '--log-size', '64K', '--', 'cat', '/lines')
  await until('its end', () => read(large).status === 'stopped')
  assert.is(fs.statSync(`${STATES}/${large}/log.1`).size, 65536)
  assert.ok(fs.statSync(`${STATES}/${large}/log`).size <= 65536)
  put(large)

  // The tree of a machine with v2 alone is not ours to rearrange.
  if (IN_GUEST) assert.is(hew('cgroup-init').status, 0)
  else if (!hierarchies().some(({version, controllers}) => version === 1 && controllers.includes('pids')))
    return
  const {stderr} = shell(
    `hew copy-deps -r '${root}' true | hew limit --pids 1 | hew enter -d --name ${id} -- sh -c 'echo first; true & echo last'`,
  )
  assert.is(stderr, '')
  await until('its end', () => read(id).status === 'stopped')
  assert.match(
    fs.readFileSync(`${STATES}/${id}/log`, 'utf8'),
    /^first\n(.*\n)*hew enter: refused \d+ forks? \(pids limit 1\)\n$/,
  )
  put(id)
})

asRoot('--detach: killed while it starts, it leaves no container', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const id = fresh()
    const {child, ended} = start(['-d', '--name', id, '--', 'sleep', '60'])
    await until('the claim', () => there(id))
    child.kill(signal)
    const {status, stdout} = await ended
    if (stdout !== '') put(id)
    else {
      assert.is(status, signal === 'SIGKILL' ? 1000 : status)
      await until('nothing left', () => {
        hew('enter', '-r', root, '--', 'true') // sweeps
        return !there(id)
      })
    }
  }
})

asRoot('--detach: in a pipe, with a root of --rm, and as an ordinary user', async () => {
  const id = fresh()
  const made = `${here}/made`
  const {stdout, stderr} = shell(
    `hew mkroot --rm --with sh,sleep '${made}' | hew enter -d --name ${id} -- sleep 60`,
  )
  assert.is(stderr.replace(/^hew mkroot: .*\n/gm, ''), '')
  assert.is(JSON.parse(stdout).annotations['dev.hew.rootfs'], made)
  process.kill(Number(read(id).annotations['dev.hew.supervisor'].split(' ')[0]), 'SIGTERM')
  await until('its end', () => read(id).status === 'stopped')
  assert.not.ok(fs.existsSync(made))
  put(id)

  const runtime = `${here}/runtime-2`
  fs.mkdirSync(runtime, {mode: 0o700})
  fs.chownSync(runtime, 65534, 65534)
  const user = {uid: 65534, gid: 65534, env: {XDG_RUNTIME_DIR: runtime}}
  const done = run(HEW, ['enter', '-d', '--name', id, '-r', root, '--', 'sh', '-c', 'id -u; exit 7'], user)
  assert.equal([done.stderr, done.status], ['', 0])
  await until('its end', () => read(id, `${runtime}/hew`).status === 'stopped')
  assert.is(fs.readFileSync(`${runtime}/hew/${id}/log`, 'utf8'), '0\n')
  assert.is(JSON.parse(fs.readFileSync(`${runtime}/hew/${id}/verdict.json`, 'utf8')).exitStatus, 7)
})

// ---- cgroups ----

asRoot('it has a cgroup without limits too, which goes with it', async () => {
  if (!v2) return
  const id = fresh()
  const {child, ended, pid, cgroups} = await running(id)
  assert.is(cgroups.length, 1)
  assert.ok(cgroups[0]!.startsWith(v2.mount) && cgroups[0]!.endsWith(`/${id}`), cgroups[0])
  assert.is(fs.readFileSync(`${cgroups[0]}/cgroup.procs`, 'utf8'), `${pid}\n`)
  child.stdin!.end()
  assert.equal(await ended, {stdout: '', stderr: '', status: 0})
  assert.not.ok(fs.existsSync(cgroups[0]!))
})

asRoot('an empty cgroup of its name is what another left, and one with processes is not', async () => {
  if (!v2) return
  const [id, other] = [fresh(), fresh()]
  const {child, ended, cgroups} = await running(id)
  const beside = `${cgroups[0]!.slice(0, -id.length)}${other}`
  fs.mkdirSync(beside)
  const second = await running(other)
  assert.equal(second.cgroups, [beside])
  second.child.stdin!.end()
  assert.is((await second.ended).status, 0)
  assert.not.ok(fs.existsSync(beside))

  fs.mkdirSync(beside)
  const sleeper = spawn('sleep', ['60'], {stdio: 'ignore'})
  fs.writeFileSync(`${beside}/cgroup.procs`, `${sleeper.pid}`)
  const third = await running(other)
  assert.equal(third.cgroups, [`${beside}-${third.child.pid}`])
  third.child.stdin!.end()
  assert.is((await third.ended).status, 0)
  sleeper.kill('SIGKILL')
  await until('an empty cgroup', () => fs.readFileSync(`${beside}/cgroup.procs`, 'utf8') === '')
  fs.rmdirSync(beside)
  child.stdin!.end()
  assert.is((await ended).status, 0)
})

/** A directory of states for this test alone: else the next command of anybody sweeps what is dead before it is looked at. */
async function alone() {
  const line = 'mount -t tmpfs none /run && exec sleep 600'
  const {pid} = spawn('unshare', ['--mount', 'sh', '-c', line], {stdio: 'ignore'})
  const outside = `/proc/${pid}/root${STATES}`
  await until('a /run of its own', () => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep'))
  const words = (line: string[]): string[] => [`--target=${pid}`, '--mount', ...line]
  return {
    spawn: (...line: string[]): ChildProcess => spawn('nsenter', words(line), {stdio: 'ignore'}),
    run: (...line: string[]): Outcome => run('nsenter', words(line)),
    there: (id: string): boolean => fs.existsSync(`${outside}/${id}`),
    read: (id: string) => read(id, outside),
    end: (): void => void process.kill(pid!, 'SIGKILL'),
  }
}

const supervisorOf = (state: {annotations: Record<string, string>}): number =>
  Number.parseInt(state.annotations['dev.hew.supervisor']!, 10)
const isEmpty = (cgroup: string): boolean => fs.readFileSync(`${cgroup}/cgroup.procs`, 'utf8') === ''

const asTracer = requires(test, 'root', 'strace')
asTracer(
  'killed between making its cgroup and saying so: the next sweep finds that, and leaves it to who is in there by now',
  async () => {
    if (!v2) return
    const own = await alone()
    const SLOW = ['-f', '-qq', '-o', '/dev/null', '-e', 'inject=mkdirat:delay_exit=60000000']
    for (const visited of [false, true]) {
      const id = fresh()
      const tracer = own.spawn('strace', ...SLOW, HEW, 'enter', '-r', root, '--name', id, '--', 'true')
      const made = (): string => run('find', [v2.mount, '-type', 'd', '-name', id, '-prune']).stdout.trimEnd()
      await until('a cgroup that nobody has told of', () => made() !== '')
      const [cgroup, state] = [made(), own.read(id)]
      assert.is(state.annotations['dev.hew.cgroups'], '')
      process.kill(supervisorOf(state), 'SIGKILL')
      tracer.kill('SIGKILL') // it would hold on to the dead
      await until('its end', () => !alive(supervisorOf(state)))
      const sleeper = spawn('sleep', ['60'], {stdio: 'ignore'})
      if (visited) fs.writeFileSync(`${cgroup}/cgroup.procs`, `${sleeper.pid}`)
      assert.equal(own.run(HEW, 'rm', '--stale'), {stdout: `removed ${id}\n`, stderr: '', status: 0})
      assert.is(fs.existsSync(cgroup), visited)
      assert.is(sleeper.exitCode ?? sleeper.signalCode, null)
      sleeper.kill('SIGKILL')
      if (!visited) continue
      await until('an empty cgroup', () => isEmpty(cgroup))
      fs.rmdirSync(cgroup)
    }
    own.end()
  },
)

asRoot('what is in the cgroup of a dead container lives, when somebody else has locked that', async () => {
  if (!v2) return
  const own = await alone()
  const id = fresh()
  own.spawn(HEW, 'enter', '-r', root, '--name', id, '--', 'sleep', '60')
  await until('running', () => own.there(id) && own.read(id).status === 'running')
  const state = own.read(id)
  const [cgroup] = state.annotations['dev.hew.cgroups'].split('\n')
  process.kill(supervisorOf(state), 'SIGKILL')
  await until('nobody in it', () => isEmpty(cgroup))
  const other = spawn('flock', ['--no-fork', cgroup, 'sleep', '60'], {stdio: 'ignore'})
  fs.writeFileSync(`${cgroup}/cgroup.procs`, `${other.pid}`)
  await until('the lock', () => run('flock', ['-n', cgroup, 'true']).status !== 0)
  const stale = own.run(HEW, 'rm', '--stale')
  assert.is(stale.stdout, `not removed ${id}\n`)
  assert.is(stale.stderr, `hew rm: ${id}: the cgroup ${cgroup} is locked by another process\n`)
  assert.is(other.exitCode ?? other.signalCode, null)
  other.kill('SIGKILL')
  await until('nobody in it', () => isEmpty(cgroup))
  assert.equal(own.run(HEW, 'rm', '--stale'), {stdout: `removed ${id}\n`, stderr: '', status: 0})
  assert.not.ok(fs.existsSync(cgroup))
  own.end()
})

asRoot('cgroups that cannot be written are done without', () => {
  const line = `for at in $(awk '$3 == "cgroup2" || $3 == "cgroup" {print $2}' /proc/mounts); do mount -o bind,remount,ro $at; done
    exec '${HEW}' enter -r '${root}' -- true`
  assert.equal(shell(`unshare --mount sh -c '${line.replaceAll("'", `'\\''`)}'`), {
    stdout: '',
    stderr: '',
    status: 0,
  })
})

test.run()
