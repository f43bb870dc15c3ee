import {spawn} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import * as fs from 'node:fs'
import {homedir, tmpdir} from 'node:os'
import {join, resolve} from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {FRESH, inFreshContainer, type Kind} from '../guest/fresh.ts'
import {GuestError, type GuestOptions, inGuest} from '../guest/guest.ts'
import {HEW, requires, run, scratch, until} from '../support.ts'

/** The test kernel, and the fresh containers that are made where cgroups are v2: what the other tests stand on. */

const PROJECT = resolve(import.meta.dirname, '../..')
const GUEST = join(PROJECT, 'test/guest/guest.ts')
const here = scratch()

const tests = suite('guest')
const test = requires(tests, 'root', 'guest')

/** What a command in a guest prints; it must succeed and be quiet. */
async function printed(command: string, options?: GuestOptions): Promise<string> {
  const {stdout, stderr, status} = await inGuest(command, options)
  assert.is(stderr.toString(), '')
  assert.is(status, 0)
  return stdout.toString()
}

async function failure(command: string, options?: GuestOptions): Promise<GuestError> {
  try {
    await inGuest(command, options)
  } catch (error) {
    assert.instance(error, GuestError)
    return error as GuestError
  }
  assert.unreachable('a guest that should have died gave back a status')
  throw new Error()
}

/** The command line of this program. */
const words = (...rest: string[]): string[] => ['--no-warnings', '--import', 'tsx', GUEST, ...rest]

