import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, type Outcome, requires, run, scratch, shell} from '../support.ts'

/** `limit` and `cgroup-init` as a person types them: what comes out, and the errors to the letter. Nothing is limited here. */

const here = scratch()
const root = `${here}/root`
hew('mkroot', '--empty', root)

const given = shell(`hew mkroot --empty --into '${root}'`).stdout
const limit = (options: string): Outcome => shell(`hew limit ${options}`, {input: given})
// biome-ignore lint/suspicious/noExplicitAny: a document
const document = (options: string): any => {
  const {stdout, stderr, status} = limit(options)
  assert.is(stderr, '')
  assert.is(status, 0)
  return JSON.parse(stdout)
}

test('limits are linux.resources of the document; the rest of it stays', () => {
  const after = document('--memory 80M --cpu 5% --pids 3')
  assert.equal(after.linux.resources, {
    memory: {limit: 83886080, swap: 83886080},
    cpu: {quota: 5000, period: 100000},
    pids: {limit: 3},
  })
  const {resources: _, ...linux} = after.linux
  assert.equal({...after, linux}, JSON.parse(given))
})

test('what OCI has no field for is in unified', () => {
  assert.equal(document('--memory-high 60M --cpu-weight 50 --set memory.low=20M').linux.resources, {
    unified: {'memory.high': '62914560', 'cpu.weight': '50', 'memory.low': '20M'},
  })
})

test('in a terminal, with nothing before it in a pipe, it says what can be limited', () => {
  const {stdout, status} = run('script', ['-qec', `${HEW} limit --pids 3`, '/dev/null'])
  assert.match(
    stdout,
    /^hew limit: nothing to limit: name a container or a PID, or pipe a root in, as in 'hew mkroot /,
  )
  assert.is(status, 2)
})

test('one limit after another; without options the document passes', () => {
  const {linux} = JSON.parse(
    shell(
      `hew mkroot --empty --into '${root}' | hew limit --memory 80M --pids 3 | hew limit --pids max | hew limit`,
    ).stdout,
  )
  assert.equal(linux.resources, {memory: {limit: 83886080, swap: 83886080}, pids: {limit: -1}})
})

for (const [options, message] of [
  [
    '--memory 80MB',
    '--memory 80MB: MB is 1000 to some and 1024 to others: write 80M (1024), or the number of bytes',
  ],
  ['--memory=-1', '--memory -1: it is a number of bytes, with K, M, G or T behind it, as in 80M, or max'],
  ['--memory 0', '--memory 0: that is less than a page of memory: 80M is 80 MiB'],
  [
    '--memory 1000000000000000000000000000000',
    '--memory 1000000000000000000000000000000: no machine has that much: max lifts the limit',
  ],
  ['--cpu 5%%', '--cpu 5%%: it is a percentage of one CPU, as in 5%, a number of CPUs, as in 1.5, or max'],
  ['--cpu 0', '--cpu 0: the kernel gives no less than 0.1%'],
  ['--pids 0', '--pids 0: it is a whole number from 1 to 4194304'],
  ['--pids -3', '--pids -3: it is a whole number from 1 to 4194304'],
  ['-p -3', '--pids -3: it is a whole number from 1 to 4194304'],
  ['--cpu -1', '--cpu -1: it is a percentage of one CPU, as in 5%, a number of CPUs, as in 1.5, or max'],
  ['--pids NaN', '--pids NaN: it is a whole number from 1 to 4194304'],
  ['--set ../x=1', '--set ../x=1: ../x is no file of a cgroup: they are named as memory.max is'],
  ['--set cgroup.procs=1', '--set cgroup.procs=1: cgroup.procs is no limit'],
  ['--swap 1G', '--swap is on top of --memory: say both'],
  ['--memory max --swap 1G', '--swap is on top of --memory, and that has no limit'],
  ['--io /dev/null:rbps=1M', '--io /dev/null:rbps=1M: /dev/null is no block device'],
] as const)
  test(`refused: ${options}`, () => {
    const {stdout, stderr, status} = limit(options)
    assert.is(stderr, `hew limit: ${message}\nhew limit: see 'hew limit --help'\n`)
    assert.is(stdout, '')
    assert.is(status, 2)
  })

