import {type ChildProcess, spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {statOf} from '../../lib/kernel.ts'
import {HEW, hew, type Outcome, readyForLimits, requires, run, scratch, shell, until} from '../support.ts'

/** Living with containers: kill, freeze, thaw, wait, rm, limit by name. They run in the foreground of processes of this test. */

const here = scratch()
const STATES = process.getuid!() === 0 ? '/run/hew' : `${here}/hew`
if (process.getuid!() !== 0) process.env.XDG_RUNTIME_DIR = here
const asRoot = requires(test, 'root')

readyForLimits()

const box = `${here}/box`
const document = shell(`hew mkroot --with bash,sh,sleep,cat,true,mkdir '${box}'`).stdout

interface Started {
  id: string
  /** The process of `hew enter`. */
  supervisor: ChildProcess
  /** Its exit status, and what it said. */
  ended: Promise<{status: number | null; stderr: string}>
}

let count = 0
const live = new Set<ChildProcess>()
test.after(() => {
  for (const {pid} of live) if (pid !== undefined) hew('rm', '-f', `${pid}`)
})

/** What state.json says; undefined when it is not there. */
// biome-ignore lint/suspicious/noExplicitAny: a document
function stateOf(id: string): any {
  try {
    return JSON.parse(fs.readFileSync(`${STATES}/${id}/state.json`, 'utf8'))
  } catch {
    return undefined
  }
}

/** A container in which a script runs, once it says READY. */
async function start(script: string, options: string[] = [], input = document): Promise<Started> {
  const id = `test-${process.pid}-${++count}`
  const words = ['enter', '--name', id, ...options, '--', 'bash', '-c', `${script}`]
  const supervisor = spawn(HEW, words, {stdio: ['pipe', 'pipe', 'pipe']})
  live.add(supervisor)
  let [stdout, stderr] = ['', '']
  supervisor.stdout.on('data', data => {
    stdout += data
  })
  supervisor.stderr.on('data', data => {
    stderr += data
  })
  supervisor.stdin.end(input)
  const ended = new Promise<{status: number | null; stderr: string}>(resolve =>
    supervisor.on('exit', status => {
      live.delete(supervisor)
      resolve({status, stderr})
    }),
  )
  await until(
    `${id} runs: ${stderr}`,
    () => stdout.includes('READY') && stateOf(id)?.status === 'running',
    20,
  )
  return {id, supervisor, ended}
}

/** `hew wait` has found its container: it waits by a process of the stage. */
const waits = ({pid}: ChildProcess): Promise<void> =>
  until(
    'hew wait waits',
    () =>
      fs
        .readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
        .split(' ')
        .some(child => child && /\0wait /.test(commandLine(child))),
    20,
  )

/** Empty when it has just ended. */
function commandLine(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

const cgroupsOf = (id: string): string => run('find', ['/sys/fs/cgroup', '-type', 'd', '-name', id]).stdout

/** Nothing is left of a container: state, cgroups, processes. */
function assertGone(id: string): void {
  assert.not(fs.existsSync(`${STATES}/${id}`), `${id}: state`)
  assert.is(cgroupsOf(id), '', `${id}: cgroup`)
}

const fails = (outcome: Outcome, message: string, status = 125): void => {
  assert.is(outcome.stderr, message)
  assert.is(outcome.stdout, '')
  assert.is(outcome.status, status)
}

const HANDLES =
  "trap 'exit 7' TERM; trap 'echo USR1 >/tmp/got' USR1; echo READY; while :; do sleep 0.05; done"

asRoot('kill: TERM ends it, handled or not; other signals arrive; wait tells how it ended', async () => {
  const [handles, deaf] = await Promise.all([start(HANDLES), start('echo READY; sleep 1000')])
  const waiting = [handles, deaf].map(({id}) =>
    spawn(HEW, ['wait', id], {stdio: ['ignore', 'pipe', 'inherit']}),
  )
  const verdicts = waiting.map(
    child =>
      new Promise<[number | null, Record<string, unknown>]>(resolve => {
        let text = ''
        child.stdout.on('data', data => {
          text += data
        })
        child.on('close', status => resolve([status, JSON.parse(text)]))
      }),
  )
  assert.equal(hew('kill', '-s', '0', handles.id), {stdout: '', stderr: '', status: 0})
  hew('kill', '-USR1', handles.id)
  const root = `/proc/${stateOf(handles.id).pid}/root`
  await until('USR1 arrives', () => fs.existsSync(`${root}/tmp/got`), 20)
  for (const child of waiting) await waits(child)
  assert.equal(hew('kill', handles.id, deaf.id), {stdout: '', stderr: '', status: 0})
  assert.is((await handles.ended).status, 7)
  assert.is((await deaf.ended).status, 143)
  const [[first, one], [second, two]] = (await Promise.all(verdicts)) as [
    [number, Record<string, unknown>],
    [number, Record<string, unknown>],
  ]
  assert.equal([first, one!.id, one!.exitStatus, one!.signal], [7, handles.id, 7, null])
  assert.equal([second, two!.id, two!.exitStatus, two!.signal], [143, deaf.id, 143, 9])
  for (const {id} of [handles, deaf]) assertGone(id)
  fails(hew('kill', deaf.id), `hew kill: no container is called ${deaf.id}: 'hew ps' lists them\n`)
})

asRoot('kill --all: every process at once, those that joined no session of its command, too', async () => {
  const one = await start(
    `for i in 1 2 3; do (trap '' TERM; (sleep 1000 & sleep 1000) & ) & done; ${HANDLES}`,
  )
  const all = hew('kill', '--all', '-s', 'KILL', one.id)
  assert.equal(all, {stdout: '', stderr: '', status: 0})
  assert.is((await one.ended).status, 137)
  assertGone(one.id)
  // USR2 ends the sleeping as well as the shell, and none of them is left frozen.
  const two = await start(`sleep 1000 & ${HANDLES}`)
  assert.equal(hew('kill', '--all', '-s', 'USR1', two.id), {stdout: '', stderr: '', status: 0})
  const root = `/proc/${stateOf(two.id).pid}/root`
  await until('USR1 arrives', () => fs.existsSync(`${root}/tmp/got`), 20)
  hew('kill', '--all', two.id)
  assert.is((await two.ended).status, 7)
})

asRoot('a fork bomb does not outrun kill --all', async () => {
  const one = await start(
    'f() { while :; do (sleep 0.01; f) & sleep 0.005; done; }; f & echo READY; wait',
    [],
    limited('--pids 60'),
  )
  assert.is(hew('kill', '--all', '-9', one.id).status, 0)
  assert.is((await one.ended).status, 137)
  assertGone(one.id)
})

function limited(options: string): string {
  return shell(`hew limit ${options}`, {input: document}).stdout
}

asRoot('freeze: no more CPU, until thaw; kill reaches what is frozen', async () => {
  const one = await start('echo READY; while :; do :; done')
  const ticks = (): number => Number(statOf(stateOf(one.id).pid)![11])
  for (const _ of [1, 2]) assert.equal(hew('freeze', one.id), {stdout: '', stderr: '', status: 0})
  const before = ticks()
  await sleep(200)
  assert.is(ticks(), before)
  for (const _ of [1, 2])
    assert.equal(hew('thaw', `${one.supervisor.pid}`), {stdout: '', stderr: '', status: 0})
  await until('it goes on', () => ticks() > before + 2, 20)
  hew('freeze', one.id)
  assert.is(hew('kill', '--all', '-s', 'KILL', one.id).status, 0)
  assert.is((await one.ended).status, 137)
  assertGone(one.id)
})

asRoot('rm: what runs is refused; -f ends it and leaves nothing', async () => {
  const one = await start('echo READY; sleep 1000')
  fails(hew('rm', one.id), `hew rm: ${one.id} runs: end it with 'hew kill ${one.id}', or say -f\n`)
  fails(
    hew('rm', '-f', '--root', one.id, 'no-such'),
    "hew rm: no container is called no-such: 'hew ps' lists them\n",
  )
  fails(
    run('unshare', ['--pid', '--fork', '--mount-proc', HEW, 'wait', one.id]),
    `hew wait: ${one.id} is a container of another PID namespace: act on it from there\n`,
  )
  assert.is(stateOf(one.id).status, 'running')
  assert.equal(hew('rm', '-f', one.id), {stdout: '', stderr: '', status: 0})
  assertGone(one.id)
  assert.ok(fs.existsSync(`${box}/bin`))
})

asRoot('rm --root: containers that go together may share their root', async () => {
  const root = `${here}/shared`
  const made = shell(`hew mkroot --with bash,sh,sleep '${root}'`).stdout
  const both = [
    await start('echo READY; sleep 1000', [], made),
    await start('echo READY; sleep 1000', [], made),
  ]
  const ids = both.map(({id}) => id)
  assert.equal(hew('rm', '-f', '--root', ...ids), {stdout: '', stderr: '', status: 0})
  for (const id of ids) assertGone(id)
  assert.not.ok(fs.existsSync(root))
})

asRoot('rm --root: only what mkroot made, never across a mount, never through a link', async () => {
  const root = `${here}/goes`
  const outside = `${here}/outside`
  fs.mkdirSync(outside)
  fs.writeFileSync(`${outside}/precious`, 'stays')
  const made = shell(`hew mkroot --with bash,sh,sleep '${root}'`).stdout
  const byHand = await start('echo READY; sleep 1000', ['-r', root], '')
  fails(
    hew('rm', '-f', '--root', byHand.id),
    `hew rm: the root ${root} of ${byHand.id} stays: nothing says that mkroot made it for the container: remove it by hand\n`,
  )
  const one = await start('echo READY; sleep 1000', [], made)
  fails(
    hew('rm', '-f', '--root', one.id),
    `hew rm: the root ${root} of ${one.id} stays: ${byHand.id} runs in it, too\n`,
  )
  hew('rm', '-f', byHand.id)
  fs.symlinkSync(outside, `${root}/link`)
  const mounted = run('unshare', [
    '--mount',
    'sh',
    '-c',
    `mount --bind '${outside}' '${root}/home' && '${HEW}' rm -f --root ${one.id}`,
  ])
  assert.is(mounted.stderr, `hew rm: ${root}/home stays: something is mounted there\n`)
  assert.is(mounted.status, 125)
  assert.is(fs.readFileSync(`${outside}/precious`, 'utf8'), 'stays')
  assertGone(one.id)
})

asRoot('a kill -9 of the supervisor: the next command cleans up; who waited is told', async () => {
  const one = await start('mkdir /tmp/x; sleep 1000 & echo READY; sleep 1000', ['--share', 'pid'])
  const waiting = spawn(HEW, ['wait', one.id])
  let stderr = ''
  waiting.stderr.on('data', data => {
    stderr += data
  })
  const waited = new Promise(resolve => waiting.on('close', resolve))
  await waits(waiting)
  one.supervisor.kill('SIGKILL')
  await one.ended
  assert.is(await waited, 125)
  assert.is(
    stderr,
    `hew wait: the supervisor of ${one.id} was killed, and nobody knows how its command ended: 'hew rm --stale' cleans up\n`,
  )
  // A test beside this one may have been faster, and not be through yet.
  assert.match(hew('rm', '--stale').stdout, /^(removed \S+\n)*$/)
  await until('the end of the sweep', () => cgroupsOf(one.id) === '', 20)
  assertGone(one.id)
})

asRoot('limit by name: at once, and nothing is left of it at the end', async () => {
  const one = await start('sleep 1000 & echo READY; sleep 1000; true')
  const done = hew('limit', '--memory', '200M', '--pids', '20', '--json', one.id)
  assert.is(done.stderr, '')
  const use = JSON.parse(done.stdout)
  assert.equal([use.target, use.memory.limit, use.processes.limit], [one.id, 200 << 20, 20])
  assert.is(use.processes.now, 3)
  assert.is(JSON.parse(hew('limit', '--pids', '30', '--json', one.id).stdout).processes.limit, 30)
  // The document of the pipe goes on to the next command.
  const piped = shell('hew limit --pids 40', {input: `${JSON.stringify(stateOf(one.id))}\n`})
  assert.equal([piped.stderr, JSON.parse(piped.stdout).id], ['', one.id])
  assert.is(JSON.parse(hew('limit', '--json', one.id).stdout).processes.limit, 40)
  hew('kill', one.id)
  await one.ended
  assertGone(one.id)
})

asRoot('a container by the PID of a process in it; one of the pipe; another of its name', async () => {
  const one = await start('sleep 1000 & echo READY; sleep 1000')
  const state = stateOf(one.id)
  const inside = fs
    .readFileSync(`/proc/${state.pid}/task/${state.pid}/children`, 'utf8')
    .trim()
    .split(' ')[0]!
  for (const word of [`${state.pid}`, inside]) assert.is(hew('kill', '-s', '0', word).status, 0)
  fails(
    hew('kill', `${process.pid}`),
    `hew kill: the process ${process.pid} is in no container of hew's: 'hew ps' lists them\n`,
  )
  fails(hew('kill', '4194999'), 'hew kill: there is no process 4194999\n')
  const piped = (document: unknown): Outcome =>
    shell('hew kill -s 0', {input: `${JSON.stringify(document)}\n`})
  assert.is(piped(state).status, 0)
  const annotations = {...state.annotations, 'dev.hew.created': 'before'}
  fails(piped({...state, annotations}), `hew kill: the container ${one.id} of the pipe is no more\n`)
  fails(
    piped({ociVersion: '1.2.0'}),
    "hew kill: what comes through the pipe is the document of no container that runs: that comes from 'hew enter --detach'\n",
  )
  hew('rm', '-f', one.id)
})

asRoot(
  'logs: what a detached one wrote, byte for byte; -f to its end; no control characters to a terminal',
  async () => {
    const id = `test-${process.pid}-log`
    const script = "printf 'first\\n\\033[2J\\377'; sleep 1; echo; echo last >&2; exit 3"
    const line = `hew enter --detach --name ${id} --log-size 1M -- bash -c "${script}"`
    assert.is(shell(line, {input: document}).stderr, '')
    try {
      const followed = run(HEW, ['logs', '-f', id])
      assert.equal([followed.stderr, followed.status], ['', 0])
      assert.is(followed.stdout, 'first\n\x1b[2J\ufffd\nlast\n')
      const terminal = run('script', ['-qec', `${HEW} logs ${id}`, '/dev/null'])
      assert.is(terminal.stdout.replaceAll('\r', ''), 'first\n\\x1b[2J\ufffd\nlast\n')
      assert.is(shell(`hew logs ${id} | head -n 1`).stderr, '')
      const waited = hew('wait', id)
      assert.equal([JSON.parse(waited.stdout).exitStatus, waited.status], [3, 3])
      fails(hew('kill', id), `hew kill: ${id} has ended: 'hew rm ${id}' removes it\n`)
    } finally {
      assert.equal(hew('rm', id), {stdout: '', stderr: '', status: 0})
    }
    assertGone(id)
    const one = await start('echo READY; sleep 1000')
    fails(
      hew('logs', one.id),
      `hew logs: ${one.id} runs in the foreground: what it writes goes where the output of 'hew enter' goes, and to no log\n`,
    )
    hew('rm', '-f', one.id)
  },
)

test('wrong words', () => {
  const usage = (command: string): string => `hew ${command}: see 'hew ${command} --help'\n`
  fails(
    hew('kill', '-s', 'TREM', 'x'),
    `hew kill: --signal TREM: there is no such signal: did you mean TERM?\n${usage('kill')}`,
    2,
  )
  fails(
    hew('kill', '-s', '65', 'x'),
    `hew kill: --signal 65: there is no such signal: 'kill -l' lists them\n${usage('kill')}`,
    2,
  )
  fails(
    hew('rm', '--stale', 'x'),
    `hew rm: --stale finds by itself what has died: name none\n${usage('rm')}`,
    2,
  )
  fails(hew('logs', 'x', 'y'), `hew logs: one NAME at a time\n${usage('logs')}`, 2)
  for (const command of ['kill', 'freeze', 'thaw', 'wait', 'logs', 'rm'])
    fails(
      hew(command),
      `hew ${command}: nothing came through the pipe: the command before it failed, or it prints no document\n`,
    )
  fails(shell('hew kill </dev/null'), `hew kill: name a container: 'hew ps' lists them\n${usage('kill')}`, 2)
  for (const command of ['kill', 'freeze', 'thaw', 'wait', 'logs', 'rm'])
    fails(hew(command, '../x'), `hew ${command}: no container is called ../x: 'hew ps' lists them\n`)
})

test.run()