/** A file of a process, which may be gone meanwhile. */
function ofProcess(pid: number, name: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/${name}`, 'latin1')
  } catch {
    return ''
  }
}

/** Processes with a text in their environment, which is where a guest has its command. */
const marked = (mark: string): number[] =>
  fs
    .readdirSync('/proc')
    .map(Number)
    .filter(pid => pid > 0 && ofProcess(pid, 'environ').includes(mark))

test('the command’s exit status', async () => {
  assert.is((await inGuest('exit 7')).status, 7)
  assert.is((await inGuest('kill -TERM $$')).status, 143)
  assert.is((await inGuest('exec /nowhere')).status, 127)
})

test('stdin, stdout and stderr: every byte, each its own way', async () => {
  const every = Buffer.from(Array.from({length: 256}, (_, i) => i))
  const stdin = Buffer.concat([every, randomBytes(3_000_000), every])
  const {stdout, stderr, status} = await inGuest('tee /dev/stderr | tail -c +257', {stdin})
  assert.is(status, 0)
  assert.ok(stderr.equals(stdin))
  assert.ok(stdout.equals(stdin.subarray(256)))
})

test('without stdin there is nothing to read, and no terminal', async () => {
  assert.is(await printed('wc -c; for fd in 0 1 2; do [ ! -t $fd ] && echo no; done'), '0\nno\nno\nno\n')
})

test('output comes while the command runs', async () => {
  const times: number[] = []
  await inGuest('echo one; sleep 1; echo two', {onOutput: () => times.push(Date.now())})
  assert.is(times.length, 2)
  assert.ok(times[1]! - times[0]! > 500, `${times[1]! - times[0]!} ms`)
})

test('what the command leaves running ends with it', async () => {
  const from = Date.now()
  assert.is(await printed('sleep 1000 & (trap "" TERM HUP; sleep 1000) & echo done'), 'done\n')
  assert.ok(Date.now() - from < 30_000)
})

test('the machine: its root and the project, which it cannot change', async () => {
  const mark = join(here, 'mark')
  const line = `pwd; cat package.json; id -u; hostname; mkdir -p ${here}; echo x | tee ${mark} ${PROJECT}/mark /etc/mark`
  const name = fs.readFileSync(join(PROJECT, 'package.json'), 'utf8')
  assert.is(await printed(line), `${PROJECT}\n${name}0\nguest\nx\n`)
  for (const path of [mark, `${PROJECT}/mark`, '/etc/mark']) assert.not(fs.existsSync(path), path)
})

test('cgroup v2 is the only hierarchy, with every controller that this kernel has', async () => {
  const root = '/sys/fs/cgroup'
  const lines = (
    await printed(`grep ' - cgroup' /proc/self/mountinfo; cat ${root}/cgroup.controllers /proc/self/cgroup`)
  ).split('\n')
  assert.is(lines.length, 4)
  assert.match(lines[0]!, / \/sys\/fs\/cgroup rw,[^ ]* - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot$/)
  assert.equal(lines.slice(1), ['cpu io memory pids', '0::/', ''])
})

test('every file system that a machine has, and the loopback', async () => {
  const types = await printed(`
    findmnt -rno TARGET,FSTYPE -t proc,sysfs,devtmpfs,devpts,mqueue,ext4,tmpfs | sort
    cd /tmp && touch file && setfattr -n user.name -v value file && getfattr --only-values -n user.name file; echo
    ip -br address show lo | tr -s ' '
    for file in /dev/null /dev/shm /dev/fd/0 /dev/ptmx; do test -e $file || echo no $file; done`)
  assert.is(
    types,
    [
      '/dev devtmpfs',
      '/dev/mqueue mqueue',
      '/dev/pts devpts',
      '/dev/shm tmpfs',
      '/proc proc',
      '/run tmpfs',
      '/sys sysfs',
      '/tmp ext4',
      'value',
      'lo UNKNOWN 127.0.0.1/8 ',
      '',
    ].join('\n'),
  )
})

test('two at once: each has its own of everything', async () => {
  // The project is in both, at its own path, and that may be below /tmp.
  const line = (name: string): string => `
    for place in /etc /tmp /run /dev/shm; do echo ${name} >>$place/which; done
    sleep 2
    cat /etc/which /tmp/which /run/which /dev/shm/which
    find /tmp -type f ! -path '${PROJECT}/*'; pgrep -c sleep`
  const both = await Promise.all(['a', 'b'].map(name => printed(`sleep 9 & ${line(name)}`)))
  assert.equal(
    both,
    ['a', 'b'].map(name => `${`${name}\n`.repeat(4)}/tmp/which\n1\n`),
  )
})

test('its time is up: what it wrote so far, and that it was killed', async () => {
  // How long a boot takes is the machine's to say.
  const within = async (seconds: number): Promise<void> => {
    const {timedOut, stdout, message} = await failure('echo begun; sleep 1000', {timeout: seconds * 1000})
    assert.ok(timedOut)
    assert.match(message, new RegExp(`^the guest was killed after ${seconds} s; `))
    if (stdout.length === 0 && seconds < 60) return within(seconds * 2)
    assert.is(stdout.toString(), 'begun\n')
  }
  await within(4)
})

test('a guest that dies: its last words', async () => {
  const crashed = await failure('echo begun; sleep 0.2; echo c >/proc/sysrq-trigger')
  assert.not(crashed.timedOut)
  assert.is(crashed.stdout.toString(), 'begun\n')
  assert.match(
    crashed.message,
    /^the guest died; .*\n(.*\n)*Kernel panic - not syncing: sysrq triggered crash$/,
  )
  // No status is not a status of 0.
  assert.match((await failure('echo o >/proc/sysrq-trigger; sleep 10')).message, /^the guest died/)
  // One that does not get as far as its init.
  assert.match(
    (await failure('true', {memory: '9M'})).message,
    /^the guest died; .*\nToo few physical memory!/,
  )
})

test('out of memory: the command goes, what it wrote is there', async () => {
  const {stdout, status} = await inGuest('echo begun; head -c 1G /dev/zero | tail -n 1', {memory: '256M'})
  assert.is(stdout.toString(), 'begun\n')
  assert.is(status, 137)
})

/** What a guest could leave behind on this machine. */
function traces(): string[] {
  const places = [tmpdir(), '/tmp', '/dev/shm', '/run', homedir()]
  return [
    ...places.flatMap(place => fs.readdirSync(place).map(name => join(place, name))),
    ...fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n'),
  ].filter(name => /uml|vm_file|\/run\/(init|settings|disk|stdin)$/.test(name))
}

test('nothing is left behind: after the end, after the time limit, after kill -9 of the caller', async () => {
  const before = traces()
  const mark = `mark-${randomBytes(8).toString('hex')}`
  await printed(`: ${mark}`)
  assert.equal(marked(mark), [])
  await failure(`sleep 1000; : ${mark}`, {timeout: 2000})
  assert.equal(marked(mark), [])
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const caller = spawn(process.execPath, words(`echo begun; sleep 1000; : ${mark}`), {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await new Promise(resolve => caller.stdout.once('data', resolve))
    assert.ok(marked(mark).length > 3, 'the kernel, its helpers and the processes in it')
    caller.kill(signal)
    await until('the end of the guest', () => marked(mark).length === 0)
  }
  assert.equal(traces(), before)
})

test('as a program: output, status, and what went wrong', async () => {
  const program = (...rest: string[]) => run(process.execPath, words(...rest))
  assert.equal(program('echo out; echo err >&2; exit 3'), {stdout: 'out\n', stderr: 'err\n', status: 3})
  const late = program('--timeout', '2', 'sleep 1000')
  assert.match(late.stderr, /^guest: the guest was killed after 2 s; /)
  assert.is(late.status, 124)
  assert.is(program('echo c >/proc/sysrq-trigger').status, 125)
  assert.equal(program(), {
    stdout: '',
    stderr: 'guest: no terminal for a shell: give it a command\n',
    status: 2,
  })
})

requires(
  tests,
  'root',
  'guest',
  'expect',
)('a shell at a terminal: its size, job control, the terminal as it was', () => {
  const script = join(here, 'shell.exp')
  fs.writeFileSync(
    script,
    `set timeout 30
    proc see {what} {
      expect {
        $what {}
        default { puts "NOT SEEN: $what"; exit 9 }
      }
    }
    set stty_init "rows 33 columns 101"
    spawn sh -c {stty -g >${here}/before; "$@"; echo "status $?"; stty -g >${here}/after} sh ${[process.execPath, ...words()].join(' ')}
    see "# "
    send "stty size; echo \\$TERM\\r"
    see "33 101\\r\\nxterm\\r\\n"
    send "sleep 1000\\r"
    sleep 0.5
    send "\\032"
    see "Stopped"
    see "# "
    send "fg\\r"
    see "sleep 1000\\r\\n"
    sleep 0.5
    send "\\003"
    see "# "
    send "exit 5\\r"
    see "status 5"
    expect eof`,
  )
  const {stdout, status} = run('expect', ['-f', script], {env: {TERM: 'xterm'}})
  assert.is(status, 0, stdout)
  assert.is(fs.readFileSync(join(here, 'after'), 'utf8'), fs.readFileSync(join(here, 'before'), 'utf8'))
})

// ---- fresh containers ----

const fresh = requires(tests, 'root', 'cgroup2', 'busybox')
const SHELLS: Kind[] = ['debian', 'busybox']

for (const kind of SHELLS) {
  fresh(
    `a fresh ${kind}: PID 1 of its own, in a cgroup root full of processes that is not the kernel's`,
    () => {
      const script = `
      echo $$; hostname; cat /proc/self/cgroup; cd /sys/fs/cgroup; cat cgroup.type cgroup.controllers cgroup.subtree_control
      grep -c . cgroup.procs; grep -cx 0 cgroup.procs; hew --version; cat; exit 9`
      const {stdout, stderr, status} = inFreshContainer(kind, ['/bin/sh', '-c', script], {input: 'input\n'})
      assert.is(stderr, '')
      const version = run(HEW, ['--version']).stdout
      assert.is(
        stdout.replace(/^[5-9]$/m, 'many'),
        `1\nfresh\n0::/\ndomain\n${fs.readFileSync('/sys/fs/cgroup/cgroup.controllers')}many\n0\n${version}input\n`,
      )
      assert.is(status, 9)
    },
  )

  fresh(`a fresh ${kind}: its cgroup root is busy, until nothing is left in it`, () => {
    // dash says "I/O error" whatever it was.
    const shell = kind === 'debian' ? '/bin/bash' : '/bin/sh'
    const script = `
      cd /sys/fs/cgroup; echo +memory >cgroup.subtree_control; echo $?
      mkdir others
      for pid in $(cat cgroup.procs); do echo $pid >others/cgroup.procs; done 2>/dev/null
      echo +memory >cgroup.subtree_control; echo $?; cat cgroup.subtree_control; ls others/memory.max`
    const {stdout, stderr} = inFreshContainer(kind, [shell, '-c', script])
    assert.match(stderr, /^[^\n]*: Device or resource busy\n$/)
    assert.is(stdout, '1\n0\nmemory\nothers/memory.max\n')
  })
}