test('more CPUs than there are, a CPU that is not there', () => {
  assert.match(
    limit('--cpu 99999%').stderr,
    /^hew limit: --cpu 99999%: this machine has .*CPUs?: at most \d+%\n/,
  )
  assert.match(
    limit('--cpu 50').stderr,
    /^hew limit: --cpu 50: this machine has .*CPUs?: at most \d+; a percentage is written 50%\n/,
  )
  assert.match(
    limit('--cpuset 7777').stderr,
    /^hew limit: --cpuset 7777: there is no such CPU: this machine has 0/,
  )
})

test('nobody there', () => {
  assert.is(hew('limit', '4194999', '--pids', '3').stderr, 'hew limit: there is no process 4194999\n')
  assert.is(hew('limit', 'nobody').stderr, "hew limit: no container is called nobody: 'hew ps' lists them\n")
  assert.is(hew('limit', '../x').status, 125)
  assert.is(
    shell('true | hew limit --pids 3').stderr,
    'hew limit: nothing came through the pipe: the command before it failed, or it prints no document\n',
  )
})

test('use and limits of a process', () => {
  const {stdout, status} = hew('limit', '--json', `${process.pid}`)
  assert.is(status, 0)
  const use = JSON.parse(stdout)
  assert.is(use.target, `${process.pid}`)
  for (const path of Object.values(use.cgroups)) assert.ok(fs.existsSync(`${path}/cgroup.procs`), `${path}`)
})

test('wrong words for cgroup-init: nothing is done', () => {
  assert.is(
    hew('cgroup-init', '--controllers', 'memory,cpus').stderr,
    "hew cgroup-init: --controllers cpus: there are cpuset, cpu, io, memory, hugetlb, pids, rdma, misc\nhew cgroup-init: see 'hew cgroup-init --help'\n",
  )
  assert.is(hew('cgroup-init', '--evacuate-to', '../x').status, 2)
  assert.is(hew('cgroup-init', 'x').status, 2)
})

const asRoot = requires(test, 'root')

asRoot('the verdict cannot be written: nothing starts', () => {
  const {stdout, stderr, status} = hew(
    'enter',
    '-r',
    '/',
    '--read-only',
    '--verdict',
    `${here}/no/where`,
    '--',
    'echo',
    'started',
  )
  assert.is(stderr, `hew enter: cannot write the verdict to ${here}/no/where: No such file or directory\n`)
  assert.is(stdout, '')
  assert.is(status, 125)
})

asRoot('the verdict: to a file, to a descriptor of the caller', () => {
  const enter = `hew enter -r / --read-only --share cgroup`
  const {stdout, status} = shell(
    `${enter} --verdict 3 -- sh -c 'echo lost >&3; exit 4' 3>&1 >/dev/null 2>&1; echo $?
    ${enter} --share pid --verdict=${here}/verdict -- sh -c 'kill -9 $$'; cat ${here}/verdict`,
  )
  const [first, code, second] = stdout.trimEnd().split('\n')
  assert.is(status, 0)
  // The command in the container has no such descriptor.
  const {exitStatus, signal, cpuSeconds, wallSeconds, oomKills} = JSON.parse(first!)
  assert.equal([exitStatus, signal, code], [4, null, '4'])
  assert.ok(cpuSeconds > 0 && wallSeconds > 0 && !oomKills)
  assert.equal([JSON.parse(second!).exitStatus, JSON.parse(second!).signal], [137, 9])
  assert.is(
    shell(`${enter} --verdict 7 -- true`).stderr,
    "hew enter: --verdict 7: the descriptor 7 is not open\nhew enter: see 'hew enter --help'\n",
  )
})

asRoot('what cannot be had is refused, and nothing starts', () => {
  const enter = (resources: object): Outcome => {
    const config = JSON.parse(given)
    return shell('hew enter -- true', {
      input: JSON.stringify({...config, root: {path: '/'}, linux: {...config.linux, resources}}),
    })
  }
  assert.is(
    enter({rdma: {mlx: {hcaHandles: 1}}}).stderr,
    'hew enter: refused: linux.resources.rdma: hew does not limit RDMA\n',
  )
  assert.is(
    enter({memory: {disableOOMKiller: true}}).stderr,
    'hew enter: refused: linux.resources.memory.disableOOMKiller: cgroup v2 has no such thing\n',
  )
  assert.match(
    enter({unified: {'nothing.max': '1'}}).stderr,
    /^hew enter: the limit of nothing cannot be set: .*\n$/,
  )
})

test.run()
