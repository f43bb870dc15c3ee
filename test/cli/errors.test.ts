import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, HOSTILE, hew, type Outcome, requires, run, scratch, shell} from '../support.ts'

/** The errors that people meet, to the letter: what failed, on which path, why, what to do. */

const here = scratch()
const asRoot = requires(test, 'root')

/** One line on stderr, nothing on stdout, and this status. */
function says(outcome: Outcome, status: number, ...lines: string[]): void {
  assert.is(outcome.stderr, lines.map(line => `${line}\n`).join(''))
  assert.is(outcome.stdout, '')
  assert.is(outcome.status, status)
}

function rootWith(name: string, ...programs: string[]): string {
  const root = `${here}/${name}`
  fs.mkdirSync(root)
  if (programs.length > 0) assert.is(hew('copy-deps', '-q', '-r', root, ...programs).status, 0)
  return root
}

test('there is no such root', () => {
  says(
    hew('enter', '-r', `${here}/nowhere`),
    125,
    `hew enter: there is no root ${here}/nowhere: make it with 'hew mkroot ${here}/nowhere'`,
  )
})

test('the root is a file', () => {
  fs.writeFileSync(`${here}/file`, '')
  says(hew('enter', '-r', `${here}/file`), 125, `hew enter: the root ${here}/file is a file and no directory`)
})

test('the root has no bash', () => {
  const root = rootWith('empty')
  says(
    hew('enter', '-r', root),
    127,
    `hew enter: ${root} has no bash: add it with 'hew copy-deps -r ${root} bash'`,
  )
})

test('the root does not have the command', () => {
  const root = rootWith('small', 'ls')
  says(
    hew('enter', '-r', root, 'frobnicate', '-x'),
    127,
    `hew enter: ${root} has no frobnicate: add it with 'hew copy-deps -r ${root} frobnicate'`,
  )
})

test("the command's interpreter is missing: of a script, and of a program", () => {
  const root = rootWith('interpreters')
  fs.mkdirSync(`${root}/bin`)
  fs.writeFileSync(`${root}/bin/script`, '#!/usr/bin/perl -w\n', {mode: 0o755})
  fs.copyFileSync('/bin/ls', `${root}/bin/ls`)
  says(
    hew('enter', '-r', root, 'script'),
    126,
    `hew enter: /bin/script needs the interpreter /usr/bin/perl, which ${root} does not have: add it with 'hew copy-deps -r ${root} /usr/bin/perl'`,
  )
  says(
    hew('enter', '-r', root, '/bin/ls'),
    126,
    `hew enter: /bin/ls needs the interpreter /lib64/ld-linux-x86-64.so.2, which ${root} does not have: add it with 'hew copy-deps -r ${root} /lib64/ld-linux-x86-64.so.2'`,
  )
})

test('a library is missing', () => {
  const root = rootWith('libraries', 'ls')
  const [library] = fs
    .readdirSync(`${root}/usr/lib/x86_64-linux-gnu`)
    .filter(name => name.startsWith('libselinux'))
  fs.rmSync(`${root}/usr/lib/x86_64-linux-gnu/${library}`)
  says(
    hew('enter', '-r', root, 'ls'),
    126,
    `hew enter: /usr/bin/ls needs ${library}, which ${root} does not have: add it with 'hew copy-deps -r ${root} ls'`,
  )
})

test('a root without -r; no root at all', () => {
  const root = rootWith('operand')
  const meant = (line: string) =>
    `hew ${line.split(' ')[0]}: ${root} is a directory: a root is named with -r, as in 'hew ${line}'`
  for (const command of ['copy-deps', 'enter']) {
    const see = `hew ${command}: see 'hew ${command} --help'`
    says(hew(command, root, 'bash'), 2, meant(`${command} -r ${root} bash`), see)
    for (const stdin of ['/dev/null', '/dev/ptmx'])
      says(
        shell(`hew ${command} bash <${stdin}`),
        2,
        `hew ${command}: no root: name it with -r ROOT, or pipe one in, as in 'hew mkroot | ...'`,
        see,
      )
  }
  says(
    hew('copy-deps', 'bash', root),
    2,
    meant(`copy-deps -r ${root} bash`),
    "hew copy-deps: see 'hew copy-deps --help'",
  )
  says(
    shell('hew limit --memory 80M </dev/null'),
    2,
    "hew limit: nothing to limit: name a container or a PID, or pipe a root in, as in 'hew mkroot | hew limit --pids 3 | hew enter'",
    "hew limit: see 'hew limit --help'",
  )
})