fresh('a fresh Debian is one', () => {
  const {stdout} = inFreshContainer('debian', ['/bin/sh', '-c', '. /etc/os-release; echo $ID; ls /'])
  assert.match(stdout, /^debian\n.*etc\n/s)
})

/** A process in a fresh container that has this command line, seen from here. */
function find(commandLine: string): number | undefined {
  const root = '/sys/fs/cgroup'
  const containers = fs.readdirSync(root).filter(name => name.startsWith('fresh-'))
  return containers
    .flatMap(name => fs.readFileSync(join(root, name, 'cgroup.procs'), 'utf8').split('\n'))
    .map(Number)
    .find(pid => ofProcess(pid, 'cmdline') === commandLine)
}

fresh('nothing but hew: that is all there is, and it starts', async () => {
  assert.is(inFreshContainer('hew', ['/hew', '--version']).stdout, run(HEW, ['--version']).stdout)
  // It waits for a document.
  const waiting = spawn(FRESH, ['hew', '/hew', 'enter'], {stdio: ['pipe', 'ignore', 'inherit']})
  const ended = new Promise(resolve => waiting.once('exit', resolve))
  try {
    await until('the container', () => find('/hew\0enter\0') !== undefined)
    const root = `/proc/${find('/hew\0enter\0')}/root`
    assert.equal(fs.readdirSync(root).sort(), ['hew', 'proc', 'sys'])
    assert.equal(fs.readdirSync(`${root}/sys`), ['fs'])
    assert.ok(fs.existsSync(`${root}/sys/fs/cgroup/cgroup.procs`))
  } finally {
    waiting.stdin.end()
    await ended
  }
})

