import {type ChildProcess, execFileSync, spawn} from 'node:child_process'
import * as fs from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {PROGRAMS} from '../../lib/root/essentials.ts'
import {HEW, hew, type Outcome, requires, run, type Spawning, scratch, until} from '../support.ts'
import {entry, type Made, tar} from '../tar-writer.ts'

/** Roots that are really lived in, and made under bad conditions. */

const tests = suite('mkroot: system')
const everywhere = requires(tests, 'root', 'setpriv', 'busybox')
const test = requires(tests, 'root', 'setpriv', 'busybox', 'native')
const here = scratch()
fs.chmodSync(here, 0o755)
const NOBODY = {uid: 65534, gid: 65534}
let count = 0
const fresh = (): string => `${here}/${++count}`

function made(...words: string[]): string {
  const root = fresh()
  const {stdout, stderr, status} = hew('mkroot', '-q', root, ...words)
  assert.equal({stdout, stderr, status}, {stdout: `${root}\n`, stderr: '', status: 0})
  return root
}

/** Everything about a tree that an import has to keep, a line for each name. */
function snapshot(root: string, fields = '%P %y %m %U %G %T@ %s %l %n %D'): string[] {
  const lines = run('find', [root, '-printf', `${fields.replace('%D', '')}\\n`]).stdout
  const sums = run('sh', ['-c', 'cd "$1" && find . -type f -exec sha256sum {} + | sort', '-', root]).stdout
  const xattrs = run('sh', [
    '-c',
    'cd "$1" && find . -exec getfattr -h -d -m - -e hex {} + | grep .',
    '-',
    root,
  ]).stdout
  // The size of a directory is its file system's own affair.
  const entries = lines.split('\n').map(line => line.replace(/^(\S* d .*) \d+ {2}(\d+)\s*$/, '$1 - $2'))
  return [...entries.sort(), ...sums.split('\n'), ...xattrs.split('\n').sort()]
}

const names = (root: string): string[] =>
  run('find', [root, '-mindepth', '1', '-printf', '%P\\n']).stdout.split('\n').slice(0, -1).sort()

function inRoot(root: string, ...command: string[]): Outcome {
  return run('chroot', [root, ...command], {env: {PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TERM: 'xterm'}})
}

/** ps and its kin will not even say their version without /proc. */
function withProc(root: string, ...command: string[]): Outcome {
  const script = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
  return run('unshare', ['--mount', '--pid', '--fork', 'sh', '-c', script, '-', root, ...command], {
    env: {TERM: 'xterm'},
  })
}

// ---- the default root ----

const HARMLESS: Record<string, string[]> = {
  sh: ['-c', ':'],
  clear: [],
  echo: [],
  pwd: [],
  id: [],
  whoami: [],
  hostname: [],
  kill: ['-l'],
  which: ['ls'],
  awk: ['BEGIN {}'],
  ip: ['-V'],
  test: ['1'],
  top: ['-v'],
  true: [],
}

test('every program of the lesson starts in the default root', () => {
  const root = made()
  for (const program of PROGRAMS) {
    const {stderr, status} = withProc(root, program, ...(HARMLESS[program] ?? ['--version']))
    assert.is(status, program === 'false' ? 1 : 0, `${program}: ${stderr}`)
  }
})

test('names, terminals and UTF-8 work there', () => {
  const root = made()
  const shell = (line: string): Outcome => inRoot(root, 'bash', '-c', line)
  assert.is(
    shell('id -un; id -gn; ls -ld /tmp | cut -c1-10; cat /etc/hostname').stdout,
    `root\nroot\ndrwxrwxrwt\n${count}\n`,
  )
  assert.is(shell('echo äöü | LC_ALL=C.UTF-8 sed s/./x/g').stdout, 'xxx\n')
  for (const terminal of ['linux', 'xterm-256color', 'screen', 'tmux-256color', 'vt100'])
    assert.is(shell(`TERM=${terminal} clear`).status, 0, terminal)
  assert.is(shell('seq 3 | xargs -n1 printf "<%s>" | tee /tmp/x; grep -c . /tmp/x').stdout, '<1><2><3>1\n')
})

test('chroot "$(hew mkroot -q)" sh, in the place for roots', () => {
  const script = `mount -t tmpfs tmpfs /var/lib && root=$('${HEW}' mkroot -q) && echo "$root" && chroot "$root" sh -c 'echo inside'`
  const {stdout, stderr, status} = run('unshare', ['--mount', 'sh', '-c', script])
  assert.is(stderr, '')
  assert.match(stdout, /^\/var\/lib\/hew\/roots\/[a-z]+-[a-z]+-[0-9a-f]{4}\ninside\n$/)
  assert.is(status, 0)
})