test('what is given to copy-deps and is no program', () => {
  const root = rootWith('deps')
  const document = hew('mkroot', '--empty', `${here}/piped`).stdout
  const lacks = (word: string, line: string) => {
    for (const done of [
      hew('copy-deps', '-r', root, word),
      hew('copy-deps', '--list', word),
      run(HEW, ['copy-deps', word], {input: document}),
    ])
      says(done, 1, 'hew copy-deps: nothing was copied, since this is missing:', `hew copy-deps:   ${line}`)
  }
  lacks('bash,ls', 'bash,ls: each program is a word of its own: bash ls')
  lacks('cd', 'cd: it is no program, the shell does it itself')
  lacks('/etc', '/etc is a directory: name the programs in it')
  for (const PATH of ['', '.:bin'])
    says(
      run(HEW, ['copy-deps', '-r', root, 'ls', './nothing'], {env: {PATH}, cwd: here}),
      1,
      'hew copy-deps: nothing was copied, since 2 things are missing:',
      'hew copy-deps:   ls (PATH names no directory)',
      `hew copy-deps:   ${here}/nothing: it is not there`,
    )
  const bin = `${here}/bin`
  fs.mkdirSync(bin)
  for (const name of ['w', 'ls']) fs.writeFileSync(`${bin}/${name}`, '', {mode: 0o755})
  says(
    run(HEW, ['copy-deps', '-r', root, 'x', 'l'], {env: {PATH: bin}}),
    1,
    'hew copy-deps: nothing was copied, since 2 things are missing:',
    `hew copy-deps:   x (looked in ${bin})`,
    `hew copy-deps:   l (looked in ${bin})`,
  )
})

test('the command is not executable, a directory, no program', () => {
  const root = rootWith('unfit')
  fs.mkdirSync(`${root}/bin`)
  fs.writeFileSync(`${root}/bin/data`, 'text', {mode: 0o644})
  fs.writeFileSync(`${root}/bin/text`, 'text', {mode: 0o755})
  says(
    hew('enter', '-r', root, '/bin/data'),
    126,
    `hew enter: /bin/data in ${root} is not executable: 'chmod +x ${root}/bin/data' makes it so`,
  )
  says(
    hew('enter', '-r', root, '/bin'),
    126,
    `hew enter: /bin is a directory and no command: a root is named with -r, as in 'hew enter -r /bin'`,
  )
  says(
    hew('enter', '-r', root, '/bin/text'),
    126,
    `hew enter: /bin/text in ${root} is neither a program nor a script with a #! line: run it with its interpreter`,
  )
})

asRoot('a container without a user namespace takes root', () => {
  const root = rootWith('unprivileged', 'true')
  fs.chmodSync(here, 0o755)
  says(
    run(HEW, ['enter', '-r', root, '--share', 'user', 'true'], {uid: 65534, gid: 65534}),
    125,
    'hew enter: without a user namespace only root can make a container: run it as root, or leave --share user out',
  )
})

asRoot('user namespaces are forbidden: the error names the setting', () => {
  const root = rootWith('forbidden', 'true')
  const inside = `echo 0 > /proc/sys/user/max_user_namespaces && exec '${HEW}' enter -r '${root}' true`
  says(
    run('unshare', ['--user', '--map-root-user', 'sh', '-c', inside]),
    125,
    "hew enter: cannot make new namespaces (mnt,uts,ipc,net,pid,user): No space left on device: user.max_user_namespaces forbids it to users: root can allow it with 'sysctl -w user.max_user_namespaces=10000'",
  )
})

