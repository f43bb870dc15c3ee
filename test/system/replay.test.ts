import {spawn, spawnSync} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {
  HEW,
  hew,
  IN_GUEST,
  type Outcome,
  readyForLimits,
  requires,
  run,
  scratch,
  shell,
  shellcheck,
  until,
} from '../support.ts'

/** `enter --plan` and `hew replay`: what enter does, without Node. */

readyForLimits()
const here = scratch()
fs.chmodSync(here, 0o755)
const asRoot = requires(test, 'root')
const STATES = '/run/hew'

/** Its name is this test's own: containers are called after it. */
const root = `${here}/replay-${process.pid}`
fs.mkdirSync(root)
hew('copy-deps', '-q', '-r', root, ...'sh bash cat sleep true id ls hostname wc grep setpriv'.split(' '))
fs.mkdirSync(`${root}/etc`)
fs.writeFileSync(`${root}/etc/passwd`, 'root:x:0:0::/root:/bin/sh\n')

let count = 0
/** A plan, as `enter -r ROOT --plan FILE WORDS...` keeps it; nothing was started. */
function plan(...words: string[]): string {
  const file = `${here}/plan-${count++}`
  assert.equal(hew('enter', '-r', root, '--plan', file, ...words), {stdout: '', stderr: '', status: 0})
  return file
}

/** The states of this test's containers. */
const states = (): string[] => fs.readdirSync(STATES).filter(name => name.startsWith(`replay-${process.pid}`))

/** A copy with another word in the place of the plan's own, as private. */
function edited(file: string, change: (text: string) => string): string {
  const copy = `${here}/edited-${count++}`
  fs.writeFileSync(copy, change(fs.readFileSync(file, 'latin1')), {encoding: 'latin1', mode: 0o600})
  return copy
}

const refused = (done: Outcome, why: RegExp): void => {
  assert.match(done.stderr, why)
  assert.equal(done.stderr.trim().split('\n').length, 1, done.stderr)
  assert.equal(done.stdout, '')
  assert.equal(done.status, 125)
}

asRoot('a plan is a new file that is ours alone, and is run as often as one likes', () => {
  const file = plan('sh', '-c', 'echo here; exit 7')
  assert.equal(fs.statSync(file).mode & 0o7777, 0o600)
  assert.equal(
    fs.readdirSync(here).filter(name => name.startsWith('plan-') && /\.\d+$/.test(name)),
    [],
  )
  for (let i = 0; i < 3; i++) assert.equal(hew('replay', file), {stdout: 'here\n', stderr: '', status: 7})
  assert.equal(states(), [])

  const before = fs.readFileSync(file)
  refused(hew('enter', '-r', root, '--plan', file, 'true'), /is there already: remove it/)
  assert.equal(fs.readFileSync(file), before)
})

asRoot('another command takes the place of the planned one, and is found or not as by enter', () => {
  const file = plan('true')
  assert.equal(hew('replay', file, '--', 'sh', '-c', 'echo "$1"', '-', '--').stdout, '--\n')
  assert.equal(hew('replay', file, 'sh', '-c', 'exit 9').status, 9)
  assert.equal(run(HEW, ['replay', file, 'cat'], {input: 'a line\n'}).stdout, 'a line\n')
  const missing = hew('replay', file, 'no-such-command')
  assert.equal(missing.status, 127)
  assert.match(missing.stderr, /^hew replay: cannot find no-such-command in /)
  assert.equal(hew('replay', file, '/etc/passwd').status, 126)
  assert.equal(states(), [])
})

