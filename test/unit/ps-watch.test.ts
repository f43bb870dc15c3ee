import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {keysOf, press} from '../../lib/ps/keys.ts'
import {
  BEGINNING,
  type Sample,
  type Style,
  screen,
  sparkline,
  type View,
  type Watched,
} from '../../lib/ps/screen.ts'
import type {Container, Member} from '../../lib/ps/snapshot.ts'
import {displayWidth} from '../../lib/ps/width.ts'

/** `hew ps --watch` without a terminal: from what there is, what was typed and how large it is, to lines. */

const PLAIN: Style = {colour: false, unicode: true}

const VIEW: View = {...BEGINNING, sort: 'pid'}

function member(given: Partial<Member>): Member {
  return {
    pid: 100,
    ppid: 1,
    comm: 'sh',
    args: ['sh'],
    state: 'S',
    kernel: false,
    cpuSeconds: 1,
    start: 5,
    memoryBytes: 1 << 20,
    uid: 0,
    inner: [1],
    pidInside: 1,
    uidInside: 0,
    user: 'root',
    ageSeconds: 10,
    depth: 0,
    ...given,
  }
}

function watched(name: string, pid: number, given: Partial<Watched> = {}, processes?: Member[]): Watched {
  const container: Container = {
    name,
    status: 'running',
    pid,
    supervisor: undefined,
    detached: false,
    createdAt: undefined,
    root: `/srv/${name}`,
    namespaces: ['pid'],
    use: {
      cgroups: {memory: '/c'},
      memory: {now: 40 << 20, limit: 80 << 20, kills: 2},
      cpu: {quota: 50_000, period: 100_000, throttledSeconds: 3.25},
      processes: {now: 3, limit: 3, refused: 1},
    },
    processes: processes ?? [
      member({pid}),
      member({pid: pid + 1, pidInside: 2, depth: 1, args: ['sleep', '1']}),
    ],
  }
  return {
    container,
    cores: 0.25,
    memoryBytes: 40 << 20,
    pids: 3,
    history: {memory: [20 << 20, 40 << 20], cpu: [0, 0.25], pids: [1, 3]},
    pressure: {memory: 12.4, cpu: undefined},
    ...given,
  }
}

function sample(containers: Watched[], others?: Member[]): Sample {
  return {containers, others, cores: new Map([[101, 0.5]]), machine: {memoryBytes: 1 << 30, cpus: 2}}
}