everywhere('an ordinary user has roots of their own', () => {
  const home = fresh()
  fs.mkdirSync(home, {mode: 0o700})
  fs.chownSync(home, NOBODY.uid, NOBODY.gid)
  const options: Spawning = {...NOBODY, env: {HOME: home, PATH: '/usr/bin:/bin'}}
  const {stdout, stderr, status} = run(HEW, ['mkroot', '-q'], options)
  assert.is(stderr, '')
  assert.is(status, 0)
  const root = stdout.trim()
  assert.ok(root.startsWith(`${home}/.local/share/hew/roots/`))
  assert.ok(names(root).includes('usr/bin/bash'))
  const ids = run(
    'unshare',
    ['--user', '--map-root-user', '/usr/sbin/chroot', root, 'sh', '-c', 'id -u; ls -d /tmp'],
    options,
  )
  assert.is(ids.stdout, '0\n/tmp\n')
  const elsewhere = run(HEW, ['mkroot', '-q', '--empty'], {
    ...options,
    env: {HOME: home, XDG_DATA_HOME: `${home}/x`},
  })
  assert.ok(elsewhere.stdout.startsWith(`${home}/x/hew/roots/`))
  const refused = run(HEW, ['mkroot', '/var/lib/not-mine', '--empty'], options)
  assert.is(refused.stderr, 'hew mkroot: cannot create /var/lib/not-mine: Permission denied\n')
  assert.is(refused.status, 125)
  const homeless = run(HEW, ['mkroot', '--empty'], {...options, env: {HOME: '/nonexistent'}})
  assert.match(
    homeless.stderr,
    /^hew mkroot: cannot create \/nonexistent\/\.local\/share\/hew\/roots\/[\w-]+: Permission denied: name a directory of yours, as in 'hew mkroot DIR'\n$/,
  )
  assert.is(homeless.status, 125)
})

// ---- other machines, played by roots ----

/** `hew mkroot` with another root as its machine; nothing but hew and /proc is added to that. */
function onMachine(machine: string, ...words: string[]): Outcome {
  fs.mkdirSync(`${machine}/proc`, {recursive: true})
  fs.writeFileSync(`${machine}/hew`, '')
  const script = `mount -t proc proc "$1/proc" && mount --bind "$0" "$1/hew" && shift && exec chroot "$@"`
  return run('unshare', ['--mount', 'sh', '-c', script, HEW, machine, machine, '/hew', 'mkroot', ...words], {
    env: {PATH: '/usr/bin:/bin:/usr/sbin:/sbin'},
  })
}

function busyboxMachine(): string {
  const machine = fresh()
  fs.mkdirSync(`${machine}/bin`, {recursive: true})
  fs.copyFileSync('/usr/bin/busybox', `${machine}/bin/busybox`)
  for (const applet of ['sh', 'ls', 'id', 'cat', 'vi'])
    fs.symlinkSync('/bin/busybox', `${machine}/bin/${applet}`)
  return machine
}

test('on a BusyBox machine: the links to its one binary', () => {
  const machine = busyboxMachine()
  const {stderr, status} = onMachine(machine, '/new')
  assert.is(stderr, '')
  assert.is(status, 0)
  assert.is(inRoot(`${machine}/new`, 'sh', '-c', 'id -un && cat /etc/hostname').stdout, 'root\nnew\n')
  assert.is(fs.readlinkSync(`${machine}/new/bin/vi`), '/bin/busybox')
  assert.match(fs.readFileSync(`${machine}/new/etc/passwd`, 'utf8'), /:\/bin\/sh\n/)
  assert.not(fs.existsSync(`${machine}/new/root/.exrc`))
  const files = names(`${machine}/new`).filter(name => fs.lstatSync(`${machine}/new/${name}`).isFile())
  assert.equal(
    files.filter(name => !name.startsWith('etc/')),
    ['bin/busybox'],
  )
})

requires(
  tests,
  'root',
  'busybox',
  'musl-gcc',
  'native',
)('on a machine with musl alone', () => {
  const machine = busyboxMachine()
  fs.writeFileSync(`${here}/hello.c`, '#include <stdio.h>\nint main(void) { puts("musl"); }\n')
  execFileSync('musl-gcc', ['-o', `${machine}/bin/uname`, `${here}/hello.c`])
  fs.mkdirSync(`${machine}/lib`)
  fs.copyFileSync('/lib/ld-musl-x86_64.so.1', `${machine}/lib/ld-musl-x86_64.so.1`)
  fs.chmodSync(`${machine}/lib/ld-musl-x86_64.so.1`, 0o755)
  assert.is(onMachine(machine, '/new').stderr, '')
  assert.is(inRoot(`${machine}/new`, '/bin/uname').stdout, 'musl\n')
})