asRoot('a mount is refused inside another container', () => {
  const root = rootWith('outer', 'sh', 'true', 'mkdir')
  const outcome = hew(
    'enter',
    '-r',
    root,
    '--bind',
    `${HEW}:/hew:ro`,
    '--',
    '/hew',
    'enter',
    '-r',
    '/',
    'true',
  )
  says(
    outcome,
    125,
    "hew enter: cannot mount proc on /proc (VFS: Mount too revealing): Operation not permitted: the machine's own /proc is covered in part, as in a container without --privileged: start that one with 'docker run --privileged', or share what they show: --share pid,net: see 'hew check'",
  )
})

asRoot('a chroot: the kernel makes no user namespaces there', () => {
  const root = rootWith('chroot', 'true')
  fs.mkdirSync(`${root}/proc`)
  fs.copyFileSync(HEW, `${root}/hew`)
  const line = `mount -t proc proc '${root}/proc' && exec chroot '${root}' /hew enter -r / true`
  says(
    run('unshare', ['--mount', 'sh', '-c', line]),
    125,
    "hew enter: cannot make new namespaces (mnt,uts,ipc,net,pid,user): Operation not permitted: in a chroot the kernel makes no user namespaces: get there with 'hew enter' or pivot_root instead",
  )
})

/** Whatever JSON.parse makes of a document. */
type Parsed = ReturnType<typeof JSON.parse>

/** A document for a root with `true` in it, changed. */
function changed(change: (document: Parsed) => void): string {
  const root = `${here}/documented`
  if (!fs.existsSync(root)) rootWith('documented', 'true')
  const document = JSON.parse(hew('copy-deps', '-r', root, 'true').stdout)
  change(document)
  return `${JSON.stringify(document)}\n`
}

for (const [name, change, message] of [
  [
    'a sysctl of the whole machine',
    d => Object.assign(d.linux, {sysctl: {'vm.swappiness': '60'}}),
    "refused: linux.sysctl.vm.swappiness: it is the whole machine's, and not of a namespace that is new",
  ],
  [
    'mounts without a mount namespace',
    d => {
      d.linux = {...d.linux, namespaces: d.linux.namespaces.filter((n: {type: string}) => n.type !== 'mount')}
      Object.assign(d.linux, {maskedPaths: [], readonlyPaths: []})
    },
    'refused: mounts: it takes a new mount namespace, and the document asks for none',
  ],
  ['a namespace twice', d => d.linux.namespaces.push({type: 'pid'}), 'the document has two pid namespaces'],
  [
    'an id that setresuid would ignore',
    d => Object.assign(d.process.user, {uid: -1}),
    "the document's process.user.uid should be an id (0 to 4294967294), and is -1",
  ],
  [
    'a capability that is none',
    d => Object.assign(d.process.capabilities, {bounding: ['CAP_FOO']}),
    "the document's process.capabilities.bounding has CAP_FOO, which is none (see capabilities(7))",
  ],
  [
    "a device that is not the machine's",
    d => Object.assign(d.linux, {devices: [{path: '/dev/null', type: 'b', major: 10, minor: 229}]}),
    "the document's device /dev/null (b 10:229) is not the machine's: hew makes no other nodes",
  ],
] as [string, (document: Parsed) => void, string][])
  asRoot(`a document is refused: ${name}`, () =>
    says(run(HEW, ['enter', '--', 'true'], {input: changed(change)}), 125, `hew enter: ${message}`),
  )

asRoot('the disk is full while copying: an error, and nothing is left', () => {
  const place = `${here}/full`
  fs.mkdirSync(place)
  const script = `mount -t tmpfs -o size=1m tmpfs ${place} && mkdir ${place}/root && '${HEW}' copy-deps -q -r ${place}/root bash; status=$?; find ${place}/root; exit $status`
  const {stdout, stderr, status} = run('unshare', ['--mount', 'sh', '-c', script])
  assert.match(stderr, /^hew copy-deps: .*\/full\/root\/usr\/.*: No space left on device\n$/)
  assert.is(stdout, `${place}/root\n`)
  assert.is(status, 125)
})

test('nobody reads what comes out', () => {
  const root = rootWith('unread')
  const {stderr, stdout} = shell(
    `{ hew copy-deps -r '${root}' ls; echo $? >&3; } 3>'${here}/status' | true; sleep 0.2; cat '${here}/status'; find '${root}'`,
  )
  assert.is(stderr, 'hew copy-deps: nobody reads what comes out of the pipe: the next command has ended\n')
  assert.is(stdout, `125\n${root}\n`)
})

