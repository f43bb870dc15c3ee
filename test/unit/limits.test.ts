import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {resources, settings, type Wishes} from '../../lib/cgroups/limits.ts'
import {cgroupName} from '../../lib/cgroups/plan.ts'
import {
  assignment,
  bandwidth,
  bytesText,
  count,
  cpuset,
  deviceLimits,
  memory,
  size,
} from '../../lib/cgroups/values.ts'
import type {Resources} from '../../lib/document/oci.ts'

/** What `hew limit` understands, and the files that it comes out as, in cgroup v2 and v1. */

for (const [word, bytes] of [
  ['80M', 83886080],
  ['80m', 83886080],
  ['80MiB', 83886080],
  ['1.5G', 1610612736],
  ['4K', 4096],
  ['2T', 2199023255552],
  ['83886080', 83886080],
  ['max', undefined],
] as const)
  test(`a size: ${word}`, () => assert.is(size('--memory', word), bytes))

const wrong = (read: (word: string) => unknown, ...words: string[]): void => {
  for (const word of words)
    assert.throws(
      () => read(word),
      (e: Error) => e.name === 'UsageError',
      word,
    )
}

test('no size', () => {
  wrong(
    w => memory('--memory', w),
    '-1',
    '-80M',
    '',
    'NaN',
    'M',
    '80X',
    '8 0M',
    '0x50',
    '1e9',
    '10'.padEnd(31, '0'),
  )
  wrong(w => memory('--memory', w), '80MB', '80kb', '80Mi', '0', '0M', '5', '4095')
})

test('a size for people', () => {
  assert.equal([0, 4096, 83886080, 1610612736].map(bytesText), ['0 bytes', '4 KiB', '80 MiB', '1.5 GiB'])
})

test('a share of CPUs', () => {
  assert.equal(bandwidth('5%'), {quota: 5000, period: 100000})
  assert.equal(bandwidth('0.5'), {quota: 50000, period: 100000})
  assert.equal(bandwidth('100%'), bandwidth('1'))
  // The kernel takes no quota below a millisecond: a longer period has the same share.
  assert.equal(bandwidth('0.5%'), {quota: 5000, period: 1000000})
  assert.is(bandwidth('max'), undefined)
  wrong(bandwidth, '5%%', '-5%', '0', '0%', '0.01%', '%', 'NaN', '1e3', '100000%', '100000', '')
})

test('numbers, lists of CPUs, files, devices', () => {
  assert.is(count('--pids', '3', 1, 10), 3)
  wrong(w => count('--pids', w, 1, 10), '0', '11', '-1', '1.5', 'x', '')
  assert.is(cpuset('0'), '0')
  wrong(cpuset, '9999', '0-9999', '1-0', 'x', '0,', '-1', '')
  assert.equal(assignment('memory.low=20M'), ['memory.low', '20M'])
  assert.equal(assignment('io.max=8:0 rbps=1'), ['io.max', '8:0 rbps=1'])
  wrong(
    assignment,
    '../x=1',
    'memory.max',
    'memory/max=1',
    'cgroup.procs=1',
    'cgroup.kill=1',
    '=1',
    'a.b=',
    'a.b=1\n2',
  )
  assert.equal(deviceLimits('8:0:rbps=1M,wiops=max'), [
    {major: 8, minor: 0, key: 'rbps', rate: 1048576},
    {major: 8, minor: 0, key: 'wiops', rate: 0},
  ])
  wrong(deviceLimits, '8:0', '8:0:rbps', '8:0:speed=1', '8:0:rbps=0', '/nowhere:rbps=1M', '/dev/null:rbps=1M')
})

const none: Wishes = {devices: [], files: []}
const lines = (r: Resources, version: 1 | 2): string[] =>
  settings(r, () => version).map(({file, value}) => `${file}=${value}`)