test('on a machine without any shell', () => {
  const machine = fresh()
  fs.mkdirSync(machine)
  const {stdout, stderr, status} = onMachine(machine, '/new')
  assert.is(
    stderr,
    'hew mkroot: this machine has no shell to put into a root: take a root from elsewhere with --from DIR|TAR, or name programs of this machine with --with PROGRAM,...\n',
  )
  assert.is(stdout, '')
  assert.is(status, 125)
  assert.not(fs.existsSync(`${machine}/new`))
  assert.is(onMachine(machine, '/new', '--empty').status, 0)
})

test('programs that are in no usual place are found inside all the same', () => {
  const machine = busyboxMachine()
  fs.mkdirSync(`${machine}/opt/tools`, {recursive: true})
  fs.renameSync(`${machine}/bin/id`, `${machine}/opt/tools/id`)
  fs.mkdirSync(`${machine}/proc`, {recursive: true})
  fs.writeFileSync(`${machine}/hew`, '')
  const script = `mount -t proc proc "$1/proc" && mount --bind "$0" "$1/hew" && PATH=/opt/tools:/bin exec /usr/sbin/chroot "$1" /hew mkroot /new`
  assert.is(run('unshare', ['--mount', 'sh', '-c', script, HEW, machine]).stderr, '')
  assert.is(inRoot(`${machine}/new`, 'sh', '-c', 'PATH=/usr/local/bin:/bin; id -u').stdout, '0\n')
})

// ---- bad conditions ----

test('kill -9 at any moment: no DIR, or one that says that it is unfinished; a second run works', async () => {
  const whole = names(made())
  let unfinished = 0
  for (let i = 0; i < 30; i++) {
    const root = fresh()
    const child = spawn(HEW, ['mkroot', '-q', root], {stdio: 'ignore'})
    // Half of them after the first file is there, so that they hit the stage and not Node's start.
    if (i % 2)
      await until(
        'what mkroot does',
        () => fs.existsSync(`${root}/.hew-unfinished`) || child.exitCode !== null,
      )
    await sleep(i % 2 ? Math.random() * 30 : Math.random() * 150)
    child.kill('SIGKILL')
    await ended(child)
    const left = fs.existsSync(root) ? names(root) : undefined
    const marked = left?.includes('.hew-unfinished')
    if (left && !marked && left.length > 0) assert.equal(left, whole)
    if (marked) {
      unfinished++
      const {stderr, status} = hew('enter', '-r', root, 'true')
      assert.is(
        stderr,
        `hew enter: the root ${root} is unfinished, mkroot was cut off: run 'hew mkroot ${root}' again\n`,
      )
      assert.is(status, 125)
    }
    if (!left || marked || left.length === 0) {
      assert.equal(hew('mkroot', '-q', root), {stdout: `${root}\n`, stderr: '', status: 0})
      assert.equal(names(root), whole)
    }
    fs.rmSync(root, {recursive: true})
  }
  assert.ok(unfinished > 3, `${unfinished} of 30 were hit in the middle`)
})

function ended(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve())
  })
}

everywhere('a signal undoes everything, parents and all', async () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const root = fresh()
    const child = spawn(HEW, ['mkroot', '-q', `${root}/a`], {stdio: 'ignore'})
    await until('what mkroot does', () => fs.existsSync(`${root}/a/.hew-unfinished`))
    child.kill(signal)
    await ended(child)
    assert.is(child.signalCode, signal)
    assert.not(fs.existsSync(root))
  }
})

everywhere('two at once on one DIR: one makes it', async () => {
  for (let i = 0; i < 5; i++) {
    const root = fresh()
    const outcomes = await Promise.all([1, 2, 3].map(() => outcome(['mkroot', '-q', root])))
    const won = outcomes.filter(({status}) => status === 0)
    assert.is(won.length, 1)
    for (const {stderr, status} of outcomes) {
      if (status === 0) continue
      assert.match(
        stderr,
        /^hew mkroot: .* (is being made by another hew \(PID \d+\)|is not empty: name another directory.*)\n$/,
      )
      assert.is(status, 125)
    }
    assert.ok(names(root).includes('usr/bin/ls'))
    assert.not(names(root).includes('.hew-unfinished'))
  }
})

