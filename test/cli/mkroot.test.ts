import * as fs from 'node:fs'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import type {Configuration} from '../../lib/document/oci.ts'
import {HEW, hew, type Outcome, requires, run, scratch, shell} from '../support.ts'

const test = suite('mkroot')
const asRoot = requires(test, 'root')
const here = scratch()
let count = 0
const fresh = (): string => `${here}/${++count}`

/** These lines on stderr, nothing on stdout, and this status. */
function says(outcome: Outcome, status: number, ...lines: string[]): void {
  assert.is(outcome.stderr, lines.map(line => `hew mkroot: ${line}\n`).join(''))
  assert.is(outcome.stdout, '')
  assert.is(outcome.status, status)
}

/** All names below a directory, through no link. */
function names(root: string): string[] {
  return run('find', [root, '-mindepth', '1', '-printf', '%P\\n']).stdout.split('\n').slice(0, -1).sort()
}

function works(...words: string[]): Configuration {
  const {stdout, stderr, status} = hew('mkroot', ...words)
  assert.is(stderr, '')
  assert.is(status, 0)
  assert.is(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  return JSON.parse(stdout) as Configuration
}

const mode = (path: string): string => (fs.lstatSync(path).mode & 0o7777).toString(8)

/** In a terminal; its lines end as they do there. */
function inTerminal(line: string): Outcome {
  return run('script', ['-qec', line, '/dev/null'], {env: {TERM: 'xterm', SHELL: '/bin/sh'}})
}

test('the default root: a person can work in it', () => {
  const root = fresh()
  const document = works(root)
  assert.is(document.root?.path, root)
  assert.is(document.hostname, `${count}`)
  assert.is(mode(root), '755')
  assert.is(mode(`${root}/tmp`), '1777')
  assert.is(mode(`${root}/root`), '700')
  for (const name of ['proc', 'sys', 'dev', 'run', 'home', 'mnt', 'var/tmp'])
    assert.ok(fs.lstatSync(`${root}/${name}`).isDirectory(), name)
  for (const name of ['bin', 'sbin', 'lib']) {
    const inside = fs.lstatSync(`${root}/${name}`)
    assert.is(inside.isSymbolicLink(), fs.lstatSync(`/${name}`).isSymbolicLink(), name)
  }
  const read = (name: string): string => fs.readFileSync(`${root}/etc/${name}`, 'utf8')
  assert.is(read('hostname'), `${count}\n`)
  assert.is(read('hosts'), '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n')
  assert.match(read('nsswitch.conf'), /^passwd: files\n/)
  assert.match(read('group'), /^root:x:0:\n/)
  const shell = /^root:x:0:0:root:\/root:(.*)$/m.exec(read('passwd'))?.[1]
  assert.is(shell, '/bin/bash')
  assert.ok(fs.existsSync(`${root}/usr/bin/bash`))
  assert.is(mode(`${root}/etc/passwd`), '644')
  assert.not(names(root).some(name => name.includes('.hew')))
  assert.ok(names(root).some(name => name.endsWith('/x/xterm-256color')))
  assert.ok(names(root).some(name => name.includes('C.utf8/LC_CTYPE')))
})

test('no setuid program comes along as such', () => {
  const root = fresh()
  works(root)
  const setuid = names(root).filter(name => fs.lstatSync(`${root}/${name}`).mode & 0o6000)
  assert.equal(setuid, [])
  assert.ok(fs.statSync('/usr/bin/mount').mode & 0o4000, 'the test has something to show')
})

test('--empty: directories, and links to directories', () => {
  const root = fresh()
  works(root, '--empty')
  for (const name of names(root)) assert.ok(fs.statSync(`${root}/${name}`).isDirectory(), name)
  assert.ok(names(root).includes('tmp'))
})

test('--with: just these, and the document starts a shell that is there', () => {
  const root = fresh()
  const document = works(root, '--with', 'bash,ls')
  const files = names(root).filter(name => fs.lstatSync(`${root}/${name}`).isFile())
  const programs = files.filter(name => !/lib/.test(name))
  assert.equal(programs, ['usr/bin/bash', 'usr/bin/ls'])
  assert.not(fs.existsSync(`${root}/etc/passwd`))
  assert.equal(document.process?.args, ['bash'])
})

test('--with takes a path, and may be given twice', () => {
  const root = fresh()
  const script = `${here}/script`
  fs.writeFileSync(script, '#!/bin/sh\necho hello\n', {mode: 0o755})
  works(root, '--with', 'true', '--with', script)
  assert.ok(fs.existsSync(`${root}${script}`))
  assert.ok(fs.existsSync(`${root}/usr/bin/dash`))
})

test('--with a program that is not there: the one that was meant, nothing made', () => {
  const root = fresh()
  const {stderr, stdout, status} = hew('mkroot', `${root}/a/b`, '--with', 'bahs,ls,/no/such')
  const looked = String.raw` \(looked in /[^)]*\)`
  assert.match(
    stderr,
    new RegExp(
      `^hew mkroot: nothing was made, since this is missing:\nhew mkroot:   bahs: did you mean bash\\?${looked}\nhew mkroot:   /no/such: it is not there\n$`,
    ),
  )
  assert.is(stdout, '')
  assert.is(status, 1)
  assert.not(fs.existsSync(root))
})

test('parents of DIR are made, and DIR may be there when it is empty', () => {
  const root = `${fresh()}/a/b`
  works(root, '--empty')
  const empty = fresh()
  fs.mkdirSync(empty)
  works(empty, '--empty')
  assert.ok(fs.existsSync(`${empty}/etc`))
})

test('a relative DIR is absolute in the document', () => {
  const document = run(HEW, ['mkroot', 'relative/', '--empty'], {cwd: here})
  assert.is(JSON.parse(document.stdout).root.path, `${here}/relative`)
})

test('a DIR that holds something is refused, untouched', () => {
  const root = fresh()
  fs.mkdirSync(root)
  fs.writeFileSync(`${root}/file`, 'mine')
  const before = fs.statSync(root, {bigint: true}).ctimeNs
  for (const how of [[], ['--empty'], ['--with', 'ls'], ['--from', '/etc']])
    says(
      hew('mkroot', root, ...how),
      125,
      `${root} is not empty: name another directory, or say --into to add to it`,
    )
  assert.equal(names(root), ['file'])
  assert.is(fs.statSync(root, {bigint: true}).ctimeNs, before)
})

test('--into adds, and leaves alone what is there', () => {
  const root = fresh()
  fs.mkdirSync(`${root}/etc`, {recursive: true, mode: 0o700})
  fs.writeFileSync(`${root}/etc/passwd`, 'mine')
  works(root, '--into')
  assert.is(fs.readFileSync(`${root}/etc/passwd`, 'utf8'), 'mine')
  assert.is(mode(`${root}/etc`), '700')
  assert.ok(fs.existsSync(`${root}/usr/bin/ls`))
  works(root, '--into')
  const document = works(fresh(), '--into', '--empty')
  assert.ok(fs.existsSync(`${document.root?.path}/etc`), 'a new DIR will do')
})

test('--into where something is in the way: an error, and nothing added', () => {
  const root = fresh()
  fs.mkdirSync(`${root}/usr/bin`, {recursive: true})
  fs.writeFileSync(`${root}/usr/bin/ls`, 'not the same')
  const before = names(root)
  const {stderr, status} = hew('mkroot', root, '--into', '--with', 'bash,ls')
  assert.match(stderr, new RegExp(`^hew mkroot: .*${root}/usr/bin/ls`))
  assert.is(status, 125)
  assert.equal(names(root), before)
})

test('DIR is a file, below a file, the root of the machine', () => {
  const file = fresh()
  fs.writeFileSync(file, '')
  says(hew('mkroot', file), 125, `${file} is not a directory`)
  says(hew('mkroot', `${file}/x`), 125, `${file}/x: a part of its path is not a directory`)
  says(hew('mkroot', '/', '--into'), 125, "/ is this machine's own root: name another directory")
})

test('--quiet prints the path, also for a shell line', () => {
  const root = fresh()
  assert.is(hew('mkroot', root, '-q', '--empty').stdout, `${root}\n`)
})

test('a person sees a summary, or the document with --json', () => {
  const [one, two, three, long] = [fresh(), fresh(), fresh(), `${fresh()}${'/long name'.repeat(9)}`]
  for (const [root, typed] of [
    [one, one],
    [long, `'${long}'`],
  ])
    assert.is(
      inTerminal(`${HEW} mkroot ${typed} --empty`).stdout,
      [`root   ${root}`, 'holds  directories only', `next   hew enter -r ${typed}`, ''].join('\r\n'),
    )
  assert.match(
    inTerminal(`${HEW} mkroot ${two}`).stdout,
    /^root {6}.*\r\nprograms {2}sh bash ls [a-z\s]*\r\nfiles {5}\d+, [\d.]+ MB\r\nnext {6}hew enter -r .*\r\n$/,
  )
  assert.is(JSON.parse(inTerminal(`${HEW} mkroot ${three} --empty --json`).stdout).root.path, three)
})

test('the document says which directory mkroot has made, and with --rm that it goes at the end', () => {
  const [kept, goes, theirs] = [fresh(), fresh(), fresh()]
  const identity = (root: string): string => {
    const {dev, ino} = fs.statSync(root, {bigint: true})
    return `${dev}:${ino}`
  }
  assert.equal(works(kept, '--empty').annotations, {'dev.hew.root': identity(kept)})
  assert.equal(works(goes, '--rm', '--empty').annotations, {
    'dev.hew.remove': 'true',
    'dev.hew.root': identity(goes),
  })
  fs.mkdirSync(theirs)
  assert.equal(works(theirs, '--into', '--empty').annotations, {})
})

test('nobody reads the document: nothing is left, not even the parents', () => {
  const root = fresh()
  for (const how of ['', '--from /etc/terminfo']) {
    const {stderr, stdout} = shell(
      `{ hew mkroot ${root}/a/b ${how}; echo $? >&3; } 3>${here}/status | true; cat ${here}/status`,
    )
    assert.is(stderr, 'hew mkroot: nobody reads what comes out of the pipe: the next command has ended\n')
    assert.is(stdout, '125\n')
    assert.not(fs.existsSync(root))
  }
})

test('command lines that cannot be understood', () => {
  for (const [words, message] of [
    [['a', 'b'], 'one root at a time: b is one DIR too many (programs go behind --with)'],
    [['--empty', '--with', 'ls'], '--with and --empty exclude each other'],
    [['--from', '/', '--debootstrap', 'sid'], '--from and --debootstrap exclude each other'],
    [['--empty', '--from', '/', '--with', 'ls'], '--with, --empty and --from exclude each other'],
    [['--mirror', 'http://x'], '--mirror goes with --debootstrap SUITE'],
    [['--variant', 'minbase'], '--variant goes with --debootstrap SUITE'],
    [['--into'], '--into needs the DIR that it is about'],
    [['a', '--into', '--rm'], '--rm removes only what mkroot made, and --into adds to what is there'],
    [['--with', ','], '--with names no program: --with bash,ls'],
    [['--debootstrap', '../sid'], '--debootstrap ../sid: it is the name of a release'],
    [['a', '--debootstrap', 'sid', '--into'], 'debootstrap wants a new DIR, without --into'],
  ] as const)
    says(hew('mkroot', ...words), 2, message, "see 'hew mkroot --help'")
})

// ---- sources ----

test('--from something that is not there, no archive, a directory around DIR', () => {
  const root = fresh()
  says(hew('mkroot', root, '--from', `${here}/none`), 125, `there is no ${here}/none to make a root from`)
  fs.writeFileSync(`${here}/text`, 'x'.repeat(2000))
  fs.writeFileSync(`${here}/nothing`, '')
  says(hew('mkroot', root, '--from', `${here}/text`), 125, `cannot read ${here}/text: it is no tar archive`)
  says(hew('mkroot', root, '--from', `${here}/nothing`), 125, `cannot read ${here}/nothing: it is empty`)
  says(
    hew('mkroot', root, '--from', here),
    125,
    `${root} is in ${here}, and would be copied into itself: name a directory elsewhere`,
  )
  assert.not(fs.existsSync(root))
})

test('--from a directory', () => {
  const source = fresh()
  fs.mkdirSync(`${source}/d`, {recursive: true})
  fs.writeFileSync(`${source}/d/f`, 'text', {mode: 0o640})
  fs.symlinkSync('d/f', `${source}/l`)
  const root = fresh()
  works(root, '--from', source)
  assert.equal(names(root), ['d', 'd/f', 'l'])
  assert.is(fs.readFileSync(`${root}/l`, 'utf8'), 'text')
  assert.is(mode(`${root}/d/f`), '640')
})

test('--from a pipe, as in a shell', () => {
  fs.mkdirSync(`${here}/piped`)
  fs.writeFileSync(`${here}/piped/f`, 'x')
  const root = fresh()
  const made = run('bash', ['-c', `'${HEW}' mkroot -q ${root} --from <(tar -C ${here}/piped -cz .)`])
  assert.equal(made, {stdout: `${root}\n`, stderr: '', status: 0})
  assert.equal(names(root), ['f'])
})

// ---- unfinished roots ----

function unfinished(text: string): string {
  const root = fresh()
  fs.mkdirSync(root)
  fs.writeFileSync(`${root}/.hew-unfinished`, text)
  fs.writeFileSync(`${root}/half`, 'a file')
  return root
}

test('what a killed run left is made anew', () => {
  const root = unfinished('hew 999999 owned\n')
  works(root, '--empty')
  assert.not(fs.existsSync(`${root}/half`))
  assert.not(fs.existsSync(`${root}/.hew-unfinished`))
  assert.ok(fs.existsSync(`${root}/etc`))
})

test('where adding was cut off, what was there stays, and --into does it again', () => {
  const root = unfinished('hew 999999 into\n')
  says(
    hew('mkroot', root, '--empty'),
    125,
    `${root} is not finished, adding to it was cut off: say --into to do it again`,
  )
  assert.equal(names(root), ['.hew-unfinished', 'half'])
  works(root, '--into', '--empty')
  assert.ok(fs.existsSync(`${root}/half`))
  assert.not(fs.existsSync(`${root}/.hew-unfinished`))
})

test('a marker that hew did not write means nothing', () => {
  const refused = (root: string): void => {
    const before = names(root)
    const {stderr, status} = hew('mkroot', root, '--empty')
    assert.match(stderr, new RegExp(`^hew mkroot: ${root} is not empty: name another`))
    assert.is(status, 125)
    assert.equal(names(root), before)
  }
  refused(unfinished(''))
  refused(unfinished('something else\n'))
  const link = unfinished('hew 1 owned\n')
  fs.renameSync(`${link}/.hew-unfinished`, `${here}/elsewhere`)
  fs.symlinkSync(`${here}/elsewhere`, `${link}/.hew-unfinished`)
  refused(link)
  const pipe = unfinished('')
  fs.rmSync(`${pipe}/.hew-unfinished`)
  run('mkfifo', [`${pipe}/.hew-unfinished`])
  refused(pipe)
})

test('a marker that a killed run did not come to write is taken over', () => {
  const root = unfinished('')
  fs.rmSync(`${root}/half`)
  works(root, '--empty')
  assert.not(fs.existsSync(`${root}/.hew-unfinished`))
  // Where there is more, only adding to it is safe.
  const more = unfinished('')
  works(more, '--into', '--empty')
  assert.is(fs.readFileSync(`${more}/half`, 'utf8'), 'a file')
  assert.not(fs.existsSync(`${more}/.hew-unfinished`))
})

test('a marker that is another name of a file is never written to', () => {
  const foreign = 'is there already, and hew did not make it'
  for (const [text, why] of [
    ['', 'is not empty: name another'],
    ['hew 999999 owned\n', 'is not empty: name another'],
    ['hew 999999 into\n', 'say --into to do it again'],
  ] as const)
    for (const into of [false, true]) {
      const root = unfinished(text)
      const other = `${here}/other`
      fs.linkSync(`${root}/.hew-unfinished`, other)
      const {stderr, status} = hew('mkroot', root, '--empty', ...(into ? ['--into'] : []))
      assert.ok(stderr.includes(into ? foreign : why), stderr)
      assert.is(status, 125)
      assert.is(fs.readFileSync(other, 'utf8'), text)
      assert.equal(names(root), ['.hew-unfinished', 'half'])
      fs.rmSync(other)
    }
})

asRoot("another user's marker means nothing", () => {
  const root = unfinished('hew 999999 owned\n')
  fs.chownSync(`${root}/.hew-unfinished`, 65534, 65534)
  assert.is(hew('mkroot', root).status, 125)
  assert.equal(names(root), ['.hew-unfinished', 'half'])
})

test('a root that a living hew is making', () => {
  const root = unfinished('hew 4711 owned\n')
  const outcome = run('flock', [`${root}/.hew-unfinished`, HEW, 'mkroot', root])
  says(outcome, 125, `${root} is being made by another hew (PID 4711)`)
  assert.ok(fs.existsSync(`${root}/half`))
})

// ---- debootstrap, played by a script ----

function fakeDebootstrap(body: string): Record<string, string> {
  const directory = fresh()
  fs.mkdirSync(directory)
  fs.writeFileSync(`${directory}/debootstrap`, `#!/bin/sh\n${body}`, {mode: 0o755})
  return {PATH: `${directory}:${process.env.PATH}`}
}

asRoot('debootstrap makes the root, and its progress is seen', () => {
  const root = fresh()
  const env = fakeDebootstrap(`
    echo "I: Retrieving" "$@"
    echo "W: careful" >&2
    for target; do [ -d "$target" ] && mkdir "$target/etc" && cat "$target/.hew-unfinished" > "$target/etc/marker"; done
    exec 2>&1; readlink /proc/self/ns/pid
  `)
  const words = [root, '-q', '--debootstrap', 'bookworm', '--variant', 'minbase', '--mirror', 'http://here/']
  const {stdout, stderr, status} = run(HEW, ['mkroot', ...words], {env})
  // Two pipes: which of them is read first is up to the machine.
  assert.ok(stderr.split('\n').includes('W: careful'), stderr)
  const lines = stderr.split('\n').filter(line => line !== 'W: careful')
  assert.is(lines[0], `I: Retrieving --variant=minbase bookworm ${root} http://here/`)
  assert.match(lines[1]!, /^pid:\[\d+\]$/)
  assert.is.not(lines[1], fs.readlinkSync('/proc/self/ns/pid'))
  assert.is(stdout, `${root}\n`)
  assert.is(status, 0)
  assert.equal(names(root), ['etc', 'etc/marker'])
  assert.match(fs.readFileSync(`${root}/etc/marker`, 'utf8'), /^hew \d+ owned\n$/)
})

asRoot('debootstrap fails: the end of its log, the line to type, and half a root is removed', () => {
  const root = fresh()
  const env = fakeDebootstrap(`
    mkdir -p "$2/debootstrap" "$2/proc/deep" && mount -t proc proc "$2/proc"
    for i in 1 2 3 4 5 6; do echo "line $i"; done > "$2/debootstrap/debootstrap.log"
    exit 3
  `)
  const {stdout, stderr, status} = run(HEW, ['mkroot', `${root}/a`, '--debootstrap', 'sid'], {env})
  assert.is(
    stderr,
    [
      'the end of its log:',
      ...['2', '3', '4', '5', '6'].map(i => `  line ${i}`),
      "debootstrap failed with status 3, what it had made is removed: 'debootstrap sid ./root' keeps it, with debootstrap/debootstrap.log",
    ]
      .map(line => `hew mkroot: ${line}\n`)
      .join(''),
  )
  assert.is(stdout, '')
  assert.is(status, 125)
  assert.not(fs.existsSync(root), 'with the parents that were made for it')
})

asRoot('debootstrap for an ordinary user, and where it is not installed', () => {
  fs.chmodSync(here, 0o777)
  const env = fakeDebootstrap('exit 0')
  says(
    run(HEW, ['mkroot', fresh(), '--debootstrap', 'sid'], {env, uid: 65534, gid: 65534}),
    125,
    'debootstrap works for root alone: type the same line behind sudo',
  )
  says(
    run(HEW, ['mkroot', fresh(), '--debootstrap', 'sid'], {env: {PATH: '/nowhere'}}),
    125,
    'debootstrap is not installed: apt-get install debootstrap',
  )
})

test.run()