test('text that nobody reads, or that has no room', () => {
  const unread = shell('{ sleep 0.3; hew --licenses; echo $? >&2; } | true')
  says(unread, 0, 'hew: nobody reads what comes out of the pipe: the next command has ended', '125')
  says(shell('hew enter --help > /dev/full'), 125, 'hew enter: cannot write to stdout: the disk is full')
})

test('the lines to type can be typed as they stand', () => {
  const root = rootWith('with a blank')
  says(
    hew('enter', '-r', root, "it's"),
    127,
    `hew enter: ${root} has no it's: add it with 'hew copy-deps -r '${root}' 'it'\\''s''`,
  )
  says(
    hew('enter', '-r', root, '--', '-x'),
    127,
    `hew enter: ${root} has no -x: add it with 'hew copy-deps -r '${root}' -- -x'`,
  )
  says(
    hew('enter', '-r', `${here}/no where`),
    125,
    `hew enter: there is no root ${here}/no where: make it with 'hew mkroot '${here}/no where''`,
  )
})

test('what the lines to type say comes true, whatever the names are', () => {
  // $() takes the newline from the end of the last of these.
  for (const name of [...HOSTILE.filter(name => name !== 'end\n'), '\x1b[31m', 'a\\0141']) {
    const root = `${here}/hostile/${name}`
    const typed = (outcome: Outcome, before: string): void => {
      const [, line] = new RegExp(`^hew [^\n]*: ${before} '([^\n]*)'\\n$`).exec(outcome.stderr) ?? []
      assert.ok(line, outcome.stderr)
      assert.is(shell(line).stderr, '')
    }
    typed(hew('link', root), 'make it first, with')
    typed(hew('enter', '-r', root, 'true'), 'add it with')
    assert.ok(fs.existsSync(`${root}/usr/bin/true`))
  }
})

test('empty words', () => {
  const root = rootWith('words')
  says(hew('enter', '-r', root, ''), 127, 'hew enter: the command is an empty word')
  for (const command of ['mkroot', 'copy-deps', 'limit', 'ps', 'kill', 'rm', 'logs', 'link'])
    says(
      hew(command, ''),
      2,
      `hew ${command}: one of the words is empty: a variable that is not set?`,
      `hew ${command}: see 'hew ${command} --help'`,
    )
})

for (const [name, text, message] of [
  [
    'a root without a path',
    '{"ociVersion":"1.2.0","root":{"path":""}}\n',
    "the document's root.path is empty: it comes from mkroot, or from runc spec",
  ],
  [
    'an empty pipe',
    '',
    'nothing came through the pipe: the command before it failed, or it prints no document',
  ],
  [
    'a cut-off line',
    '{"ociVersion":"1.2.0","root":{"pa',
    'the document in the pipe is cut off: the command before it failed',
  ],
  [
    'JSON that is no document',
    '{"a":1}\n',
    'what comes through the pipe is JSON and no OCI configuration: it has no ociVersion',
  ],
  [
    'a wrong type',
    '{"ociVersion":"1.2.0","root":{"path":7}}\n',
    "the document's root.path should be text, and is 7",
  ],
  [
    'a wrong type in a list',
    '{"ociVersion":"1.2.0","root":{"path":"/"},"mounts":[{"destination":"/a"},{"destination":[]}]}\n',
    "the document's mounts[1].destination should be text, and is a list",
  ],
  [
    'no root',
    '{"ociVersion":"1.2.0"}\n',
    'the document has no root: it comes from mkroot, or from runc spec',
  ],
  [
    'another version',
    '{"ociVersion":"2.0.0","root":{"path":"/"}}\n',
    'the document is of OCI version 2.0.0: hew understands 1.x',
  ],
  [
    'a protection that hew does not give',
    '{"ociVersion":"1.2.0","root":{"path":"/"},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}\n',
    'refused: linux.seccomp: hew applies no seccomp profile',
  ],
  [
    'an unknown namespace',
    '{"ociVersion":"1.2.0","root":{"path":"/"},"linux":{"namespaces":[{"type":"dream"}]}}\n',
    "refused: linux.namespaces[0].type: 'dream' is not known: it is one of pid, network, mount, ipc, uts, user, cgroup, time",
  ],
] as const)
  for (const command of ['enter', 'copy-deps'])
    test(`${command}: ${name}`, () => {
      const operands = command === 'enter' ? ['--', 'true'] : ['ls']
      says(run(HEW, [command, ...operands], {input: text}), 125, `hew ${command}: ${message}`)
    })