function outcome(words: string[], env: NodeJS.ProcessEnv = process.env): Promise<Outcome> {
  return new Promise(resolve => {
    const child = spawn(HEW, words, {stdio: ['ignore', 'pipe', 'pipe'], env})
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', data => {
      stdout += data
    })
    child.stderr.on('data', data => {
      stderr += data
    })
    child.on('close', status => resolve({stdout, stderr, status: status ?? -1}))
  })
}

everywhere('the disk is full: nothing is left', () => {
  const place = fresh()
  fs.mkdirSync(place)
  const archive = `${here}/large.tar`
  fs.writeFileSync(archive, tar({path: 'a/b', content: Buffer.alloc(6 << 20, 1)}))
  for (const how of ['', `--from ${archive}`]) {
    const script = `mount -t tmpfs -o size=4m tmpfs ${place} && '${HEW}' mkroot -q ${place}/a/root ${how}; status=$?; find ${place}; exit $status`
    const {stdout, stderr, status} = run('unshare', ['--mount', 'sh', '-c', script])
    assert.match(stderr, /^hew mkroot: cannot .*: No space left on device\n$/)
    assert.is(stdout, `${place}\n`)
    assert.is(status, 125)
  }
})

// ---- archives and directories, kept to the last attribute ----

function variedTree(): string {
  const tree = fresh()
  const script = `
    mkdir -p "$1/d/deep/er" "$1/closed" && cd "$1"
    echo text > d/file; chmod 640 d/file; chown 1234:5678 d/file
    cp /bin/true d/setuid; chown 7:8 d/setuid; chmod 6755 d/setuid
    cp /bin/true d/capable; setcap cap_net_raw+ep d/capable
    ln d/file d/deep/again; ln d/file same
    ln -s ../d/file d/link; ln -s /nowhere dangling; chown -h 11:12 dangling
    mkfifo -m 600 pipe; mknod -m 666 null c 1 3; mknod disk b 7 99
    setfattr -n user.text -v hello d/file
    setfattr -n user.bytes -v 0x00ff0a3d20 d/deep
    setfattr -n trusted.x -v y d/file
    printf 'x' > "d/$(printf 'strange\\nname \\377 ä')"
    truncate -s 5M d/sparse
    head -c 3000000 /dev/urandom > d/large
    long=$(printf '%0150d' 0); mkdir -p "$long/$long"; echo deep > "$long/$long/$long"; ln -s "$long/$long/$long" long
    chmod 1777 d/deep; chmod 555 closed; chmod 000 d/file
    touch -h -d '2001-02-03 04:05:06.789012345' dangling d/link d/large d/deep closed
    touch -d '1965-01-01 00:00:00.5' same
    touch -d '2010-10-10 10:10:10.123456789' . d`
  const {stderr, status} = run('sh', ['-ec', script, 'sh', tree])
  assert.is(stderr, '')
  assert.is(status, 0)
  return tree
}

const FULL = ['--xattrs', '--xattrs-include=*', '--format=pax']

everywhere('a directory, copied: owners, modes, times, links, attributes', () => {
  const tree = variedTree()
  assert.equal(snapshot(made('--from', tree)), snapshot(tree))
})

test('an archive of GNU tar in pax format, plain and compressed', () => {
  const tree = variedTree()
  const expected = snapshot(tree)
  for (const compression of ['', '-z', '-J', '--zstd']) {
    const archive = fresh()
    const packed = run('tar', [
      '-C',
      tree,
      ...FULL,
      ...(compression ? [compression] : []),
      '-cf',
      archive,
      '.',
    ])
    assert.is(packed.status, 0, packed.stderr)
    assert.equal(snapshot(made('--from', archive)), expected, compression)
  }
})

