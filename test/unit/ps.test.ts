import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {json} from '../../lib/ps/json.ts'
import {parseArgs, parseStat, parseStatus} from '../../lib/ps/proc.ts'
import {type Container, type Member, tree} from '../../lib/ps/snapshot.ts'
import {text} from '../../lib/ps/text.ts'
import {cut, displayWidth, fitted} from '../../lib/ps/width.ts'

/** `hew ps` without processes: what hostile ones write into /proc, and what a terminal gets of it. */

const FIELDS =
  'S 41 42 43 34816 44 4194560 1 2 3 4 150 50 7 8 20 0 1 0 123456 9999 25 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0'

function stat(name: string | Buffer): ReturnType<typeof parseStat> {
  const line = Buffer.concat([Buffer.from('42 ('), Buffer.from(name), Buffer.from(`) ${FIELDS}\n`)])
  // What an earlier, longer file has left in the buffer.
  return parseStat(Buffer.concat([line, Buffer.from(') R 1 2 3')]), line.length)
}

const HOSTILE = ['sleep', 'a) R 1 1', '(((', ')))', 'a\nb) Z 9', '\x1b[2J', ' ', '', ') S 1 (']

test('a name may hold anything: the fields behind it are those of the kernel', () => {
  for (const name of HOSTILE)
    assert.equal(
      stat(name),
      {comm: name, state: 'S', ppid: 41, kernel: false, cpuSeconds: 2, start: 123456, memoryBytes: 25 * 4096},
      name,
    )
  assert.is(stat(Buffer.from([0x66, 0xff, 0xfe]))?.comm, 'f\ufffd\ufffd')
})

test('what is no line of a process is none', () => {
  for (const line of ['', '42 (a', '42 (a)', '42 (a) S', '42 (a) S 1 2 3\n', 'nonsense'])
    assert.is(parseStat(Buffer.from(line), line.length), undefined, line)
})

test('status: the user that counts, and the PIDs inside', () => {
  const status =
    'Name:\ta\\nUid:\\t7\nPid:\t42\nUid:\t1000\t1001\t1002\t1003\nNSpid:\t42\t5\t1\nVmRSS:\t1 kB\n'
  assert.equal(parseStatus(status), {uid: 1001, inner: [5, 1]})
  assert.equal(parseStatus('Uid:\n'), {uid: Number.NaN, inner: []})
})

test('arguments end with NUL, unless the process has written over them', () => {
  assert.equal(parseArgs(''), [])
  assert.equal(parseArgs('sh\0-c\0\0'), ['sh', '-c', ''])
  assert.equal(parseArgs('nginx: worker'), ['nginx: worker'])
  assert.equal(parseArgs('\0'), [''])
})

test('tree: parents before children, orphans, circles, chains longer than the stack', () => {
  const order = (group: [pid: number, ppid: number][]): string =>
    tree(group.map(([pid, ppid]) => ({pid, ppid})))
      .map(([{pid}, depth]) => `${pid}:${depth}`)
      .join(' ')
  assert.is(order([[1, 0], [2, 1], [3, 1], [4, 2], [9, 77]]), '1:0 2:1 4:2 3:1 9:0') // biome-ignore format: pairs
  assert.is(order([[5, 6], [6, 5], [7, 6]]), '5:0 6:1 7:2') // biome-ignore format: pairs
  assert.is(order([[3, 3]]), '3:0')
  const chain = Array.from({length: 50_000}, (_, i): [number, number] => [i + 1, i])
  assert.is(order(chain).split(' ').at(-1), '50000:49999')
})

test('columns are counted as a terminal counts them', () => {
  assert.is(displayWidth('abc'), 3)
  assert.is(displayWidth('日本'), 4)
  assert.is(displayWidth('e\u0301'), 1)
  assert.is(displayWidth('\ufffd'), 1)
  assert.is(displayWidth('🦊'), 2)
  assert.is(cut('日本語', 5), '日本')
  assert.is(cut('日本語', 6), '日本語')
  assert.is(cut('abc', 2), 'ab')
  assert.is(cut('anything', Number.POSITIVE_INFINITY), 'anything')
  assert.is(fitted('日', 3), '日 ')
  assert.is(fitted('日', 3, 'right'), ' 日')
  // Thousands of accents on one letter take one column, and are not sent either.
  assert.ok(cut(`a${'\u0301'.repeat(10_000)}`, 10).length < 100)
})

