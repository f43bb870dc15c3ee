import {type ChildProcess, spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {containers} from '../../lib/containers/state.ts'
import {HEW, hew, IN_GUEST, readyForLimits, requires, run, scratch, shell, until} from '../support.ts'

/** Many containers at once, and kill -9 on whatever of hew's runs just then: at the end nothing is left. */

const asRoot = requires(test, 'root')
const here = scratch()
const PREFIX = `many-${process.pid}`
const document = shell(`hew mkroot --with sh,sleep '${here}/box'`).stdout

// One emulated CPU does a small part of what two real ones do.
const [MANY, ROUNDS] = IN_GUEST ? [20, 8] : [200, 50]
readyForLimits()

const started = new Set<ChildProcess>()
test.after.each(() => {
  for (const child of started) child.kill('SIGKILL')
  const left = ours().map(({id}) => id)
  if (left.length > 0) hew('rm', '-f', ...left)
})

/** `hew ...`; what it exits with. */
function begin(words: string[], input = ''): {child: ChildProcess; ended: Promise<number | null>} {
  const child = spawn(HEW, words, {stdio: ['pipe', 'ignore', 'ignore']})
  started.add(child)
  child.stdin!.on('error', () => {}).end(input)
  const ended = new Promise<number | null>(resolve =>
    child.on('exit', status => {
      started.delete(child)
      resolve(status)
    }),
  )
  return {child, ended}
}

/** A container whose processes can be told by its name in their command line. */
const enter = (id: string) =>
  begin(['enter', '--detach', '--name', id, '--', 'sh', '-c', `sleep 1000 & sleep 1000; : ${id}`], document)

const ours = () => containers().containers.filter(({id}) => id.startsWith(PREFIX))

/** Processes with a word of their command line that begins with the prefix: of containers, and of hew while it sets them up. */
function processes(): {pid: number; id: string; zombie: boolean}[] {
  return fs.readdirSync('/proc').flatMap(name => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return []
    try {
      const [id] =
        new RegExp(`${PREFIX}-[0-9a-z]+`).exec(fs.readFileSync(`/proc/${name}/cmdline`, 'utf8')) ?? []
      const zombie = /\) Z /.test(fs.readFileSync(`/proc/${name}/stat`, 'utf8'))
      return id === undefined ? [] : [{pid: Number(name), id, zombie}]
    } catch {
      return [] // it has just ended
    }
  })
}

/** What could be left behind, of containers with the prefix and of the machine. */
function traces(): Record<string, unknown> {
  return {
    states: fs.existsSync('/run/hew')
      ? fs.readdirSync('/run/hew').filter(name => name.startsWith(PREFIX))
      : [],
    cgroups: run('find', ['/sys/fs/cgroup', '-type', 'd', '-name', `${PREFIX}*`]).stdout,
    processes: processes(),
    mounts: fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(line => line.includes(here)),
    files: run('find', [here]).stdout,
  }
}

function assertNothingLeft(before: Record<string, unknown>): void {
  const after = traces()
  for (const kind of Object.keys(before)) assert.equal(after[kind], before[kind], kind)
}

asRoot(
  `${MANY} containers at once: listed, limited, joined, killed, removed; nothing is left of them`,
  async () => {
    const before = traces()
    const ids = Array.from({length: MANY}, (_, i) => `${PREFIX}-${i}`)
    const waiting = [...ids]
    const starters = Array.from({length: 4}, async () => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop())
        assert.is(await enter(id).ended, 0, id)
    })
    await Promise.all(starters)
    const said = (life: string, some: string[]): void =>
      assert.equal(
        ours()
          .map(one => `${one.id} ${one.life}`)
          .sort(),
        some.map(id => `${id} ${life}`).sort(),
      )
    said('alive', ids)

    const limit = hew('limit', '--json', '--pids', '20', ...ids)
    assert.is(limit.stderr, '')
    const uses = limit.stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line))
    const limited = uses.filter(({processes}) => processes.limit === 20 && processes.now >= 1)
    assert.equal(
      limited.map(({target}) => target),
      ids,
    )
    assert.equal(hew('kill', '-s', '0', ...ids), {stdout: '', stderr: '', status: 0})

    const joining = [...ids]
    const joiners = Array.from({length: 4}, async () => {
      for (let id = joining.pop(); id !== undefined; id = joining.pop())
        assert.is(await begin(['enter', '-t', id, '--', 'sh', '-c', 'exit 9']).ended, 9, id)
    })
    await Promise.all(joiners)

    const half = ids.slice(0, MANY / 2)
    assert.equal(hew('kill', ...half), {stdout: '', stderr: '', status: 0})
    assert.is(hew('wait', ...half).stdout.match(/"exitStatus":143/g)?.length, half.length)
    assert.equal(hew('rm', ...half), {stdout: '', stderr: '', status: 0})
    said('alive', ids.slice(MANY / 2))
    assert.equal(hew('rm', '-f', ...ids.slice(MANY / 2)), {stdout: '', stderr: '', status: 0})
    assertNothingLeft(before)
  },
)

/** The same numbers in every run: mulberry32. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

asRoot(`${ROUNDS} rounds of kill -9 on hew while containers start and stop`, async () => {
  const before = traces()
  const next = random(4)
  for (let round = 0; round < ROUNDS; round++) {
    const [a, b] = ['a', 'b'].map(letter => `${PREFIX}-${round}${letter}`) as [string, string]
    const begun = [enter(a), enter(b)]
    await sleep(next() * 400)
    const stop = begin(['rm', '-f', a])
    await sleep(next() * 150)
    // Any of the commands while it works, and the supervisors of those that run.
    const supervisors = ours().map(({supervisor}) => supervisor.pid)
    const victims = [
      ...[...begun, stop].flatMap(({child}) => (child.exitCode === null ? child.pid! : [])),
      ...supervisors,
    ]
    const victim = victims[Math.floor(next() * victims.length)]
    if (victim !== undefined) killed(victim)
    await Promise.all([...begun, stop].map(({ended}) => ended))
    // What is left of it the next command cleans up: each state has its container, and each container its state.
    const stale = hew('rm', '--stale')
    assert.is(stale.stderr, '')
    await until(
      'the processes of who was killed are gone',
      () => {
        const alive = ours()
        assert.ok(alive.every(({life}) => life === 'alive' || life === 'ended'))
        return processes().every(
          ({id, zombie}) => !zombie && alive.some(one => one.id === id && one.life === 'alive'),
        )
      },
      30,
    )
    const left = ours().map(({id}) => id)
    if (left.length > 0) assert.is(hew('rm', '-f', ...left).stderr, '')
  }
  assertNothingLeft(before)
})

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

test.run()