test('the older formats keep what they have: whole seconds, no attributes', () => {
  const tree = variedTree()
  for (const format of ['gnu', 'ustar']) {
    if (format === 'ustar') run('sh', ['-c', 'rm -rf "$1"/0* "$1"/long', '-', tree])
    // ustar has no times before 1970.
    run('touch', ['-d', '2000-01-01', `${tree}/same`])
    const archive = fresh()
    assert.is(run('tar', ['-C', tree, `--format=${format}`, '-cf', archive, '.']).status, 0)
    const fields = '%P %y %m %U %G %Ts %s %l %n %D'
    const plain = (root: string): string[] =>
      snapshot(root, fields).filter(line => !/^(#|user\.|trusted\.|security\.)/.test(line))
    assert.equal(plain(made('--from', archive)), plain(tree), format)
  }
})

test('an ordinary user imports what is theirs, and is told of devices', () => {
  const archive = fresh()
  run('tar', ['-C', variedTree(), ...FULL, '-cf', archive, '.'])
  const home = fresh()
  fs.mkdirSync(home)
  fs.chownSync(home, NOBODY.uid, NOBODY.gid)
  const {stdout, stderr, status} = run(HEW, ['mkroot', '-q', `${home}/root`, '--from', archive], NOBODY)
  assert.is(stdout, `${home}/root\n`)
  assert.is(status, 0)
  // In the order of the archive, which is the order of the directory.
  assert.match(
    stderr.trimEnd().split('\n').sort().join('\n'),
    /^hew mkroot: .*\/d\/capable is without its file capabilities: Operation not permitted\nhew mkroot: devices are left out, .*\/(null|disk) is the first: Operation not permitted$/,
  )
  const file = fs.lstatSync(`${home}/root/d/setuid`)
  assert.equal([file.uid, file.mode & 0o7777], [NOBODY.uid, 0o755])
  assert.is(fs.readlinkSync(`${home}/root/d/link`), '../d/file')
  run('chmod', ['-R', 'u+rwx', home])
})

test('damaged and cut off archives: an error, nothing left', () => {
  const source = fresh()
  run('sh', ['-c', 'mkdir "$1" && head -c 500000 /dev/urandom > "$1/a" && echo b > "$1/b"', '-', source])
  for (const [compression, damage] of [
    ['', /cut off/],
    ['-z', /cut off|make no sense/],
    ['-J', /xz says: Unexpected end of input$/m],
    ['--zstd', /zstd says: .*premature end$/m],
  ] as const) {
    const archive = fresh()
    run('tar', ['-C', source, ...(compression ? [compression] : []), '-cf', archive, '.'])
    const bytes = fs.readFileSync(archive)
    const broken = Buffer.from(bytes)
    for (let i = 100_000; i < 100_100; i++) broken[i]! ^= 0x55
    for (const [what, content] of [
      ['half', bytes.subarray(0, bytes.length >> 1)],
      ...(compression ? [['broken', broken] as const] : []),
    ] as const) {
      fs.writeFileSync(archive, content)
      const root = fresh()
      const {stdout, stderr, status} = hew('mkroot', `${root}/a`, '--from', archive)
      assert.match(stderr, new RegExp(`^hew mkroot: cannot read ${archive}: `), `${compression} ${what}`)
      if (what === 'half') assert.match(stderr, damage)
      assert.is(stderr.split('\n').length, 2, stderr)
      assert.is(stdout, '')
      assert.is(status, 125)
      assert.not(fs.existsSync(root))
    }
  }
})

test('a tool for the compression is missing: its name, and its package', () => {
  const archive = fresh()
  run('sh', ['-c', 'tar -cJf "$1" -C /etc hostname', '-', archive])
  const root = fresh()
  const {stderr, status} = run(HEW, ['mkroot', root, '--from', archive], {env: {PATH: '/nowhere'}})
  assert.is(
    stderr,
    `hew mkroot: ${archive} is compressed with xz, which is not installed: apt-get install xz-utils\n`,
  )
  assert.is(status, 125)
  assert.not(fs.existsSync(root))
})

test('ZX_* of the caller changes nothing', () => {
  const archive = fresh()
  run('sh', ['-c', 'tar -cJf "$1" -C /etc hostname', '-', archive])
  const env = {ZX_SHELL: '/bin/false', ZX_PREFIX: 'exit 9;', ZX_VERBOSE: 'true'}
  const root = fresh()
  const {stderr, status} = run(HEW, ['mkroot', '-q', root, '--from', archive], {env})
  assert.equal({stderr, status}, {stderr: '', status: 0})
})

// ---- hostile archives ----

/** Outside the root, where nothing must change. */
const canary = `${here}/canary`
fs.mkdirSync(`${canary}/d`, {recursive: true})
fs.writeFileSync(`${canary}/file`, 'untouched', {mode: 0o640})
const LONG = 'n'.repeat(256)

/** What an archive must come to: the names in the root, or what the error says. */
const hostile: Record<string, [archive: Made[], comesTo: string[] | RegExp]> = {
  'a name with ..': [[{path: 'a'}, {path: '../b'}], /leads out of the root: \.\.\/b$/],
  '.. in the middle': [[{path: 'a/b/../../../c'}], /leads out of the root/],
  '.. that stays inside': [[{path: 'a/../b'}], /leads out of the root/],
  'an absolute name': [[{path: `${canary}/new`}], [...parents(`${canary}/new`)]],
  'slashes and dots': [[{path: './/./a//./b'}], ['a', 'a/b']],
  'a link out, and a file behind it': [
    [
      {path: 'x', type: '2', target: canary},
      {path: 'x/new', content: 'y'},
    ],
    /No such file or directory$/,
  ],
  'the same where the way exists inside': [
    [
      {path: `${canary}/`, type: '5'},
      {path: 'x', type: '2', target: canary},
      {path: 'x/new', content: 'y'},
    ],
    ['x', ...parents(`${canary}/new`)],
  ],
  'a link out by .., and a file behind it': [
    [
      {path: 'x', type: '2', target: `${'../'.repeat(30)}${canary.slice(1)}`},
      {path: 'x/file', content: 'y'},
    ],
    /No such file or directory$/,
  ],
  'a link out by steps': [
    [
      {path: 'x', type: '2', target: '..'},
      {path: 'y', type: '2', target: 'x/..'},
      {path: 'y/z', type: '2', target: `../..${canary}`},
      {path: 'z/file', content: 'y'},
    ],
    /No such file or directory$/,
  ],
  'a link to a file, and that file': [
    [
      {path: 'x', type: '2', target: `${canary}/file`},
      {path: 'x', content: 'y', mode: 0o777},
    ],
    ['x'],
  ],
  'a link to a directory, and that directory with another mode': [
    [
      {path: 'x', type: '2', target: `${canary}/d`},
      {path: 'x/', type: '5', mode: 0o777, uid: 1},
    ],
    ['x'],
  ],
  'a hard link to a link, and a file through it': [
    [
      {path: 'x', type: '2', target: `${canary}/file`},
      {path: 'y', type: '1', target: 'x'},
      {path: 'y', content: 'z', mode: 0o777},
    ],
    ['x', 'y'],
  ],
  'a hard link to what is outside': [[{path: 'x', type: '1', target: `${canary}/file`}], /No such file/],
  'the same by ..': [[{path: 'x', type: '1', target: `../../${canary}/file`}], /leads out of the root: x$/],
  'the same through a link': [
    [
      {path: 's', type: '2', target: canary},
      {path: 'x', type: '1', target: 's/file'},
    ],
    /No such file/,
  ],
  'a hard link to itself, and to nothing': [[{path: 'x', type: '1', target: 'x'}], /No such file/],
  'links in a circle': [
    [
      {path: 'x', type: '2', target: 'y'},
      {path: 'y', type: '2', target: 'x'},
      {path: 'x/z', content: ''},
    ],
    /Too many levels of symbolic links/,
  ],
  'the mark of an unfinished root': [
    [{path: '.hew-unfinished', content: 'hew 1 owned\n'}],
    /it is unfinished itself/,
  ],
  'the same behind a link': [
    [
      {path: 'x', type: '2', target: '/'},
      {path: 'x/.hew-unfinished', type: '2', target: 'y'},
    ],
    /it is unfinished itself/,
  ],
  'a name that is too long': [[{path: 'x', pax: {path: LONG}}], /File name too long/],
  'a path that is too long': [[{path: 'x', pax: {path: 'd/'.repeat(3000)}}], /File name too long|cannot/],
  'names with control characters': [
    [{path: '../\x1b[2J\nhew: all is well'}],
    /leads out of the root: \.\.\/(\?|\\x1b)\[2J(\?|\\x0a)hew: all is well$/,
  ],
  'the same name twice: the last one': [
    [
      {path: 'x', content: 'first'},
      {path: 'x', content: 'last'},
    ],
    ['x'],
  ],
  'a file where a directory is, and the other way round': [
    [
      {path: 'x/', type: '5'},
      {path: 'x', content: 'file'},
      {path: 'y', content: 'file'},
      {path: 'y/z', content: 'below'},
    ],
    /Not a directory|No such file|cannot/,
  ],
  'children before parents, and closed ones': [
    [
      {path: 'a/b/c', content: 'x'},
      {path: 'a/b/', type: '5', mode: 0},
      {path: 'a/', type: '5', mode: 0o500},
      {path: 'a/b/d', content: 'y'},
      {path: './', type: '5', mode: 0o711},
    ],
    ['a', 'a/b', 'a/b/c', 'a/b/d'],
  ],
  'a NUL that would end a word': [[{path: 'x', pax: {path: 'x\0remove-tree\0/'}}], /a NUL in it/],
  'a NUL in an attribute': [[{path: 'x', pax: {'SCHILY.xattr.user.a\0keep': 'y'}}], /a NUL in it/],
  'sizes without contents': [[{path: 'x', size: 0o77777777777}], /cut off/],
}

/** A path's parents and itself, without the first slash. */
function parents(path: string): string[] {
  const names = path.slice(1).split('/')
  return names.map((_, i) => names.slice(0, i + 1).join('/'))
}

for (const [name, [archive, comesTo]] of Object.entries(hostile))
  test(`hostile: ${name}`, () => {
    const before = snapshot(canary)
    const file = fresh()
    fs.writeFileSync(file, tar(...archive))
    const root = fresh()
    const {stdout, stderr, status} = hew('mkroot', '-q', root, '--from', file)
    if (comesTo instanceof RegExp) {
      assert.match(stderr, /^hew mkroot: [^\n]*\n$/, 'one line')
      assert.match(stderr.slice(0, -1), comesTo)
      assert.is(stdout, '')
      assert.is(status, 125)
      assert.not(fs.existsSync(root))
    } else {
      assert.is(stderr, '')
      assert.is(status, 0)
      assert.equal(names(root), [...comesTo].sort())
    }
    assert.equal(snapshot(canary), before)
  })

everywhere('hostile: an archive into a root with links out of it', () => {
  const before = snapshot(canary)
  const root = fresh()
  fs.mkdirSync(root)
  fs.symlinkSync(canary, `${root}/etc`)
  fs.symlinkSync(`${canary}/file`, `${root}/file`)
  const file = fresh()
  fs.writeFileSync(
    file,
    tar(
      {path: 'etc/file', content: 'x'},
      {path: 'file', content: 'y'},
      {path: 'etc/d/', type: '5', mode: 0o777},
    ),
  )
  hew('mkroot', '-q', root, '--into', '--from', file)
  hew('mkroot', '-q', root, '--into')
  hew('mkroot', '-q', root, '--into', '--from', '/etc/terminfo')
  assert.equal(snapshot(canary), before)
})

test('hostile: a thousand random archives write nothing outside, and what fails leaves nothing', () => {
  const before = snapshot(canary)
  const targets = [
    'a',
    'b',
    'a/b',
    '.',
    '..',
    '/',
    canary,
    `${canary}/file`,
    '../../..',
    'a/b/c',
    `../${canary}/d`,
  ]
  const paths = ['a', 'b', 'a/b', 'a/b/c', 'b/c', '/a', './b', 'file', 'a/file', 'b/file', 'b/d/new']
  // HEW_SEED makes the same archives again (an LCG with the numbers of POSIX' example of rand).
  const seed = Number(process.env.HEW_SEED ?? Math.floor(Math.random() * 2 ** 32))
  let state = seed
  const random = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return ((state >>> 16) & 32767) / 32768
  }
  const pick = <T>(list: T[]): T => list[Math.floor(random() * list.length)]!
  const file = fresh()
  for (let i = 0; i < 60; i++) {
    // Many in one: each run of hew costs its start, each archive a moment.
    const archive = Array.from({length: 20}, () =>
      entry({
        path: pick(paths),
        type: pick(['0', '1', '2', '2', '5']),
        target: pick(targets),
        mode: pick([0, 0o777, 0o700]),
        content: '',
      }),
    )
    fs.writeFileSync(file, Buffer.concat([...archive, Buffer.alloc(1024)]))
    const root = fresh()
    const {status, stderr} = hew('mkroot', '-q', root, '--from', file)
    const what = `HEW_SEED=${seed}, archive ${i}: ${stderr}`
    assert.ok(status === 0 || status === 125, what)
    assert.is(fs.existsSync(root), status === 0, what)
    if (status === 125) assert.match(stderr, /^hew mkroot: [^\n]*\n$/, what)
  }
  assert.equal(snapshot(canary), before, `HEW_SEED=${seed}`)
})

// ---- an import that is cut short ----

/** A pipe that an archive's beginning comes through, and then nothing, while `use` is at work. */
async function withEndlessArchive(use: (pipe: string) => Promise<void>): Promise<void> {
  const pipe = fresh()
  const beginning = `${pipe}.tar`
  run('mkfifo', [pipe])
  const large = 'x'.repeat(200_000)
  fs.writeFileSync(
    beginning,
    Buffer.concat([entry({path: 'a/b', content: large}), entry({path: 'c', content: large})]),
  )
  const writer = spawn('sh', ['-c', 'exec > "$1"; cat "$2"; exec sleep 60', '-', pipe, beginning], {
    stdio: 'ignore',
  })
  try {
    await use(pipe)
  } finally {
    writer.kill('SIGKILL')
  }
}

everywhere('an import that is interrupted, or killed, leaves nothing or its mark', async () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    const root = fresh()
    await withEndlessArchive(async pipe => {
      const child = spawn(HEW, ['mkroot', '-q', `${root}/r`, '--from', pipe], {stdio: 'ignore'})
      await until('what mkroot does', () => fs.existsSync(`${root}/r/a/b`))
      child.kill(signal)
      await ended(child)
      if (signal !== 'SIGKILL') assert.is(child.exitCode, signal === 'SIGINT' ? 130 : 143)
      // After a kill -9 the stage finds its words at an end, and undoes what it did.
      await until('what mkroot does', () => !fs.existsSync(root))
    })
  }
})