function member(given: Partial<Member>): Member {
  return {
    pid: 4242,
    ppid: 1,
    comm: 'sh',
    args: ['sh'],
    state: 'S',
    kernel: false,
    cpuSeconds: 61.5,
    start: 1,
    memoryBytes: 3 << 20,
    uid: 0,
    inner: [1],
    pidInside: 1,
    uidInside: 0,
    user: 'root',
    ageSeconds: 123,
    depth: 0,
    ...given,
  }
}

function container(given: Partial<Container>): Container {
  return {
    name: 'box',
    status: 'running',
    pid: 4242,
    supervisor: 4241,
    detached: false,
    createdAt: new Date(Date.now() - 125_000),
    root: '/srv/box',
    namespaces: ['mount', 'pid'],
    use: {
      cgroups: {memory: '/sys/fs/cgroup/box'},
      processes: {now: 3, limit: 3, refused: 2},
      memory: {now: 12 << 20, limit: 80 << 20, peak: 80 << 20, kills: 1},
      cpu: {seconds: 9.25, throttled: 12, throttledSeconds: 4.5, quota: 5000, period: 100_000},
    },
    processes: [
      member({}),
      member({pid: 4243, pidInside: 7, depth: 1, args: ['sleep', '100'], user: undefined}),
    ],
    ...given,
  }
}

test('a container with its figures and its tree, in 80 columns', () => {
  const lines = text({containers: [container({})], others: undefined}, 80)
  assert.is(
    lines,
    [
      '  PID INSIDE USER    %CPU    MEMORY S  TIME COMMAND',
      'box: running, for 2 min | /srv/box | its own: mount pid',
      '    memory 12 MiB of 80 MiB | 1 killed | CPU 9.3 s, limit 5% of a CPU',
      '    held back 4.5 s | pids 3 of 3 | 2 forks refused',
      ' 4242      1 root    50.0     3 MiB S  1:01 sh',
      ' 4243      7 0       50.0     3 MiB S  1:01 \\_ sleep 100',
      '',
    ].join('\n'),
  )
})

test('names, users, roots and command lines come to a terminal as they are to be read, and no wider than it', () => {
  const evil = '\x1b]0;owned\x07\n\r\x9b31m\u202e'
  const hostile = container({
    name: undefined,
    root: `/tmp/${evil}`,
    processes: [
      member({args: [evil, '日本語'.repeat(100)], user: evil, state: '\x1b'}),
      member({args: [], comm: `a${evil}`, depth: 3000}),
    ],
  })
  for (const columns of [20, 80, Number.POSITIVE_INFINITY]) {
    const shown = text({containers: [hostile], others: [member({args: [evil]})]}, columns)
    assert.not.match(shown, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
    for (const line of shown.split('\n')) assert.ok(displayWidth(line) <= columns, line)
  }
})

test('JSON: as the processes have it, but nothing that a terminal would obey', () => {
  const evil = '\x1b[2J\x7f\x9b31m"\\'
  const line = json({containers: [container({processes: [member({args: [evil]})]})], others: undefined})
  assert.not.match(line, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/)
  const {containers} = JSON.parse(line)
  assert.equal(containers[0].processes[0].args, [evil])
  assert.is(containers[0].cpuLimitCores, 0.05)
  assert.is(containers[0].memoryLimitBytes, 83886080)
})

test('JSON: what is unknown is null, and always there', () => {
  const unknown = container({
    name: undefined,
    pid: undefined,
    createdAt: undefined,
    root: undefined,
    namespaces: undefined,
    use: {cgroups: {}, processes: {}, memory: {}, cpu: {}},
    processes: [member({user: undefined, pidInside: undefined})],
  })
  const known = container({})
  const [shape, full] = [unknown, known].map(
    one => JSON.parse(json({containers: [one], others: undefined})).containers[0],
  )
  assert.equal(Object.keys(shape), Object.keys(full))
  assert.equal(Object.keys(shape.processes[0]), Object.keys(full.processes[0]))
  assert.is(shape.memoryBytes, null)
  assert.is(shape.processes[0].user, null)
})

test('nothing runs: one line that says so, and an empty list', () => {
  assert.match(text({containers: [], others: undefined}, 80), /^no container runs here: .*\n$/)
  assert.is(json({containers: [], others: undefined}), '{"containers":[]}\n')
})

test.run()