const bare = (line: string): string => line.replace(/\x1b\[[0-9;]*m/g, '').trimEnd()

test('bars against limits, what went before, pressure, and the tree', () => {
  const {lines, shown} = screen(sample([watched('box', 100)]), VIEW, 24, 80, PLAIN)
  assert.is(lines.length, 24)
  assert.equal(lines.slice(0, 8).map(bare), [
    'hew ps: 1 container, 2 processes, by pid, every 1 s',
    'box  running  /srv/box',
    '  memory [||||||||        ]       ▂▄ 40 MiB of 80 MiB, 2 killed, pressure 12%',
    '  CPU    [||||||||        ]        ▄ 25.0% of 50% of a CPU, held back 3.3 s',
    '  pids   [||||||||||||||||]       ▃█ 3 of 3, 1 fork refused',
    '  PID INSIDE USER    %CPU    MEMORY S  TIME COMMAND',
    '  100      1 root     0.0     1 MiB S  0:01 sh',
    '  101      2 root    50.0     1 MiB S  0:01 \\_ sleep 1',
  ])
  assert.equal([...shown], ['box'])
  assert.match(bare(lines[23]!), /^q quit/)
})

test('colours only where they are wanted; without UTF-8 nothing but ASCII', () => {
  const all = sample([watched('box', 100)])
  const painted = screen(all, VIEW, 24, 80, {colour: true, unicode: true}).lines.join('\n')
  assert.match(painted, /\x1b\[31m\|+\x1b\[0m/)
  assert.not.match(screen(all, VIEW, 24, 80, PLAIN).lines.join('\n'), /\x1b\[(3|4)\dm/)
  assert.not.match(
    screen(all, VIEW, 24, 80, {colour: false, unicode: false}).lines.join('\n'),
    /[^\x1b\x20-\x7e\n]/,
  )
  assert.is(sparkline([0, 0.001, 0.5, 1, 7], true), ' ▁▄██')
})

test('no window is too small, no name too wide, nothing is sent that a terminal obeys', () => {
  const evil = '\x1b]0;owned\x07\x9b2J\u202e日本語'
  const hostile = watched('box', 100, {}, [member({args: [evil.repeat(50)], user: evil})])
  hostile.container.root = `/${evil}`
  for (const [rows, columns] of [[24, 80], [1, 1], [3, 10], [100, 300], [2, 200]] as const) // biome-ignore format: pairs
    for (const view of [
      VIEW,
      {...VIEW, help: true},
      {...VIEW, typing: true, filter: evil},
      {...VIEW, message: evil},
    ]) {
      const {lines} = screen(sample([hostile], [member({args: [evil]})]), view, rows, columns, PLAIN)
      assert.is(lines.length, rows)
      for (const line of lines) {
        assert.ok(displayWidth(bare(line)) <= columns, `${rows}x${columns}: ${line}`)
        assert.not.match(line.replace(/\x1b\[[0-9;]*m/g, ''), /[\x00-\x1f\x7f-\x9f\u202e]/)
      }
    }
})

test('what is selected is on the screen, among hundreds', () => {
  const many = sample(Array.from({length: 200}, (_, i) => watched(`box-${i}`, 1000 + 10 * i)))
  const view = {...VIEW, selected: {key: 'box-150', pid: 2501}}
  const {lines, shown, targets} = screen(many, view, 24, 80, PLAIN)
  assert.is(targets.length, 600)
  assert.ok(lines.some(line => line.startsWith('\x1b[7m') && line.includes(' 2501 ')))
  assert.ok(shown.has('box-150') && shown.size < 6)
})

test('sorted and filtered', () => {
  const all = sample([
    watched('a', 300, {cores: 0.1, memoryBytes: 9}),
    watched('b', 100, {cores: 0.3, memoryBytes: 5}),
    watched('c', 200, {cores: 0.2, memoryBytes: 7}, [member({pid: 200, args: ['nginx']})]),
  ])
  const order = (view: Partial<View>): string =>
    screen(all, {...VIEW, ...view}, 50, 80, PLAIN)
      .targets.filter(({pid}) => pid === undefined)
      .map(({key}) => key)
      .join('')
  assert.is(order({sort: 'cpu'}), 'bca')
  assert.is(order({sort: 'memory'}), 'acb')
  assert.is(order({sort: 'pid'}), 'bca')
  assert.is(order({sort: 'name'}), 'abc')
  assert.is(order({filter: 'NGINX'}), 'c')
  assert.is(order({filter: '/srv/a'}), 'a')
  assert.is(order({filter: 'nothing'}), '')
})

test('brothers and sisters are sorted, the tree stays one', () => {
  const tree = [
    member({pid: 100, memoryBytes: 1}),
    member({pid: 101, depth: 1, memoryBytes: 2}),
    member({pid: 102, depth: 2, memoryBytes: 9}),
    member({pid: 103, depth: 1, memoryBytes: 5}),
  ]
  const {targets} = screen(sample([watched('a', 100, {}, tree)]), {...VIEW, sort: 'memory'}, 30, 80, PLAIN)
  assert.equal(
    targets.map(({pid}) => pid),
    [undefined, 100, 103, 101, 102],
  )
})

/** Presses keys one after the other; the view, and what they asked for. */
function typed(keys: string, view = VIEW): {view: View; actions: unknown[]} {
  const targets = [
    {key: 'a', pid: undefined},
    {key: 'a', pid: 100},
    {key: '', pid: 7},
  ]
  const actions: unknown[] = []
  for (const key of keysOf(keys)) {
    const pressed = press(key, view, {targets}, () => 5)
    view = pressed.view
    if (pressed.action) actions.push(pressed.action)
  }
  return {view, actions}
}

const UP = '\x1b[A'
const DOWN = '\x1b[B'

test('keys: nothing is killed before y, and only what was shown then', () => {
  const process = {key: 'a', pid: 100}
  assert.equal(typed(`${DOWN}kn`).actions, [])
  assert.equal(typed(`${DOWN}k\r`).actions, [])
  assert.equal(typed(`${DOWN}ky`).actions, [{do: 'kill', target: process, whole: false, start: 5}])
  assert.equal(typed(`${DOWN}Ky`).actions, [{do: 'kill', target: process, whole: true, start: 5}])
  assert.equal(typed('ky').actions, [{do: 'kill', target: {key: 'a', pid: undefined}, whole: true, start: 5}])
  assert.equal(typed(`${DOWN}${DOWN}Ky`).actions, [])
  assert.match(typed(`${DOWN}${DOWN}f`).view.message, /in no container/)
})

test('keys: moving, sorting, filtering, the interval, help, the end', () => {
  assert.equal(typed(`${DOWN}${DOWN}${DOWN}${DOWN}${UP}`).view.selected, {key: 'a', pid: 100})
  assert.equal(typed('\x1b[F').view.selected, {key: '', pid: 7})
  assert.equal([typed('s').view.sort, typed('ss').view.sort], ['name', 'cpu'])
  const {view, actions} = typed('/qx\x7f日K\r')
  assert.equal([view.filter, view.typing, actions], ['q日K', false, []])
  assert.equal([typed('/q\x1b').view.filter, typed('/q\x1b').view.typing], ['', false])
  assert.is(typed('----------').view.interval, 10)
  assert.is(typed('++++').view.interval, 0.5)
  assert.equal([typed('?').view.help, typed('?q').view.help, typed('?q').actions], [true, false, []])
  for (const end of ['q', '\x03', '/\x03', 'k\x03', '?\x03'])
    assert.equal(typed(end).actions, [{do: 'quit'}], end)
  assert.equal(typed('\x1a').actions, [{do: 'stop'}])
  assert.equal(typed('ft').actions.map(a => (a as {do: string}).do), ['freeze', 'thaw']) // biome-ignore format: short
})

test.run()