everywhere('an import of which both processes are killed -9 is unfinished, and made anew', async () => {
  const root = fresh()
  await withEndlessArchive(async pipe => {
    const child = spawn(HEW, ['mkroot', '-q', root, '--from', pipe], {stdio: 'ignore'})
    await until('what mkroot does', () => fs.existsSync(`${root}/a/b`))
    const stage = Number(fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8'))
    process.kill(stage, 'SIGKILL')
    child.kill('SIGKILL')
    await ended(child)
  })
  assert.ok(names(root).includes('.hew-unfinished'))
  assert.is(hew('mkroot', '-q', root, '--empty').status, 0)
  assert.not(names(root).includes('a'))
})

// ---- debootstrap ----

function fakeDebootstrap(body: string): NodeJS.ProcessEnv {
  const directory = fresh()
  fs.mkdirSync(directory)
  fs.writeFileSync(`${directory}/debootstrap`, `#!/bin/sh\n${body}`, {mode: 0o755})
  return {...process.env, PATH: `${directory}:${process.env.PATH}`}
}

everywhere(
  'debootstrap that is interrupted, or whose hew is killed, ends with all its children and its root',
  async () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
      const root = fresh()
      const seconds = 1000 + count
      const env = fakeDebootstrap(
        `mkdir "$2/proc" "$2/d"; mount -t proc proc "$2/proc"; echo x > "$2/d/f"; trap '' INT TERM; sleep ${seconds}.25 & touch "$2/ready"; sleep ${seconds}.5; sleep 9`,
      )
      const child = spawn(HEW, ['mkroot', '-q', `${root}/r`, '--debootstrap', 'sid'], {stdio: 'ignore', env})
      await until('what mkroot does', () => fs.existsSync(`${root}/r/ready`))
      child.kill(signal)
      await ended(child)
      await until('what mkroot does', () => !isRunning(`sleep\0${seconds}`) && !fs.existsSync(root))
    }
  },
)

