import {spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {
  HEW,
  HOSTILE,
  hew,
  IN_GUEST,
  type Outcome,
  readyForLimits,
  requires,
  run,
  type Spawning,
  scratch,
  shell,
  shellcheck,
  until,
} from '../support.ts'

/** `enter --dry-run`: a process in the container that its script makes sees what one in the command's sees. */

const here = scratch()
const asRoot = requires(test, 'root', 'busybox', 'setpriv')

/** A cgroup, and a root, that no other test makes. */
const UNIQUE = `in-lines-${process.pid}`
const root = `${here}/${UNIQUE}`
const printed = `${here}/script`

/** A script with the tools of util-linux by their paths: Debian's BusyBox starts its own first, which do less. */
const byPath = (text: string): string =>
  text.replace(
    /(?<=^|[\s'(])(unshare|nsenter|setsid|setpriv|prlimit|u?mount|pivot_root|ip|chroot)(?=[ ;])/gm,
    tool => run('sh', ['-c', `command -v ${tool}`]).stdout.trim(),
  )

/** `sh` in their scripts is the shell itself, too. */
fs.mkdirSync(`${here}/busybox`)
fs.symlinkSync(run('sh', ['-c', 'command -v busybox']).stdout.trim(), `${here}/busybox/sh`)
const SHELLS: {program: string; env: Record<string, string>; text: (text: string) => string}[] = [
  {program: 'dash', env: {}, text: text => text},
  {
    program: `${here}/busybox/sh`,
    env: {PATH: `${here}/busybox:${process.env.PATH}`},
    text: text => byPath(text).replaceAll(' sh -euc', ` ${here}/busybox/sh -euc`),
  },
]

const NAMES = [...HOSTILE, 'INSIDE']

/** What a process can say about itself. */
const ABOUT = `
  for kind in user mnt uts ipc net pid cgroup time; do readlink /proc/self/ns/$kind || :; done
  cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
  grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig(Ign|Cgt|Blk))' /proc/self/status
  cut -d ' ' -f 4- /proc/self/mountinfo | sort
  cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup
  cut -d : -f 1 /proc/net/dev | sort
  find / /dev -maxdepth 1 -printf '%M %U %G %p %l\n' | sort
  env | grep -v '^_=' | sort
  pwd; umask; echo $$; hostname; cat /proc/sys/kernel/domainname
  printf '<%s>' "$@"
  exit 7`

/** The test kernel has no time namespaces. */
const TIME = fs.existsSync('/proc/self/ns/time') ? ['--time'] : []

const OUTSIDE = fs.readdirSync('/proc/self/ns').map(kind => fs.readlinkSync(`/proc/self/ns/${kind}`))

/** The same of both, where no shell can make it so. */
function comparable(text: string): string {
  return (
    text
      .replace(
        /^\w+:\[\d+\]$/gm,
        link => `${link.replace(/:.*/, '')}: ${OUTSIDE.includes(link) ? 'shared' : 'own'}`,
      )
      // make(1) leaves the signal 32 ignored to all that it starts.
      .replace(/^(SigIgn:\t0{8})8/m, '$10')
      // Without limits the script makes no cgroup.
      .replace(/^\/\.\.(?= \/sys\/fs\/cgroup)/gm, '/')
      .replace(/^0::(\/.*)?\/in-lines-\d+$/gm, (_, above = '/') => `0::${above}`)
      // mount(8) makes the file system read-only, too, and not only the mount.
      .replace(/ - (tmpfs|sysfs|cgroup2) (\S+) ro\b/g, ' - $1 $2 rw')
      .split('\n')
      .sort()
      .join('\n')
  )
}

interface Case {
  /** Words of enter before the command. */
  words: string[]
  /** Behind the command. */
  operands?: string[]
  /** A document for its stdin. */
  input?: string
  about?: string
  as?: Spawning
  shells?: typeof SHELLS
}

/** The command and its script: what is said inside, the exit status, and that nothing stays. */
function same({
  words,
  operands = [],
  input = '',
  about = ABOUT,
  as = {},
  shells = SHELLS.slice(0, 1),
}: Case): string {
  const entering = (...more: string[]): Outcome =>
    run(HEW, ['enter', ...more, ...words, '--', 'sh', '-c', about, 'sh', ...operands], {...as, input})
  const command = entering()
  assert.is(command.status, 7, command.stderr)
  const dry = entering('--dry-run')
  assert.is(dry.status, 0, dry.stderr)
  const inside = /<<'(INSIDE_*)'\n(.*?)\n\1\n/s.exec(dry.stdout)?.[2]
  for (const text of [dry.stdout, `#!/bin/sh\n# shellcheck disable=SC2016\nset -eu\n${inside ?? ''}\n`])
    assert.is(shellcheck(text), '')
  for (const {program, env, text} of IN_GUEST ? shells.slice(0, 1) : shells) {
    fs.writeFileSync(printed, text(dry.stdout))
    const script = run(program, [printed], {...as, cwd: '/', env})
    assert.is(comparable(script.stdout), comparable(command.stdout), `${program}: ${script.stderr}`)
    assert.equal([script.stderr, script.status], ['', 7], program)
  }
  assert.not.match(fs.readFileSync('/proc/self/mountinfo', 'utf8'), here)
  return dry.stdout
}

const PROGRAMS = 'sh,cat,grep,readlink,cut,sort,env,hostname,ls,tr,find,setpriv,umount,sleep'
const made = run(HEW, ['mkroot', '-q', root, '--with', PROGRAMS])
if (made.status !== 0) throw new Error(made.stderr)
const r = ['-r', root]
fs.chmodSync(here, 0o755)

asRoot('enter as it is: namespaces, maps, mounts, devices, capabilities', () => {
  const script = same({words: r, shells: SHELLS})
  assert.match(
    script,
    /^nsenter --user=.* \\\n.*\n {4}unshare --mount --uts --ipc --net --pid --fork --kill-child \\$/m,
  )
  assert.match(script, /^nsenter --mount=\/proc\/self\/ns\/mnt --wd=\. pivot_root \. \.\numount -l \.$/m)
})

asRoot('binds, file systems, variables, a directory, a name, another user; hostile names everywhere', () => {
  const words = NAMES.flatMap((name, i) => {
    fs.mkdirSync(`${here}/from/${name}/below`, {recursive: true})
    return ['-e', `V${i}=${name}`, '-b', `${here}/from/${name}:/into/${name}${i % 2 ? ':ro' : ''}`]
  })
  words.push(
    '--tmpfs',
    '/scratch:64k',
    '-b',
    '/etc/passwd:/etc/of the machine:ro',
    '-w',
    '/into/$(touch pwned)',
  )
  words.push(
    '--hostname',
    "it's $(touch pwned)",
    '--map',
    'all',
    '-u',
    '5:6',
    '--cap-drop',
    'KILL,MKNOD',
    '--read-only',
  )
  same({words: [...r, ...words], operands: NAMES, shells: SHELLS})
})

asRoot('hostile names of roots', () => {
  // No kernel has a part in what they do to a shell: two of them are enough where each takes seconds.
  for (const name of IN_GUEST ? NAMES.slice(-2) : NAMES) {
    const other = `${here}/roots/${name}`
    fs.mkdirSync(`${here}/roots`, {recursive: true})
    fs.cpSync(root, other, {recursive: true, verbatimSymlinks: true})
    const about = 'cat /proc/self/mountinfo | cut -d " " -f 4- | sort; hostname; exit 7'
    same({words: ['-r', other], about})
    fs.rmSync(other, {recursive: true})
  }
})

asRoot('a root in which links lead elsewhere', () => {
  const linked = `${here}/linked`
  fs.cpSync(root, linked, {recursive: true, verbatimSymlinks: true})
  fs.rmdirSync(`${linked}/tmp`)
  fs.symlinkSync('/var/../../../../../elsewhere', `${linked}/tmp`)
  fs.symlinkSync(`/into/${here}`, `${linked}/out`)
  same({words: ['-r', linked, '-b', `${here}:/out/there`, '--tmpfs', '/tmp/below/it']})
  assert.not.ok(fs.existsSync('/elsewhere'))
})

asRoot('whom it shares namespaces with, and what it may', () => {
  same({words: [...r, '--share', 'net,uts', '--cap-add', 'SYS_ADMIN']})
  same({words: [...r, '--share', 'user,ipc']})
  same({words: [...r, '--map', 'auto', ...TIME]})
  assert.match(
    same({words: [...r, '--cap-drop', 'ALL']}),
    /^# No shell can do this with the machine's setpriv/m,
  )
  same({words: [...r, '--cap-drop', 'ALL', '--map', 'all', '-u', '5:6', '-w', '/usr']})
  same({words: ['-r', '/', '--share', 'net']})
  const [by, shown] = [['--share', 'mount,pid'], 'pwd; umask; env; ls -an / | cut -d " " -f 1; exit 7']
  same({words: [...r, ...by], about: shown})
})

asRoot('a reaping init; an ordinary user', () => {
  // Its PID is gone once somebody has waited for it.
  const reaps = `
    sh -c 'sh -c "echo \\$\\$ >/tmp/one; exit 3" &'
    i=0
    until [ -s /tmp/one ] && [ ! -e "/proc/$(cat /tmp/one)" ] || [ $i -eq 1000 ]; do i=$((i + 1)); sleep 0.01; done
    [ ! -e "/proc/$(cat /tmp/one)" ] && [ $$ -gt 1 ] && exit 7`
  assert.match(same({words: [...r, '--init'], about: reaps}), /\|\| exit$/m)
  const user = {uid: 1000, gid: 1000, cwd: '/', env: {HOME: '/', XDG_RUNTIME_DIR: here}}
  same({words: r, as: user})
})

/** What `runc spec` prints, and more of it. */
const documented = (more: object): string => {
  const spec = JSON.parse(
    run('sh', ['-c', `cd '${here}' && rm -f config.json && runc spec && cat config.json`]).stdout,
  )
  const {process, linux} = spec
  return JSON.stringify({
    ...spec,
    root: {path: root, readonly: true},
    domainname: 'example.org',
    process: {
      ...process,
      terminal: false,
      oomScoreAdj: 300,
      rlimits: [
        {type: 'RLIMIT_NOFILE', soft: 100, hard: 200},
        {type: 'RLIMIT_CORE', soft: 0, hard: 5},
      ],
      user: {uid: 0, gid: 0, umask: 0o27, additionalGids: [5, 6]},
    },
    linux: {...linux, sysctl: {'net.ipv4.ip_forward': '1'}, rootfsPropagation: 'slave', ...more},
  })
}

requires(
  test,
  'root',
  'busybox',
  'setpriv',
  'runc',
)('a document: rlimits, groups, oom_score_adj, sysctls, propagation', () => {
  same({words: [], input: documented({}), about: `cat /proc/sys/net/ipv4/ip_forward; ${ABOUT}`})
  const user = JSON.parse(documented({}))
  user.process.user = {uid: 7, gid: 8, additionalGids: [9]}
  user.process.capabilities = {bounding: ['CAP_SYS_CHROOT', 'CAP_KILL'], permitted: [], effective: []}
  same({words: [], input: JSON.stringify(user)})
})

asRoot('limits: the same cgroups with the same values, and none is left', () => {
  readyForLimits()
  const limited = run(HEW, ['limit', '--memory', '80M', '--pids', '40', '--cpu', '50%'], {
    input: shell(`hew mkroot --into '${root}' --empty --json`).stdout,
  })
  assert.is(limited.status, 0, limited.stderr)
  const about = `
    find /groups -type d -name '${UNIQUE}' | sort
    for group in $(find /groups -type d -name '${UNIQUE}'); do
      for file in memory.max memory.swap.max memory.limit_in_bytes pids.max cpu.max cpu.cfs_quota_us cpu.cfs_period_us; do
        if [ -e $group/$file ]; then echo $file; cat $group/$file; fi; done
      grep -c . $group/cgroup.procs
    done | sort
    exit 7`
  const script = same({
    words: ['--name', UNIQUE, '-b', '/sys/fs/cgroup:/groups'],
    input: limited.stdout,
    about,
    shells: SHELLS,
  })
  assert.match(script, /^echo 40 >\/sys\/fs\/cgroup\/.*\/pids.max$/m)
  assert.is(run('find', ['/sys/fs/cgroup', '-name', UNIQUE]).stdout, '')
})

asRoot(
  'what it takes and is not there, or is BusyBox and knows less, it says before it does anything',
  () => {
    const {stdout} = run(HEW, ['enter', '--dry-run', ...r, 'sh'])
    const ends = (program: string, PATH: string): Outcome => run(program, [], {input: stdout, env: {PATH}})
    const says = (what: string): Outcome => ({
      stdout: '',
      stderr: `this takes ${what}: install that\n`,
      status: 125,
    })
    assert.equal(ends(SHELLS[1]!.program, process.env.PATH!), says('unshare of util-linux'))
    const few = `${here}/few`
    fs.mkdirSync(few)
    for (const tool of ['unshare', 'nsenter', 'grep', 'ip'])
      fs.symlinkSync(run('sh', ['-c', `command -v ${tool}`]).stdout.trim(), `${few}/${tool}`)
    assert.equal(ends('/bin/dash', few), says('setpriv of util-linux'))
    fs.symlinkSync(run('sh', ['-c', 'command -v setpriv']).stdout.trim(), `${few}/setpriv`)
    fs.rmSync(`${few}/ip`)
    assert.equal(ends('/bin/dash', few), says('ip of iproute2'))
  },
)

asRoot('it ends as the command does; the root of mkroot --rm goes', () => {
  const ends = (command: string): number => {
    const {stdout} = run(HEW, ['enter', '--dry-run', ...r, 'sh', '-c', command])
    return run('dash', [], {input: stdout}).status
  }
  assert.equal([ends('exit 0'), ends('kill -9 $$; exit 5'), ends('exec /nowhere')], [0, 5, 127])
  const once = `${here}/once`
  for (const {program, env, text} of SHELLS) {
    const dry = shell(`hew mkroot --rm '${once}' --with sh --json | hew enter --dry-run -- sh -c 'exit 3'`)
    assert.equal([dry.stderr, dry.status, shellcheck(dry.stdout)], ['', 0, ''])
    assert.ok(fs.existsSync(once))
    assert.equal(run(program, [], {env, input: text(dry.stdout)}), {stdout: '', stderr: '', status: 3})
    assert.not.ok(fs.existsSync(once))
  }
})

const names: string[] = []
process.on('exit', () => {
  for (const name of names) run(HEW, ['rm', '-f', name])
})

/** A container in the background. */
function begin(options: string[] = [], as: Spawning = {}): string {
  const name = `${UNIQUE}-${names.length}`
  names.push(name)
  const begun = run(HEW, ['enter', '-d', '--name', name, ...r, ...options, '--', 'sleep', '600'], as)
  assert.is(begun.status, 0, begun.stderr)
  return name
}

/** A container in the background, and what joins it: by the command, and by its script. */
function sameJoined(
  options: string[],
  words: string[] = [],
  as: Spawning = {},
  shells = SHELLS.slice(0, 1),
): string {
  const name = begin(options, as)
  const script = sameBeside(name, words, as, shells)
  run(HEW, ['rm', '-f', name], as)
  return script
}

const CHROOTED = 'mount -t proc proc "$0/proc" && exec chroot "$0" sleep 600'

/** The same of a process, or of a container that runs. */
function sameBeside(target: string, words: string[], as: Spawning = {}, shells = SHELLS.slice(0, 1)): string {
  const about = ABOUT.replace('; echo $$', '')
  const entering = (...more: string[]): Outcome =>
    run(HEW, ['enter', '-t', target, ...more, ...words, '--', 'sh', '-c', about, 'sh', ...NAMES], as)
  const [command, dry] = [entering(), entering('--dry-run')]
  assert.equal([command.status, dry.stderr, dry.status], [7, '', 0], command.stderr)
  assert.is(shellcheck(dry.stdout), '')
  for (const {program, env, text} of IN_GUEST ? shells.slice(0, 1) : shells) {
    fs.writeFileSync(printed, text(dry.stdout))
    const script = run(program, [printed], {...as, env: {...as.env, ...env}})
    assert.is(comparable(script.stdout), comparable(command.stdout), `${program}: ${script.stderr}`)
    assert.equal([script.stderr, script.status], ['', 7], program)
  }
  return dry.stdout
}

asRoot('enter -t: namespaces, cgroups, root, ids, capabilities and environment are the same', () => {
  readyForLimits()
  const script = sameJoined([], [], {}, SHELLS)
  assert.match(
    script,
    /^ {4}sh -c 'echo 0 >\/sys\/fs\/cgroup\/.*\/cgroup.procs \|\| exit 125; exec "\$@"' sh \\$/m,
  )
  sameJoined(
    ['--map', 'all', '-u', '5:6', '--cap-drop', 'KILL,MKNOD', '-w', '/usr', ...TIME],
    NAMES.flatMap((name, i) => ['-e', `V${i}=${name}`]),
  )
  sameJoined(['--share', 'user,net'], ['-u', '7', '-w', '/var'])
  sameJoined(['--cap-drop', 'ALL'])
})

asRoot('enter -t --explain: the line that joins, in its place, and what came of it', () => {
  const name = begin()
  const {pid} = JSON.parse(hew('ps', '--json', name).stdout).containers[0]
  const told = hew('enter', '-t', name, '--explain', '--', 'sh', '-c', 'exit 3')
  assert.is(told.status, 3)
  assert.match(
    told.stderr,
    new RegExp(`^hew enter: nsenter --target ${pid} --all --root {2}# ok\nhew enter: setpriv `, 'm'),
  )
  const [line] = /nsenter .*(?= {2}# ok$)/m.exec(told.stderr)!
  assert.is(run('sh', ['-c', `${line} hostname`]).stdout, `${UNIQUE}\n`)
  const others = hew('enter', '-t', `${process.ppid}`, '--explain', '-w', '/nowhere', '--', 'true')
  assert.match(
    others.stderr,
    /^hew enter: nsenter --target \d+ --all --root --wd {2}# ok\nhew enter: cd \/nowhere {2}# /m,
  )
})

asRoot('enter -t of an ordinary user; of any process, with its directory; one that is gone', async () => {
  const states = `${here}/states`
  fs.mkdirSync(states)
  fs.chownSync(states, 1000, 1000)
  sameJoined([], [], {uid: 1000, gid: 1000, cwd: '/', env: {HOME: '/', XDG_RUNTIME_DIR: states}})
  const begun = [
    spawn('sleep', ['600'], {stdio: 'ignore', cwd: '/usr'}),
    spawn('unshare', ['--mount', '--uts', '--net', 'sh', '-c', CHROOTED, root], {stdio: 'ignore'}),
  ]
  try {
    const [plain, apart] = begun.map(({pid}) => `${pid}`) as [string, string]
    for (const pid of [plain, apart])
      await until('it sleeps', () => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep'))
    const script = sameBeside(plain, [])
    sameBeside(apart, ['-w', '/usr'])
    // Somebody else has this PID now.
    const later = script.replace(/ = \d+ \] \|\|/, ' = 1 ] ||')
    const gone = {stdout: '', stderr: `the process ${plain} is gone\n`, status: 125}
    assert.equal(run('dash', [], {input: later}), gone)
    const others = run(HEW, ['enter', '-t', plain, '--dry-run', '--', 'true'], {
      uid: 1000,
      gid: 1000,
      cwd: '/',
    })
    assert.equal([others.status, others.stdout], [125, ''])
    assert.match(others.stderr, /^hew enter: cannot .*: this takes root, or a process of your own\n$/)
  } finally {
    for (const one of begun) one.kill('SIGKILL')
  }
})

/** Fields that are a time, or what a shell's own programs took: there or null, but not the same. */
const measured = (text: string): object =>
  JSON.parse(text, (key, value) => (/Seconds$|^peak/.test(key) && value !== null ? 'a number' : value))

asRoot('--verdict: the script says the same of how it ended, to a file or a descriptor', () => {
  readyForLimits()
  const verdict = `${here}/it's $(a verdict)`
  const memory = '[ -z "$1" ] && exit 3; sh -c "x=xxxxxxxx; while :; do x=\\$x\\$x; done"; exit 7'
  const documented = run(HEW, ['limit', '--memory', '24M'], {
    input: shell(`hew mkroot --into '${root}' --empty --json`).stdout,
  }).stdout
  for (const [operand, status, oomKills] of [
    ['', 3, 0],
    ['much', 7, 1],
  ] as const) {
    const words = ['--verdict', verdict, '--', 'sh', '-c', memory, 'sh', operand]
    const command = run(HEW, ['enter', ...words], {input: documented})
    assert.is(command.status, status, command.stderr)
    const said = fs.readFileSync(verdict, 'utf8')
    assert.is(JSON.parse(said).oomKills, oomKills)
    const dry = run(HEW, ['enter', '--dry-run', ...words], {input: documented})
    assert.equal([dry.stderr, dry.status, shellcheck(dry.stdout)], ['', 0, ''])
    assert.is(fs.readFileSync(verdict, 'utf8'), said)
    for (const {program, env, text} of SHELLS) {
      fs.rmSync(verdict)
      fs.writeFileSync(printed, text(dry.stdout))
      assert.is(run(program, [printed], {env}).status, status)
      assert.equal(measured(fs.readFileSync(verdict, 'utf8')), measured(said), program)
    }
  }
  assert.is(run('find', ['/sys/fs/cgroup', '-name', UNIQUE]).stdout, '')
  const three = shell(`hew enter --dry-run --verdict 3 -r '${root}' -- sh -c : | dash 3>&1`)
  assert.is(JSON.parse(three.stdout).exitStatus, 0)
})

/** Ends what a test that has failed has left behind. */
function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

asRoot(
  '--detach: the same container in the background; what no shell can is said, and in the status',
  async () => {
    readyForLimits()
    const name = `${UNIQUE}-behind`
    const verdict = `${here}/verdict behind`
    names.push(name)
    const about = `${ABOUT.replace('exit 7', '')}read -r _ || echo empty; echo READY; trap "exit 5" USR1; while sleep 1; do :; done`
    const words = [
      'enter',
      '-d',
      '--name',
      name,
      '--verdict',
      verdict,
      ...r,
      '--',
      'sh',
      '-c',
      about,
      'sh',
      ...NAMES,
    ]
    const begun = run(HEW, words)
    assert.is(begun.status, 0, begun.stderr)
    await until('it has said all', () => hew('logs', name).stdout.includes('READY'))
    const command = {state: JSON.parse(begun.stdout), log: hew('logs', name).stdout}
    process.kill(command.state.pid, 'SIGUSR1')
    assert.is(hew('wait', name).status, 5)
    hew('rm', name)
    const said = fs.readFileSync(verdict, 'utf8')
    const dry = run(HEW, [...words.slice(0, 1), '--dry-run', ...words.slice(1)])
    assert.equal([dry.stderr, dry.status, shellcheck(dry.stdout)], ['', 0, ''])
    assert.match(dry.stdout, /^# No shell can keep its state, .*\necho 'no shell can .* >&2\nexit 3$/m)
    for (const {program, env, text} of IN_GUEST ? SHELLS.slice(0, 1) : SHELLS) {
      fs.rmSync(verdict)
      fs.writeFileSync(printed, text(dry.stdout))
      const script = run(program, [printed], {env})
      assert.is(script.status, 3, script.stderr)
      assert.match(script.stderr, /^no shell can keep its state, .*: left out\n$/)
      const {pid, annotations, ...state} = JSON.parse(script.stdout)
      const {'dev.hew.log': log, ...others} = annotations
      try {
        for (const [key, value] of Object.entries(state)) assert.is(value, command.state[key], key)
        for (const [key, value] of Object.entries(others))
          assert.is(value, command.state.annotations[key], key)
        assert.equal(Object.keys({...state, ...others}).length, 5)
        await until('it has said all', () => fs.readFileSync(log, 'utf8').includes('READY'))
        assert.is(comparable(fs.readFileSync(log, 'utf8')), comparable(command.log), program)
        assert.match(fs.readFileSync(`/proc/${pid}/status`, 'utf8'), /^NSpid:\t\d+\t1$/m)
        process.kill(pid, 'SIGUSR1')
        await until('it has ended', () => run('find', ['/sys/fs/cgroup', '-name', name]).stdout === '')
        assert.equal(measured(fs.readFileSync(verdict, 'utf8')), measured(said), program)
      } finally {
        killed(pid)
        fs.rmSync(log)
      }
    }
    // What fails before the command is told as it is, and nothing stays.
    const broken = run('dash', [], {input: dry.stdout.replace(/^hostname .*$/m, 'no-such-thing')})
    assert.equal([broken.stdout, broken.status], ['', 125])
    assert.match(broken.stderr, /no-such-thing: not found\n$/)
    const left = fs.readdirSync('/tmp').filter(entry => entry.startsWith(`${name}.`))
    assert.equal(left, [])
  },
)

asRoot('--die-with-parent: when the caller of the script is killed, nothing of it lives on', async () => {
  const ready = ['sh', '-c', 'echo ready; exec sleep 600']
  for (const options of [[], ['--map', 'auto'], ['--share', 'user']]) {
    const words = ['enter', '--dry-run', '--die-with-parent', ...options, ...r, '--', ...ready]
    const dry = run(HEW, words)
    assert.equal([dry.stderr, dry.status, shellcheck(dry.stdout)], ['', 0, ''])
    for (const {program, env, text} of IN_GUEST ? SHELLS.slice(0, 1) : SHELLS) {
      fs.writeFileSync(printed, text(dry.stdout))
      const caller = spawn('sh', ['-c', '"$@"; :', 'sh', program, printed], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {...process.env, ...env},
      })
      let said = ''
      let ended = false
      caller.stdout.on('data', text => {
        said += text
      })
      // All that has it has ended then.
      caller.stdout.on('end', () => {
        ended = true
      })
      try {
        await until('it runs', () => said === 'ready\n', 60)
        assert.not.ok(ended)
      } finally {
        caller.kill('SIGKILL')
      }
      await until('nothing lives on', () => ended, 60)
    }
  }
  // Another user's command nobody can bind: that is said, and in the status.
  const unbound = ['--die-with-parent', '--map', 'all', '-u', '5:6', ...r, '--', 'sh', '-c']
  for (const [ends, status] of [
    [0, 3],
    [7, 7],
  ]) {
    const dry = run(HEW, ['enter', '--dry-run', ...unbound, `exit ${ends}`])
    assert.equal([dry.stderr, dry.status, shellcheck(dry.stdout)], ['', 0, ''])
    fs.writeFileSync(printed, dry.stdout)
    const done = run('dash', [printed])
    assert.is(done.status, status)
    assert.match(done.stderr, ends ? /^$/ : /^no shell can bind a command of another user .*: left out\n$/)
  }
  // Not with BusyBox: what a shell of it has executed, and not forked, ignores SIGQUIT.
  same({words: [...r, '--die-with-parent']})
})

asRoot('what no script can be made of is refused', () => {
  const {status, stderr} = run(HEW, ['enter', '--dry-run', '--plan', `${here}/plan`, ...r])
  assert.equal([status, /a script has no --plan/.test(stderr)], [2, true])
  assert.is(run(HEW, ['enter', '--dry-run', '--verdict', '12', ...r]).status, 2)
  const bare = `${here}/bare`
  run(HEW, ['mkroot', '-q', bare, '--with', 'sh'])
  const refused = run(HEW, ['enter', '--dry-run', '--cap-drop', 'ALL', '-r', bare, 'sh'])
  assert.equal([refused.status, /hew copy-deps -r .*\/bare setpriv/.test(refused.stderr)], [125, true])
})

test.run()