test('a memory limit leaves no swap on top, unless it is said', () => {
  const limited = resources({}, {...none, memory: 100})
  assert.equal(limited, {memory: {limit: 100, swap: 100}})
  assert.equal(lines(limited, 2), ['memory.max=100', 'memory.swap.max=0'])
  assert.equal(lines(limited, 1), ['memory.limit_in_bytes=100', 'memory.memsw.limit_in_bytes=100'])
  assert.equal(lines(resources({}, {...none, memory: 100, swap: 50}), 2), [
    'memory.max=100',
    'memory.swap.max=50',
  ])
  assert.equal(
    lines(resources({}, {...none, memory: 100, swap: null}), 1)[1],
    'memory.memsw.limit_in_bytes=-1',
  )
  assert.equal(lines(resources({}, {...none, memory: null}), 2), ['memory.max=max', 'memory.swap.max=max'])
  // A second `limit` in the pipe knows the first.
  assert.equal(lines(resources(limited, {...none, swap: 7}), 2), ['memory.max=100', 'memory.swap.max=7'])
})

test('CPU, processes, devices: v2 and v1 have other files for the same', () => {
  const wishes = {
    ...none,
    cpu: {quota: 5000, period: 100000},
    pids: 3,
    devices: deviceLimits('8:0:rbps=1M'),
    cpuWeight: 200,
  }
  const limited = resources({}, wishes)
  assert.equal(lines(limited, 2), [
    'cpu.max=5000 100000',
    'pids.max=3',
    'io.max=8:0 rbps=1048576',
    'cpu.weight=200',
  ])
  assert.equal(lines(limited, 1), [
    'cpu.cfs_period_us=100000',
    'cpu.cfs_quota_us=5000',
    'pids.max=3',
    'blkio.throttle.read_bps_device=8:0 1048576',
    'cpu.shares=2048',
  ])
  const lifted = resources(limited, {...none, cpu: null, pids: null, devices: deviceLimits('8:0:rbps=max')})
  assert.equal(lines(lifted, 2), [
    'cpu.max=max 100000',
    'pids.max=max',
    'io.max=8:0 rbps=max',
    'cpu.weight=200',
  ])
})

test('what other runtimes write is translated as runc does', () => {
  const theirs: Resources = {
    cpu: {shares: 1024, cpus: '0', period: 50000},
    memory: {limit: -1, reservation: 10},
  }
  assert.equal(lines(theirs, 2), [
    'memory.max=max',
    'memory.low=10',
    'cpu.weight=100',
    'cpu.max=max 50000',
    'cpuset.cpus=0',
  ])
  assert.equal(lines({cpu: {shares: 2}}, 2), ['cpu.weight=1'])
  assert.equal(lines({cpu: {shares: 262144}}, 2), ['cpu.weight=10000'])
})

test('a document cannot reach beside the cgroup, nor move or kill', () => {
  for (const file of ['../x', 'memory.max/../../x', 'cgroup.procs', 'cgroup.kill', '.', ''])
    assert.throws(() => lines({unified: {[file]: '1'}}, 2), /^refused: linux.resources: /, file)
  assert.throws(() => lines({unified: {'memory.max': '1\n2'}}, 2), /more than one line/)
  assert.throws(() => lines({hugepageLimits: [{pageSize: '/../2MB', limit: 1}]}, 2), /refused/)
  assert.equal(lines({hugepageLimits: [{pageSize: '2MB', limit: 7}]}, 1), ['hugetlb.2MB.limit_in_bytes=7'])
})

test('0 is no limit: runtimes written in Go say it where nothing was said', () => {
  assert.equal(lines({memory: {limit: 0, swap: 0}, cpu: {shares: 0, quota: 0}, pids: {limit: 0}}, 2), [])
})

test('hybrid: each controller where it is', () => {
  const files = settings({memory: {limit: 1}, pids: {limit: 2}}, c => (c === 'pids' ? 2 : 1)).map(
    ({file}) => file,
  )
  assert.equal(files, ['memory.limit_in_bytes', 'pids.max'])
})

test('a cgroup cannot be called as one of the files beside it', () => {
  assert.equal(['/', '/my-new-root', '/a/memory.max', '/x y'].map(cgroupName), [
    'root',
    'my-new-root',
    'memory-max',
    'x-y',
  ])
})

test.run()