function isRunning(commandLine: string): boolean {
  return fs.readdirSync('/proc').some(pid => {
    try {
      return /^\d+$/.test(pid) && fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(commandLine)
    } catch {
      return false
    }
  })
}

/** A mirror that apt uses and that answers. */
async function mirror(): Promise<{uri: string; suite: string} | undefined> {
  const targets = run('apt-get', ['indextargets', '--format', '$(REPO_URI) $(CODENAME) $(ORIGIN) $(LABEL)'])
  for (const line of new Set(targets.stdout.split('\n'))) {
    const [uri = '', suite = '', origin, label] = line.split(' ')
    if (origin !== 'Debian' || label !== 'Debian' || suite.includes('-')) continue
    const answer = await fetch(`${uri}dists/${suite}/InRelease`, {signal: AbortSignal.timeout(10_000)}).catch(
      () => undefined,
    )
    if (answer?.ok) return {uri, suite}
  }
  return undefined
}

requires(
  tests,
  'root',
  'debootstrap',
  'native',
)('a real Debian, by debootstrap', async () => {
  const found = await mirror()
  if (!found) return console.log('skipped: a real Debian, by debootstrap: no mirror of Debian answers')
  const root = fresh()
  const words = [
    'mkroot',
    '-q',
    root,
    '--debootstrap',
    found.suite,
    '--variant',
    'minbase',
    '--mirror',
    found.uri,
  ]
  const {stdout, stderr, status} = await outcome(words)
  assert.match(stderr, /^I: .*\n/)
  assert.is(stdout, `${root}\n`, stderr)
  assert.is(status, 0)
  assert.is(inRoot(root, 'sh', '-c', '. /etc/os-release && echo $ID').stdout, 'debian\n')
  assert.not(names(root).includes('.hew-unfinished'))
})

tests.run()