test('a pipe that nobody writes into: they say what they wait for; the document is read when it comes', () => {
  const {stdout} = shell(`
    cd '${here}' && mkfifo silent late
    hew ps <silent 2>ps & hew kill <late 2>kill & hew cgroup-init --dry-run <silent >/dev/null 2>cgroup-init &
    exec 8>silent 9>late
    for command in ps kill cgroup-init; do until grep -q waiting $command; do sleep 0.1; done; done
    echo '{"a":1}' >&9; exec 8>&- 9>&-; wait; cat ps kill; head -n 1 cgroup-init`)
  const waiting = 'hew: waiting for a document from the pipe: </dev/null says that there is none\n'
  assert.is(
    stdout,
    `${waiting}hew ps: nothing came through the pipe: the command before it failed, or it prints no document
${waiting}hew kill: what comes through the pipe is the document of no container that runs: that comes from 'hew enter --detach'
${waiting}`,
  )
})

test('the end of a pipe that is for writing is not read from', () => {
  const {stdout} = shell('for command in ps kill; do hew $command <&1 2>&1 || echo $?; done | cat')
  const message = 'the document cannot be read from the pipe: bad file descriptor'
  assert.match(stdout, new RegExp(`^hew ps: ${message}.*\n125\nhew kill: ${message}.*\n125\n$`))
})

test('100 MB of noise', () => {
  const begin = Date.now()
  const {stderr, status} = shell('head -c 100000000 /dev/urandom | hew enter')
  assert.match(stderr, /^hew enter: what comes through the pipe is no document: .*\n$/)
  assert.is(status, 125)
  assert.ok(Date.now() - begin < 20_000)
})

for (const [words, lines] of [
  [['frobnicate'], ['hew: unknown command frobnicate', "hew: see 'hew --help'"]],
  [['entr'], ['hew: unknown command entr: did you mean enter?', "hew: see 'hew --help'"]],
  [['--versoin'], ['hew: unknown option --versoin: did you mean --version?', "hew: see 'hew --help'"]],
  [
    ['enter', '--bnd', 'x'],
    ['hew enter: unknown option --bnd: did you mean --bind?', "hew enter: see 'hew enter --help'"],
  ],
  [
    ['mkroot', '--emty'],
    ['hew mkroot: unknown option --emty: did you mean --empty?', "hew mkroot: see 'hew mkroot --help'"],
  ],
  [
    ['copy-deps'],
    [
      'hew copy-deps: no program: name at least one, as in `hew copy-deps bash ls`',
      "hew copy-deps: see 'hew copy-deps --help'",
    ],
  ],
  [['link'], ['hew link: one DIR is needed: hew link DIR', "hew link: see 'hew link --help'"]],
  [
    ['enter', '-r', '/', '--bind', 'x', 'true'],
    [
      'hew enter: --bind x: it is SRC:DST or SRC:DST:ro, with absolute paths',
      "hew enter: see 'hew enter --help'",
    ],
  ],
  [
    ['enter', '-r', '/', '--by-hand', '--read-only', 'true'],
    [
      'hew enter: --by-hand does only what the line of the lesson does: leave --read-only out',
      "hew enter: see 'hew enter --help'",
    ],
  ],
  [
    ['enter', '-r', '/', '--cap-add', 'net_admn', 'true'],
    [
      'hew enter: unknown capability net_admn: did you mean CAP_NET_ADMIN?',
      "hew enter: see 'hew enter --help'",
    ],
  ],
] as const)
  test(`a wrong command line: hew ${words.join(' ')}`, () => says(hew(...words), 2, ...lines))

test.run()