fresh('a fresh BusyBox has no /run: hew makes it, and containers have names there', () => {
  const script = `
    [ ! -e /run ] && hew check | grep 'place for names' && umask 0 &&
    hew mkroot | hew enter -d --name web -- sleep 1000 >/dev/null && hew enter -t web -- hostname >/root/name &&
    hew ps | grep -o '"name":"web","status":"running"' && hew rm -f --root web && hew ps && stat -c %a /run /run/hew`
  assert.equal(inFreshContainer('busybox', ['/bin/sh', '-c', script]), {
    stdout:
      '  fine     a place for names        /run/hew\n"name":"web","status":"running"\n{"containers":[]}\n755\n700\n',
    stderr: '',
    status: 0,
  })
})

fresh('a fresh container leaves no cgroup, process or directory, whatever it made', () => {
  const traces = () => [
    ...fs.readdirSync(tmpdir()).filter(name => name.startsWith('fresh-')),
    ...fs.readdirSync('/sys/fs/cgroup').filter(name => name.startsWith('fresh-')),
  ]
  const script =
    'mkdir -p /sys/fs/cgroup/a/b; sleep 1000 & echo $! >/sys/fs/cgroup/a/b/cgroup.procs; kill -KILL $$; exit 4'
  const {stderr, status} = inFreshContainer('busybox', ['/bin/sh', '-c', script])
  assert.is(stderr, '')
  assert.is(status, 4, 'PID 1 is not killed by itself')
  assert.equal(traces(), [])
})

tests.run()