asRoot('what the command sees is what enter shows it', () => {
  const look = `ulimit -n; umask; id; pwd; export -p; while read -r line; do case $line in Cap*|NoNewPrivs*|Sig*|Groups*) echo "$line";; esac; done < /proc/self/status
    cd /proc/self/fd && echo *; readlink() { ls -ld "$1" | cat; }
    while read -r id parent device rest; do echo "$rest"; done < /proc/self/mountinfo; cat /proc/self/cgroup /proc/self/uid_map /etc/passwd; ls -A / /dev /dev/pts`
  const words = [
    '-e',
    'A=b c',
    '-w',
    '/tmp',
    '--tmpfs',
    '/tmp',
    '--read-only',
    '--name',
    `replay-${process.pid}`,
  ]
  const limits = 'ulimit -n 100; umask 0027; '
  const entered = shell(
    `${limits} hew enter -r ${root} ${words.map(w => `'${w}'`).join(' ')} sh -c '${look.replaceAll("'", `'\\''`)}'`,
  )
  assert.equal(entered.status, 0, entered.stderr)
  const file = `${here}/plan-${count++}`
  assert.equal(
    shell(`umask 0027; hew enter -r ${root} --plan ${file} ${words.map(w => `'${w}'`).join(' ')} true`)
      .status,
    0,
  )
  const replayed = shell(`${limits} hew replay ${file} sh -c '${look.replaceAll("'", `'\\''`)}'`)
  assert.equal(replayed, entered)
})

asRoot(
  'it has a name and a state while it runs, with the command that runs, and nothing afterwards',
  async () => {
    const file = plan('sleep', '60')
    const child = spawn(HEW, ['replay', file, 'sh', '-c', 'echo "it\'s"; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
      await until(
        'it runs',
        () => states().some(id => /"running"/.test(fs.readFileSync(`${STATES}/${id}/state.json`, 'utf8'))),
        30,
      )
      const [id] = states()
      const {containers} = JSON.parse(hew('ps', '--json', id!).stdout)
      assert.is(containers[0].name, id)
      assert.is(containers[0].status, 'running')
      assert.match(containers[0].createdAt, /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ$/)
      assert.ok(Math.abs(Date.parse(containers[0].createdAt) - Date.now()) < 120_000, containers[0].createdAt)
      const bundle = JSON.parse(fs.readFileSync(`${STATES}/${id}/config.json`, 'utf8'))
      assert.equal(bundle.process.args, ['sh', '-c', 'echo "it\'s"; exec sleep 60'])
      assert.is(bundle.root.path, root)
      assert.equal(hew('enter', '-t', id!, 'sh', '-c', 'echo joined'), {
        stdout: 'joined\n',
        stderr: '',
        status: 0,
      })
      assert.is(hew('kill', id!).status, 0)
      assert.is(await ended, 143)
      assert.equal(states(), [])
    } finally {
      child.kill('SIGKILL')
    }
  },
)

asRoot('limits, verdict, name: each replay has its own', () => {
  const directory = fs.mkdtempSync(`${here}/verdicts-`)
  // The cgroup is called so, too, and by nobody else's.
  const name = `replay-${process.pid}-limited`
  const document = hew('mkroot', '--empty', '--json', `${directory}/${name}`)
  assert.is(document.status, 0, document.stderr)
  run('cp', ['-a', `${root}/.`, `${directory}/${name}`])
  const planned = run(
    '/bin/sh',
    [
      '-c',
      `'${HEW}' limit --pids 5 --memory 40M | '${HEW}' enter --verdict ${directory}/verdict --plan ${directory}/plan -- true`,
    ],
    {
      input: document.stdout,
    },
  )
  assert.equal(planned, {stdout: '', stderr: '', status: 0})
  const forks = 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>/dev/null; wait'
  const done = hew('replay', `${directory}/plan`, 'bash', '-c', forks)
  assert.match(done.stderr, /^hew replay: refused \d+ forks? \(pids limit 5\)$/m)
  const verdict = JSON.parse(fs.readFileSync(`${directory}/verdict`, 'utf8'))
  assert.ok(verdict.forksRefused > 0)
  assert.ok(verdict.wallSeconds > 0)
  assert.is(hew('replay', `${directory}/plan`).status, 0)
  assert.is(JSON.parse(fs.readFileSync(`${directory}/verdict`, 'utf8')).forksRefused, 0)
  const cgroups = spawnSync('find', [
    '/sys/fs/cgroup',
    '-maxdepth',
    '4',
    '-name',
    name,
    '-type',
    'd',
  ]).stdout.toString()
  assert.is(cgroups, '')
})

asRoot('a name of its own is taken once; eight at a time are called differently', async () => {
  const named = plan('--name', `replay-${process.pid}-only`, 'sleep', '60')
  const first = spawn(HEW, ['replay', named], {stdio: 'ignore'})
  try {
    await until('the first runs', () => states().some(id => id.endsWith('-only')), 30)
    refused(hew('replay', named), /the name replay-\d+-only is taken by a container that runs/)
  } finally {
    const ended = new Promise(resolve => first.once('exit', resolve))
    first.kill('SIGTERM')
    await ended
  }
  await until('the name is free', () => states().length === 0)

  const file = plan('cat')
  const children = Array.from({length: 8}, () =>
    spawn(HEW, ['replay', file], {stdio: ['pipe', 'ignore', 'inherit']}),
  )
  try {
    await until('all run', () => states().length === 8, 60)
    const statuses = children.map(child => new Promise(resolve => child.once('exit', resolve)))
    for (const child of children) child.stdin!.end()
    assert.equal(await Promise.all(statuses), Array(8).fill(0))
    assert.equal(states(), [])
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
})

asRoot('many in a row, several at a time', () => {
  const file = plan('true')
  const each = IN_GUEST ? 3 : 125
  const loop = `for i in 1 2 3 4 5 6 7 8; do (n=0; while [ $n -lt ${each} ]; do hew replay ${file} || echo "status $?"; n=$((n + 1)); done) & done; wait`
  assert.equal(shell(loop, {timeout: 200_000}), {stdout: '', stderr: '', status: 0})
  assert.equal(states(), [])
})

asRoot('in the background', () => {
  const file = plan('-d', 'sh', '-c', 'echo written; exit 4')
  const started = hew('replay', file)
  assert.equal(started.status, 0, started.stderr)
  const {id, status, annotations} = JSON.parse(started.stdout)
  assert.is(status, 'running')
  assert.is(annotations['dev.hew.detached'], 'true')
  try {
    assert.is(hew('wait', id).status, 4)
    assert.is(hew('logs', id).stdout, 'written\n')
  } finally {
    assert.is(hew('rm', '-f', id).status, 0)
  }
  const missing = hew('replay', file, 'no-such-command')
  assert.is(missing.status, 127)
  assert.equal(states(), [])
})

asRoot('it ends with who called, where that is asked for', async () => {
  const file = plan('--die-with-parent', 'sleep', '60')
  const caller = spawn('/bin/sh', ['-c', `'${HEW}' replay ${file} & wait`], {stdio: 'ignore'})
  try {
    await until(
      'it runs',
      () => states().some(id => /"running"/.test(fs.readFileSync(`${STATES}/${id}/state.json`, 'utf8'))),
      30,
    )
  } finally {
    caller.kill('SIGKILL')
  }
  // Its supervisor is killed, too: whoever comes next cleans up, replay as well.
  await until(
    'a replay cleans up',
    () => hew('replay', file, 'true').status === 0 && states().length === 0,
    60,
  )
})

asRoot('a plan that others could have written is refused', () => {
  const file = plan('true')
  fs.chmodSync(file, 0o620)
  refused(hew('replay', file), /others can write to the plan/)
  fs.chmodSync(file, 0o600)
  fs.chownSync(file, 1234, 0)
  refused(hew('replay', file), /another user's \(1234\)/)
  fs.chownSync(file, 0, 0)
  assert.is(hew('replay', file).status, 0)
  refused(hew('replay', `${here}/none`), /cannot read the plan .*none: No such file/)
  refused(hew('replay', here), /is no file/)
  refused(hew('replay', HEW), /another user's|cannot|no plan/)
})

asRoot('a plan that is damaged is refused', () => {
  const whole = plan('true')
  for (const [i, change] of [
    (text: string) => text.slice(0, -1),
    (text: string) => text.slice(0, text.length / 2),
    (text: string) => text.slice(0, text.lastIndexOf('\0', text.length - 2) + 1),
    (text: string) => text.replace('hew plan 2', 'hew plan 0'),
    () => '',
    () => '\0',
    () => '=hew plan 2\0=end of the plan\0',
  ].entries()) {
    const done = hew('replay', edited(whole, change))
    assert.is(done.status, 125, `${i}`)
    assert.match(done.stderr, /^hew replay: [^\n]+\n$/, `${i}`)
  }
})

asRoot('a plan that would mean something else by now is refused', () => {
  const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  refused(
    hew(
      'replay',
      edited(plan('true'), text => text.replace(boot, boot.replace(/./, 'x'))),
    ),
    /the machine was started anew/,
  )
  const {ino, size} = fs.statSync(HEW)
  refused(
    hew(
      'replay',
      edited(plan('true'), text => text.replace(`${ino} ${size}`, `${ino} ${size + 1}`)),
    ),
    /another hew: make it anew with 'hew enter --plan'/,
  )
  refused(run('unshare', ['--mount', HEW, 'replay', plan('true')]), /another namespace \(mnt\)/)

  const users = plan('-u', '0', 'true')
  assert.is(hew('replay', users).status, 0)
  fs.appendFileSync(`${root}/etc/passwd`, 'joe:x:5:5::/:/bin/sh\n')
  refused(hew('replay', users), /etc\/passwd has changed/)

  const file = plan('true')
  fs.writeFileSync(`${root}/.hew-unfinished`, '')
  refused(hew('replay', file), /is unfinished/)
  fs.rmSync(`${root}/.hew-unfinished`)
  assert.is(hew('replay', file).status, 0)
  fs.renameSync(root, `${root}-old`)
  refused(hew('replay', file), /the root .* is another one/)
  fs.cpSync(`${root}-old`, root, {recursive: true, verbatimSymlinks: true})
  refused(hew('replay', file), /the root .* is another one/)
  fs.rmSync(root, {recursive: true})
  fs.renameSync(`${root}-old`, root)
  assert.is(hew('replay', file).status, 0)
})

requires(
  test,
  'root',
  'setpriv',
)('--dry-run and --explain: a script that does the same, and its lines, of the same plan', () => {
  const about = `id; pwd; umask; hostname; cat /proc/self/mountinfo | wc -l; grep -E '^(Cap|NoNew)' /proc/self/status; exit 7`
  const file = `${here}/to be said`
  const options = ['-r', root, '--plan', file, '--read-only', '-w', '/usr', '-u', '5:6', '--map', 'all']
  const planned = run('sh', ['-c', 'umask 027; exec "$@"', 'sh', HEW, 'enter', ...options, 'sh', '-c', about])
  assert.is(planned.status, 0, planned.stderr)
  for (const command of [[], ['--', 'sh', '-c', `echo another; ${about}`]]) {
    const done = hew('replay', file, ...command)
    assert.is(done.status, 7, done.stderr)
    const {stdout, stderr, status} = hew('replay', '--dry-run', file, ...command)
    assert.equal([stderr, status, shellcheck(stdout)], ['', 0, ''])
    assert.equal(run('dash', [], {input: stdout}), {...done, stderr: ''})
    const told = hew('replay', '--explain', file, ...command)
    assert.equal([told.stdout, told.status], [done.stdout, 7])
    assert.match(told.stderr, /^hew replay: unshare --mount .* {2}# ok$/m)
    assert.match(told.stderr, /^hew replay: cd "\$root" && pivot_root .* {2}# ok$/m)
    assert.is(run(HEW, ['replay', file, ...command], {env: {HEW_EXPLAIN: '1'}}).stderr, told.stderr)
  }
  assert.equal(states(), [])
  fs.chmodSync(file, 0o620)
  for (const option of ['--dry-run', '--explain'])
    refused(hew('replay', option, file), /others can write to the plan/)
})

asRoot('what cannot be replayed is not planned', () => {
  const file = `${here}/never`
  for (const [words, why] of [
    [['--by-hand', '-r', root, '--plan', file], /--by-hand .* leave --plan out/],
    [['-t', '1', '--plan', file], /leave --plan out/],
    [['-r', root, '--plan', file, 'no-such-command'], /no-such-command/],
    [['-r', root, '--plan', `${here}/no/such`, 'true'], /cannot write the plan .*No such file/],
  ] as const) {
    const done = hew('enter', ...words)
    assert.match(done.stderr, why)
    assert.not.equal(done.status, 0)
  }
  const removed = shell(`hew mkroot --rm --empty --json ${here}/gone | hew enter --plan ${file} -- true`)
  assert.is(removed.status === 125 || removed.status === 127, true, removed.stderr)
  assert.is(fs.existsSync(`${here}/gone`), false)
  assert.is(fs.existsSync(file), false)
  assert.equal(states(), [])
})

asRoot('an ordinary user plans and replays', () => {
  const file = `${here}/users`
  fs.mkdirSync(file)
  fs.chownSync(file, 1234, 1234)
  const user = {uid: 1234, gid: 1234, env: {XDG_RUNTIME_DIR: file, PATH: process.env.PATH}}
  const planned = run(HEW, ['enter', '-r', root, '--plan', `${file}/plan`, 'sh', '-c', 'id -u; exit 3'], user)
  assert.equal(planned, {stdout: '', stderr: '', status: 0})
  assert.equal(run(HEW, ['replay', `${file}/plan`], user), {stdout: '0\n', stderr: '', status: 3})
  refused(hew('replay', `${file}/plan`), /another user's/)
  assert.equal(fs.readdirSync(`${file}/hew`), [])
})

test('its help, and a command line without a plan', () => {
  assert.match(hew('replay', '--help').stdout, /hew replay PLAN \[\[--\] COMMAND/)
  assert.is(hew('replay').status, 2)
})

test.run()
