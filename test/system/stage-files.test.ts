import {execFileSync, spawn, spawnSync} from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import {dirname, join} from 'node:path'
import {setTimeout as sleep} from 'node:timers/promises'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {encodeWords, FROM_STDIN, runStage, sanitizedStage} from '../sanitized.ts'
import {type Outcome, requires, run, scratch, until} from '../support.ts'

/** The stage's file steps on real trees, hostile ones among them; on the host under sanitizers. */

const tests = suite('stage: files')
const test = requires(tests, 'root')
/** What takes the harness. */
const withHarness = requires(tests, 'root', 'asan')

const place = scratch()
chmodSync(place, 0o755)
// By this name it is the stage, whoever starts it.
const STAGE = join(place, 'hew-stage')
copyFileSync(sanitizedStage(), STAGE)
chmodSync(STAGE, 0o755)
const NOBODY = 65534

type Word = string | number | Buffer

let count = 0
function fresh(): string {
  const path = join(place, `${++count}`)
  mkdirSync(path)
  return path
}

function stage(...list: Word[]): Outcome {
  return runStage(STAGE, ['as', 'hew test', ...list])
}

/** A plan that works, in an existing root. */
function inRoot(root: string, ...list: Word[]): void {
  const {stderr, status} = stage('begin', 'root', root, ...list, 'keep')
  assert.is(stderr, '')
  assert.is(status, 0)
}

/** One that does not: its message, with the root as ROOT. */
function failure(root: string, ...list: Word[]): string {
  const before = tree(root)
  const {stderr, status} = stage('begin', 'root', root, ...list, 'keep')
  assert.is(status, 125, stderr)
  assert.is(tree(root), before, 'the root is as it was')
  return stderr.replaceAll(root, 'ROOT').replace(/\n$/, '')
}

/** Everything that is to be kept of a tree, a line each: kind, mode, owner, links, time (of what is no directory), target. */
function tree(path: string, format = '%P %y %m %U:%G %n %l %s'): string {
  const lines = execFileSync('find', [path, '-mindepth', '1', '-printf', `${format}\\n`], {
    maxBuffer: 1 << 26,
  })
  return lines.toString().split('\n').sort().join('\n')
}

const mode = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8)
const mtime = (path: string): bigint => lstatSync(path, {bigint: true}).mtimeNs

// ---- roots ----

test('new-root makes parents, and takes an empty directory', () => {
  const top = fresh()
  inRootless('new-root', '0711', `${top}/a/b/c`, 'mkdir', '0755', '/etc', 'keep')
  assert.is(mode(`${top}/a`), '755')
  assert.is(mode(`${top}/a/b/c`), '711')
  inRootless('new-root', '0755', `${top}/a/b/c/etc`, 'keep')
})

function inRootless(...list: Word[]): void {
  const {stderr, status} = stage('begin', ...list)
  assert.is(stderr, '')
  assert.is(status, 0)
}

test('new-root: what it refuses, in words', () => {
  const top = fresh()
  writeFileSync(`${top}/file`, '')
  const refusal = (path: string): string => stage('new-root', '0755', path).stderr.replaceAll(top, 'TOP')
  assert.is(refusal(top), 'hew test: TOP is not empty\n')
  assert.is(refusal(`${top}/file`), 'hew test: TOP/file is not a directory\n')
  assert.is(refusal(`${top}/file/x`), 'hew test: TOP/file is not a directory\n')
  assert.is(stage('root', `${top}/none`).stderr, `hew test: ${top}/none is not there\n`)
  assert.is(stage('root', `${top}/file`).stderr, `hew test: ${top}/file is not a directory\n`)
  assert.is(
    stage('hint', 2, 'make it first', 'root', '/none').stderr,
    'hew test: /none is not there: make it first\n',
  )
})

test('a failed plan takes back the root and its parents', () => {
  const top = fresh()
  const {status} = stage(
    'begin',
    'new-root',
    '0755',
    `${top}/a/b`,
    'claim',
    'owned',
    'mkdir',
    '0755',
    '/x',
    'copy',
    '-',
    '/bin/true',
    '/x/t',
    'no',
  )
  assert.is(status, 125)
  assert.equal(readdirSync(top), [])
})

test('a plan that ends before keep is undone: who wrote it has died', () => {
  const top = fresh()
  const {status, stderr} = stage('begin', 'new-root', '0755', `${top}/a`)
  assert.is(status, 125)
  assert.is(stderr, 'hew test: the plan ends before its work is kept\n')
  assert.equal(readdirSync(top), [])
})

// ---- the marker, signals ----

/** A plan that waits for more words, once all of `list` is done. */
async function paused(...list: Word[]) {
  const child = spawn(STAGE, [], {argv0: 'hew-stage', env: FROM_STDIN as unknown as NodeJS.ProcessEnv})
  let stderr = ''
  child.stderr.on('data', data => {
    stderr += data
  })
  const told = new Promise<void>(resolve => child.stdout.once('data', () => resolve()))
  const ended = new Promise<number | string>(resolve =>
    child.on('close', (status, signal) => resolve(signal ?? status ?? -1)),
  )
  child.stdin.on('error', () => undefined)
  child.stdin.write(encodeWords(['as', 'hew test', ...list, 'print', 'so far']))
  await Promise.race([told, ended])
  assert.is(stderr, '')
  return {child, ended, go: (...more: Word[]) => child.stdin.end(encodeWords(more)), said: () => stderr}
}

test('claim: one at a time; cut off with kill -9 it says so, and the next run takes over', async () => {
  const top = fresh()
  const root = `${top}/root`
  const plan = ['begin', 'new-root', '0755', root, 'claim', 'owned']
  const first = await paused(...plan, 'mkdir', '0755', '/left', 'write', '0600', '/left/x', 'x')
  const second = stage(...plan)
  assert.is(second.stderr, `hew test: ${root} is being made by another hew (PID ${first.child.pid})\n`)
  assert.is(second.status, 125)
  assert.ok(existsSync(`${root}/left/x`), 'the second one did no harm')
  first.child.kill('SIGKILL')
  assert.is(await first.ended, 'SIGKILL')
  assert.equal(readdirSync(root).sort(), ['.hew-unfinished', 'left'])
  assert.is(readFileSync(`${root}/.hew-unfinished`, 'utf8'), `hew ${first.child.pid} owned\n`)

  const into = stage('begin', 'root', root, 'claim', 'into')
  assert.is(
    into.stderr,
    `hew test: ${root} is unfinished: the hew that made it (PID ${first.child.pid}) was cut off: make it again, or remove it\n`,
  )
  inRootless(...plan, 'mkdir', '0755', '/new', 'release', 'keep')
  assert.equal(readdirSync(root), ['new'])
})

test('claim: another hew has made the root since this one has found it empty', async () => {
  const top = fresh()
  const root = `${top}/root`
  const late = spawn(STAGE, [], {argv0: 'hew-stage', env: FROM_STDIN as unknown as NodeJS.ProcessEnv})
  let said = ''
  late.stderr.on('data', data => {
    said += data
  })
  const ended = new Promise(resolve => late.once('close', resolve))
  late.stdin.write(encodeWords(['as', 'hew test', 'begin', 'new-root', '0755', root]))
  await until('the root', () => existsSync(root))
  inRootless('new-root', '0755', root, 'claim', 'owned', 'mkdir', '0755', '/made', 'release', 'keep')
  late.stdin.end(encodeWords(['claim', 'owned', 'mkdir', '0755', '/made', 'release', 'keep']))
  assert.is(await ended, 125)
  assert.is(said, `hew test: ${root} is not empty\n`)
  assert.equal(readdirSync(root), ['made'])
})

test('claim into: what was there is nobody else’s to remove', async () => {
  const root = fresh()
  writeFileSync(`${root}/mine`, '')
  const first = await paused('begin', 'root', root, 'claim', 'into', 'mkdir', '0755', '/half')
  first.child.kill('SIGKILL')
  await first.ended
  assert.is(stage('new-root', '0755', root).stderr, `hew test: ${root} is not empty\n`)
  assert.is(stage('begin', 'root', root, 'claim', 'into', 'no').status, 125)
  assert.equal(readdirSync(root).sort(), ['.hew-unfinished', 'half', 'mine'], 'still unfinished')
  inRoot(root, 'claim', 'into', 'mkdir', '0755', '/half', 'release')
  assert.equal(readdirSync(root).sort(), ['half', 'mine'])
})

test('a marker that another user wrote is not believed', () => {
  const root = fresh()
  writeFileSync(`${root}/.hew-unfinished`, 'hew 1 owned\n')
  writeFileSync(`${root}/mine`, '')
  chownSync(`${root}/.hew-unfinished`, NOBODY, NOBODY)
  assert.is(
    stage('begin', 'new-root', '0755', root, 'claim', 'owned').stderr,
    `hew test: ${root} is not empty\n`,
  )
})

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  test(`${signal} in the middle: nothing is left, and it dies of it`, async () => {
    const top = fresh()
    const {child, ended, said} = await paused(
      'begin',
      'new-root',
      '0755',
      `${top}/a/b`,
      'claim',
      'owned',
      'copy',
      '-',
      '/bin/true',
      '/true',
    )
    child.kill(signal)
    assert.is(await ended, signal)
    assert.is(said(), '')
    assert.equal(readdirSync(top), [])
  })

test('SIGTERM while a file is copied', async () => {
  const top = fresh()
  const big = `${top}/big`
  execFileSync('sh', ['-c', `head -c 300M /dev/zero > ${big}`])
  const child = spawn(STAGE, [], {argv0: 'hew-stage', env: FROM_STDIN as unknown as NodeJS.ProcessEnv})
  const copies = Array.from({length: 20}, (_, i) => ['copy', '-', big, `/${i}`]).flat()
  child.stdin.write(encodeWords(['begin', 'new-root', '0755', `${top}/root`, ...copies]))
  await until('the first copy', () => existsSync(`${top}/root/0`))
  child.kill('SIGTERM')
  const from = Date.now()
  assert.is(await new Promise(resolve => child.on('close', (_, by) => resolve(by))), 'SIGTERM')
  assert.ok(Date.now() - from < 20_000)
  assert.equal(readdirSync(top), ['big'])
})

test('nohup: an ignored signal stays ignored', async () => {
  const root = fresh()
  const line = 'trap "" HUP; exec env -i 0=words-from 1=0 "$0"'
  const child = spawn('sh', ['-c', line, STAGE])
  child.stdin.write(encodeWords(['begin', 'root', root, 'mkdir', '0755', '/a', 'print', 'so far']))
  await new Promise(resolve => child.stdout.once('data', resolve))
  child.kill('SIGHUP')
  child.stdin.end(encodeWords(['keep']))
  assert.is(await new Promise(resolve => child.on('close', resolve)), 0)
  assert.equal(readdirSync(root), ['a'])
})

// ---- directories, files, links ----

test('modes are exact, whatever the umask and the parent', () => {
  const root = fresh()
  chmodSync(root, 0o2755)
  const list = [
    ...['mkdir', '1777', '/tmp'],
    ...['mkdir', '0755', '/a'],
    ...['mkdir', '2770', '/s'],
    ...['write', '0666', '/f', ''],
    ...['entry-fifo', '0666', 0, 0, 0, 'p'],
    ...['entry-device', '0666', 0, 0, 0, 'c', 1, 3, 'n'],
  ]
  const line = 'umask 077; exec env -i 0=words-from 1=0 "$0"'
  const {status, stderr} = run('sh', ['-c', line, STAGE], {
    input: encodeWords(['begin', 'root', root, ...list, 'keep']),
  })
  assert.is(stderr, '')
  assert.is(status, 0)
  assert.is(tree(root, '%P %y%m'), '\na d755\nf f666\nn c666\np p666\ns d2770\ntmp d1777')
  assert.is(statSync(`${root}/n`).rdev, statSync('/dev/null').rdev)
})

test('what is there already', () => {
  const root = fresh()
  inRoot(
    root,
    'mkdir',
    '0700',
    '/usr',
    'mkdir',
    '0755',
    '/usr/lib',
    'symlink',
    'usr/lib',
    '/lib',
    'write',
    '0644',
    '/f',
    'x',
    'symlink',
    'no',
    '/dangling',
  )
  // Fine as they are:
  inRoot(
    root,
    'mkdir',
    '0755',
    '/usr',
    'mkdir',
    '0755',
    '/lib',
    'symlink',
    'usr/lib',
    '/lib',
    'put',
    '0600',
    '/f',
    'y',
    'directory',
    '/tmp',
    '/lib/',
    'mkdir',
    '0755',
    '/',
  )
  assert.is(mode(`${root}/usr`), '700')
  assert.is(readFileSync(`${root}/f`, 'utf8'), 'x')
  assert.is(failure(root, 'mkdir', '0755', '/f'), 'hew test: ROOT/f is there already, and is no directory')
  assert.is(
    failure(root, 'mkdir', '0755', '/dangling'),
    'hew test: ROOT/dangling is there already, as a link to nothing',
  )
  assert.is(failure(root, 'write', '0644', '/f', 'y'), 'hew test: ROOT/f is there already')
  assert.is(
    failure(root, 'symlink', 'usr', '/lib'),
    'hew test: ROOT/lib is there already, and is no link to usr',
  )
  assert.is(
    failure(root, 'symlink', 'usr', '/usr'),
    'hew test: ROOT/usr is there already, and is no link to usr',
  )
  assert.is(
    failure(root, 'copy', '-', '/bin/true', '/usr'),
    'hew test: ROOT/usr is a directory already, and /bin/true is a file',
  )
  assert.is(
    failure(root, 'copy', 'f', '/bin/true', '/usr'),
    'hew test: ROOT/usr is a directory already, and /bin/true is a file',
  )
  assert.is(
    failure(root, 'mkdir', '0755', '/a/b'),
    'hew test: cannot open the directory of ROOT/a/b: No such file or directory',
  )
})

test('copy: owner, mode, nanoseconds, attributes, capabilities', () => {
  const root = fresh()
  const source = `${fresh()}/tool`
  copyFileSync('/bin/true', source)
  chownSync(source, 12, 34)
  chmodSync(source, 0o6751)
  execFileSync('touch', ['-d', '2001-02-03 04:05:06.123456789 UTC', source])
  execFileSync('setfattr', ['-n', 'trusted.hew', '-v', 'kept', source])
  execFileSync('setcap', ['cap_net_raw+ep', source])
  chmodSync(source, 0o6751)
  inRoot(root, 'copy', '-', source, '/tool', 'copy', 's', source, '/setuid')
  assert.is(mode(`${root}/tool`), '751', 'setuid is dropped')
  assert.is(mode(`${root}/setuid`), '6751')
  for (const name of ['tool', 'setuid']) {
    const path = `${root}/${name}`
    const {uid, gid} = statSync(path)
    assert.equal([uid, gid], [12, 34])
    assert.is(mtime(path), 981173106123456789n)
    assert.match(execFileSync('getcap', [path]).toString(), 'cap_net_raw=ep')
    assert.is(
      execFileSync('getfattr', ['--absolute-names', '--only-values', '-n', 'trusted.hew', path]).toString(),
      'kept',
    )
    assert.is(run('cmp', [path, source]).status, 0)
  }
})

test('copy: holes stay holes', () => {
  const root = fresh()
  const source = `${fresh()}/sparse`
  const fd = openSync(source, 'w')
  writeSync(fd, 'in the middle', 30 << 20)
  closeSync(fd)
  truncateSync(source, 64 << 20)
  inRoot(root, 'copy', '-', source, '/sparse')
  assert.is(statSync(`${root}/sparse`).size, 64 << 20)
  assert.ok(
    statSync(`${root}/sparse`).blocks <= statSync(source).blocks + 8,
    'no more blocks than the source',
  )
  assert.is(run('cmp', [source, `${root}/sparse`]).status, 0)
})

test('copy: a file without a size, and a large one with data at its end', () => {
  const root = fresh()
  inRoot(root, 'copy', '-', '/proc/version', '/version')
  assert.is(readFileSync(`${root}/version`, 'utf8'), readFileSync('/proc/version', 'utf8'))
})

test('copy: the same is not copied again, a different one is an error, unless forced', () => {
  const root = fresh()
  const source = `${fresh()}/file`
  writeFileSync(source, 'one')
  inRoot(root, 'copy', '-', source, '/file')
  const {ino} = statSync(`${root}/file`)
  inRoot(root, 'copy', '-', source, '/file', 'copy', 'f', source, '/file')
  assert.is(statSync(`${root}/file`).ino, ino)
  execFileSync('touch', [source])
  inRoot(root, 'copy', '-', source, '/file')
  assert.is(statSync(`${root}/file`).ino, ino, 'same content, other time')

  const differs = () => failure(root, 'copy', '-', source, '/file').replaceAll(source, 'SOURCE')
  writeFileSync(source, 'two')
  assert.is(differs(), 'hew test: ROOT/file exists and differs from SOURCE (same size, other content)')
  writeFileSync(source, 'three')
  assert.is(differs(), 'hew test: ROOT/file exists and differs from SOURCE (size 3, 5)')
  writeFileSync(source, 'one')
  chmodSync(source, 0o755)
  assert.is(differs(), 'hew test: ROOT/file exists and differs from SOURCE (mode 0644, 0755)')

  symlinkSync('file', `${root}/link`)
  assert.is(
    failure(root, 'copy', '-', source, '/link').replaceAll(source, 'SOURCE'),
    'hew test: ROOT/link is a link already, and SOURCE is a file',
  )
  failure(root, 'copy', 'f', source, '/file', 'copy', 'f', source, '/link', 'no')
  assert.is(statSync(`${root}/file`).ino, ino, 'a forced copy is taken back too')
  inRoot(root, 'copy', 'f', source, '/file', 'copy', 'f', source, '/link')
  assert.is(mode(`${root}/file`), '755')
  assert.ok(lstatSync(`${root}/link`).isFile())
  assert.equal(readdirSync(root).sort(), ['file', 'link'], 'nothing temporary is left')
})

test('copy: sources that are none', () => {
  const root = fresh()
  const top = fresh()
  execFileSync('mkfifo', [`${top}/pipe`])
  assert.is(failure(root, 'copy', '-', '/none', '/x'), 'hew test: /none is not there')
  assert.is(failure(root, 'copy', '-', '/etc', '/x'), 'hew test: /etc is a directory, not a file')
  assert.is(failure(root, 'copy', '-', `${top}/pipe`, '/x'), `hew test: ${top}/pipe is a pipe, not a file`)
  assert.is(failure(root, 'directory', '/etc/passwd', '/x'), 'hew test: /etc/passwd is not a directory')
})

test('directory: attributes of the source, times as they were although something was put in', () => {
  const root = fresh()
  const source = `${fresh()}/d`
  mkdirSync(source)
  chownSync(source, 12, 34)
  chmodSync(source, 0o7555)
  execFileSync('setfattr', ['-n', 'trusted.hew', '-v', 'kept', source])
  execFileSync('touch', ['-d', '2001-02-03 04:05:06.123456789 UTC', source])
  inRoot(root, 'directory', source, '/d', 'copy', '-', '/bin/true', '/d/true')
  assert.is(
    tree(root, '%P %m %U:%G %T+'),
    `\nd 3555 12:34 ${execFileSync('find', [source, '-printf', '%T+'])}\n${tree(root, '%P %m %U:%G %T+').split('\n')[2]}`,
  )
  assert.is(
    execFileSync('getfattr', [
      '--absolute-names',
      '--only-values',
      '-n',
      'trusted.hew',
      `${root}/d`,
    ]).toString(),
    'kept',
  )
})

// ---- hostile roots ----

/** A root with links that lead out, and what is outside. */
function hostile(): {root: string; outside: string; unharmed(): void} {
  const top = fresh()
  const root = `${top}/root`
  const outside = `${top}/outside`
  mkdirSync(root)
  mkdirSync(outside)
  writeFileSync(`${outside}/file`, 'outside')
  symlinkSync(outside, `${root}/absolute`)
  symlinkSync('../outside', `${root}/relative`)
  symlinkSync('../../../../../../../../../../..', `${root}/up`)
  symlinkSync('/proc/self/root', `${root}/magic`)
  symlinkSync(`${outside}/new`, `${root}/dangling`)
  const before = tree(top, '%P %y %m %U:%G %n %l %T@')
    .split('\n')
    .filter(line => line.startsWith('outside'))
    .join('\n')
  return {
    root,
    outside,
    unharmed() {
      const now = tree(top, '%P %y %m %U:%G %n %l %T@')
        .split('\n')
        .filter(line => line.startsWith('outside'))
      assert.is(now.join('\n'), before)
    },
  }
}

test('links never lead out of the root', () => {
  const {root, outside, unharmed} = hostile()
  const entry = ['0644', 0, 0, 0]
  for (const link of ['absolute', 'relative', 'magic', 'dangling'])
    for (const list of [
      ['mkdir', '0755', `/${link}/x`],
      ['copy', 'f', '/bin/true', `/${link}/file`],
      ['write', '0644', `/${link}/x`, 'x'],
      ['symlink', 'x', `/${link}/x`],
      ['relink', 'x', `/${link}/file`],
      ['put', '0644', `/${link}/x`, 'x'],
      ['directory', '/etc', `/${link}/x`],
      ['entry-file', ...entry, 0, `${link}/x`],
      ['entry-xattr', 'trusted.x', '00', 'entry-file', ...entry, 0, `${link}/file`],
      ['entry-dir', ...entry, `${link}/x`],
      ['entry-symlink', 0, 0, 0, 'x', `${link}/x`],
      ['entry-link', `${link}/file`, 'x'],
      ['entry-fifo', ...entry, `${link}/x`],
      ['entry-device', ...entry, 'c', 1, 3, `${link}/x`],
    ])
      failure(root, ...list, ...(link === 'dangling' ? [] : ['no']))
  unharmed()
  // The same links do lead somewhere inside, as they will in the container.
  inRoot(
    root,
    'mkdir',
    '0755',
    '/outside',
    'write',
    '0644',
    '/relative/x',
    'in',
    'write',
    '0644',
    '/up/y',
    'in',
  )
  inRoot(
    root,
    'mkdir',
    '0755',
    '/up/z',
    'copy',
    '-',
    '/bin/true',
    '/../../z/true',
    'mkdir',
    '0711',
    '/z/../up/./w',
  )
  assert.equal(readdirSync(`${root}/outside`), ['x'])
  assert.is(readFileSync(`${root}/y`, 'utf8'), 'in')
  assert.is(mode(`${root}/w`), '711')
  assert.ok(existsSync(`${root}/z/true`))
  assert.not.ok(existsSync(`${outside}/x`))
  unharmed()
})

withHarness('a directory that somebody swaps for a link all the time', async () => {
  const {root, outside, unharmed} = hostile()
  mkdirSync(`${root}/usr`)
  mkdirSync(`${root}/usr/lib`)
  symlinkSync(outside, `${root}/usr/evil`)
  const swapper = spawn(STAGE, ['swap', `${root}/usr/lib`, `${root}/usr/evil`], {argv0: 'swap'})
  const source = fresh()
  mkdirSync(`${source}/usr/lib/deep`, {recursive: true})
  for (let i = 0; i < 20; i++) writeFileSync(`${source}/usr/lib/deep/${i}`, 'x'.repeat(i))
  const seen = new Map<number, number>()
  const begin = Date.now()
  for (let round = 0; Date.now() < begin + (seen.size < 2 ? 30_000 : 2500); round++) {
    const plans = [
      ['put', '0644', `/usr/lib/w${round}`, 'x'],
      ['copy', 'f', '/bin/true', '/usr/lib/tool'],
      ['mkdir', '0755', `/usr/lib/d${round}`, 'symlink', 'x', `/usr/evil/d${round}/l`],
      ['entry-file', '0644', 0, 0, 0, 1, 'usr/evil/e/f', Buffer.from('x')],
      ['directory', '/etc', '/usr/lib/etc', 'relink', 'x', '/usr/lib/etc/link'],
      ['copy-tree', source],
    ]
    const list = Array.from({length: 4}, () => plans[round % plans.length]!).flat()
    const {status, stderr} = stage('begin', 'root', root, ...list, round % 3 ? 'keep' : 'no')
    assert.not.match(stderr, /Sanitizer|runtime error/)
    seen.set(status, (seen.get(status) ?? 0) + 1)
  }
  assert.is(swapper.exitCode, null, 'it swapped all the time')
  swapper.kill('SIGKILL')
  assert.equal([...seen.keys()].sort(), [0, 125], 'some went well, some met the link, none did anything else')
  unharmed()
})

withHarness('a tree that is removed while a link is swapped into it', async () => {
  const {root, outside, unharmed} = hostile()
  for (const end = Date.now() + 1500; Date.now() < end; ) {
    mkdirSync(`${root}/t/a/b`, {recursive: true})
    writeFileSync(`${root}/t/a/b/file`, '')
    symlinkSync(outside, `${root}/evil`)
    const swapper = spawn(STAGE, ['swap', `${root}/t/a`, `${root}/evil`], {argv0: 'swap', stdio: 'ignore'})
    const gone = new Promise(resolve => swapper.on('close', resolve))
    const {dev, ino} = lstatSync(`${root}/t`, {bigint: true})
    await sleep(20)
    stage('remove-tree', `${root}/t`, `${dev}`, `${ino}`)
    swapper.kill('SIGKILL')
    await gone
    for (const name of ['t', 'evil']) rmSync(`${root}/${name}`, {recursive: true, force: true})
    unharmed()
  }
})

// ---- the end of the disk, of a pipe ----

/** A shell line with mounts of its own. */
function privately(line: string, input: Buffer, ...words: string[]): Outcome {
  return run('unshare', ['-m', 'sh', '-c', line, STAGE, ...words], {input})
}

test('a full disk: the path, and nothing is left', () => {
  const top = fresh()
  const line = `mount -t tmpfs -o size=1m tmpfs "$1" && env -i 0=words-from 1=0 "$0"; echo $? $(ls -A "$1")`
  const plan = [
    'as',
    'hew test',
    'begin',
    'new-root',
    '0755',
    `${top}/r`,
    'claim',
    'owned',
    'mkdir',
    '0755',
    '/bin',
    'copy',
    '-',
    '/bin/true',
    '/bin/true',
    'copy',
    '-',
    '/bin/bash',
    '/bin/bash',
  ]
  const {stdout, stderr} = privately(line, encodeWords(plan), top)
  assert.is(stderr, `hew test: cannot write ${top}/r/bin/bash: No space left on device\n`)
  assert.is(stdout, '125\n')
})

test('print: all of it, or why not', () => {
  const root = fresh()
  const long = `${'x'.repeat(300_000)}\n`
  assert.is(stage('print', long).stdout, long)
  const plan = encodeWords([
    'as',
    'hew test',
    'begin',
    'root',
    root,
    'mkdir',
    '0755',
    '/a',
    'print',
    long,
    'keep',
  ])
  const full = run('sh', ['-c', 'exec env -i 0=words-from 1=0 "$0" > /dev/full', STAGE], {input: plan})
  assert.is(full.stderr, 'hew test: cannot write to stdout: No space left on device\n')
  assert.is(full.status, 125)
  const closed = run('sh', ['-c', '(env -i 0=words-from 1=0 "$0"; echo $? >&2) | head -c 5', STAGE], {
    input: plan,
  })
  assert.is(
    closed.stderr,
    'hew test: nobody reads what comes out of the pipe: the next command has ended\n125\n',
  )
  assert.equal(readdirSync(root), [])
})

test('print: a signal ends the waiting for a reader', async () => {
  const root = fresh()
  const child = spawn(STAGE, [], {argv0: 'hew-stage', env: FROM_STDIN as unknown as NodeJS.ProcessEnv})
  child.stdin.end(
    encodeWords(['begin', 'root', root, 'mkdir', '0755', '/a', 'print', 'x'.repeat(1 << 20), 'keep']),
  )
  await until('/a', () => existsSync(`${root}/a`))
  await sleep(50)
  child.kill('SIGTERM')
  // Nobody reads: that it has gone shows that it does not wait in write(2).
  await until('the end', () => child.signalCode === 'SIGTERM')
  child.stdout.resume()
  assert.equal(readdirSync(root), [])
})

// ---- archives ----

const file = (
  path: string,
  content: string,
  ...[mode = '0644', uid = 0, gid = 0, ns = '1000000000000000001']: Word[]
): Word[] => ['entry-file', mode, uid, gid, ns, Buffer.byteLength(content), path, Buffer.from(content)]

test('entries: modes, owners, times, attributes; those of directories at the end', () => {
  const root = fresh()
  const ns = '1000000000000000001'
  inRoot(
    root,
    ...['entry-dir', '0555', 1, 2, ns, 'usr/'],
    ...['entry-xattr', 'trusted.hew', '6B00ff', ...file('usr/bin/tool', 'tool', '6755', 3, 4)],
    ...['entry-symlink', 5, 6, ns, 'usr/bin', './bin'],
    ...file('./bin/other', 'other'),
    ...['entry-link', 'usr/bin/tool', 'same'],
    ...['entry-link', 'bin', 'samelink'],
    ...['entry-fifo', '0622', 0, 0, ns, 'pipe'],
    ...['entry-device', '0666', 0, 0, ns, 'c', 1, 3, 'null'],
    ...['entry-symlink', 0, 0, '-1500000001', 'none', 'old'],
    ...['entry-dir', '1777', 0, 0, ns, '.'],
    'entries-end',
  )
  assert.is(
    tree(root, '%P %y%m %U:%G %n %l'),
    [
      '',
      'bin l777 5:6 2 usr/bin',
      'null c666 0:0 1 ',
      'old l777 0:0 1 none',
      'pipe p622 0:0 1 ',
      'same f6755 3:4 2 ',
      'samelink l777 5:6 2 usr/bin',
      'usr d555 1:2 3 ',
      'usr/bin d755 0:0 2 ',
      'usr/bin/other f644 0:0 1 ',
      'usr/bin/tool f6755 3:4 2 ',
    ].join('\n'),
  )
  for (const name of ['usr', 'usr/bin/tool', 'bin', 'pipe', 'null'])
    assert.is(mtime(`${root}/${name}`), 1000000000000000001n, name)
  assert.is(mtime(`${root}/old`), -1500000001n)
  assert.match(
    execFileSync('getfattr', [
      '--absolute-names',
      '-e',
      'hex',
      '-n',
      'trusted.hew',
      `${root}/same`,
    ]).toString(),
    '=0x6b00ff',
  )
  assert.is.not(mode(root), '1777', 'a root that was there keeps its mode')
})

test('entries: the root’s own', () => {
  const root = `${fresh()}/root`
  inRootless(
    'new-root',
    '0755',
    root,
    'claim',
    'owned',
    'entry-dir',
    '1711',
    1,
    2,
    '5000000001',
    './',
    'release',
    'keep',
  )
  assert.is(mode(root), '1711')
  assert.is(mtime(root), 5000000001n)
})

test('entries: the later one counts', () => {
  const root = fresh()
  inRoot(
    root,
    ...file('a', 'one'),
    ...file('a', 'two'),
    'entry-symlink',
    0,
    0,
    0,
    'a',
    'b',
    ...file('b', 'file'),
    'entry-dir',
    '0755',
    0,
    0,
    0,
    'c',
    'entry-symlink',
    0,
    0,
    0,
    '/etc',
    'c',
    'entry-dir',
    '0700',
    0,
    0,
    0,
    'a',
    'entry-link',
    'b',
    'a/l',
    'entry-link',
    'b',
    'a/l',
  )
  assert.is(tree(root, '%P %y %n %l'), '\na d 2 \na/l f 2 \nb f 2 \nc l 1 /etc')
  // ... but a link to a directory is as good as a directory, and what is full is not thrown away.
  inRoot(root, 'mkdir', '0755', '/etc', 'entry-dir', '0700', 0, 0, 0, 'c', ...file('c/x', 'x'))
  assert.ok(existsSync(`${root}/etc/x`))
  assert.is(
    failure(root, ...file('a', 'x')),
    'hew test: cannot replace the directory ROOT/a by a file: Directory not empty',
  )
  assert.is(failure(root, ...file('b/x', 'x')), 'hew test: cannot create ROOT/b/x: Not a directory')
  assert.is(
    failure(root, 'entry-link', 'none', 'x'),
    'hew test: cannot link ROOT/x to ROOT/none: No such file or directory',
  )
  assert.is(
    failure(root, ...file('.hew-unfinished', 'hew 1 owned')),
    'hew test: the archive has a .hew-unfinished: it is unfinished itself',
  )
  assert.is(
    failure(root, ...file('x/y/z', 'x'), ...file('b', 'y'), 'entry-symlink', 0, 0, 0, 'x', 'a/l', 'no'),
    "hew test: no step is called 'no'",
  )
})

/** Entries that only look at their names. */
const directory = (path: string, mode = '0755'): Word[] => ['entry-dir', mode, 0, 0, 0, path]
const link = (target: string, path: string): Word[] => ['entry-symlink', 0, 0, 0, target, path]

test('entries: what came through a link is found without it, to be undone and to be finished', () => {
  const root = fresh()
  mkdirSync(`${root}/old`)
  const entries = [
    ...[...directory('b', '0751'), ...file('b/x', 'x'), ...link('b', 'a'), ...file('a/y', 'y')],
    ...[...directory('a/c', '0750'), ...file('a', 'no link any more'), ...file('b/z', 'z')],
    // What was there before has no other name that is known.
    ...[...link('old', 'way'), ...file('way/x', 'x'), ...file('way', ''), ...file('old/y', 'y')],
    'entries-end',
  ]
  assert.is(failure(root, ...entries, 'no'), "hew test: no step is called 'no'")
  inRoot(root, ...entries)
  assert.equal([mode(`${root}/b`), mode(`${root}/b/c`)], ['751', '750'])
  assert.equal(readdirSync(`${root}/old`).sort(), ['x', 'y'])
})

test('entries: an archive that ends in the middle of a file', () => {
  const root = fresh()
  assert.is(
    failure(root, 'entry-file', '0644', 0, 0, 0, 100_000, 'x', Buffer.from('short')),
    'hew test: the plan ends in the middle of a file',
  )
})

test('entries: links that an archive makes lead nowhere outside', () => {
  const {root, outside, unharmed} = hostile()
  inRoot(
    root,
    'entry-symlink',
    0,
    0,
    0,
    outside,
    'e',
    'entry-dir',
    '0755',
    0,
    0,
    0,
    outside.slice(1),
    'entry-symlink',
    0,
    0,
    0,
    '../../../../../../..',
    'f',
    ...file('e/owned', 'x'),
    ...file('f/owned', 'x'),
    ...file('../../../../owned', 'y'),
  )
  assert.equal(readdirSync(`${root}${outside}`), ['owned'])
  assert.is(readFileSync(`${root}/owned`, 'utf8'), 'y')
  for (let above = dirname(root); above !== dirname(above); above = dirname(above))
    assert.not(existsSync(`${above}/owned`), above)
  assert.not(existsSync('/owned'))
  unharmed()
  // A hard link to a link is one more name of the link, not of what it leads to.
  inRoot(root, 'entry-link', 'up', 'hard')
  assert.is(readlinkSync(`${root}/hard`), '../../../../../../../../../../..')
})

// ---- whole trees ----

test('copy-tree: everything as it was', () => {
  const top = fresh()
  const source = `${top}/source`
  mkdirSync(`${source}/a/b`, {recursive: true})
  writeFileSync(`${source}/a/one`, 'one')
  linkSync(`${source}/a/one`, `${source}/a/b/two`)
  symlinkSync('one', `${source}/a/link`)
  linkSync(`${source}/a/link`, `${source}/link`)
  execFileSync('mkfifo', ['-m', '0621', `${source}/pipe`])
  execFileSync('mknod', ['-m', '0640', `${source}/zero`, 'c', '1', '5'])
  copyFileSync('/bin/true', `${source}/caps`)
  chownSync(`${source}/a`, 5, 6)
  chmodSync(`${source}/a/b`, 0o2500)
  chmodSync(`${source}/a`, 0o1555)
  truncateSync(`${source}/caps`, 50 << 20)
  execFileSync('setcap', ['cap_chown+p', `${source}/caps`])
  execFileSync('setfattr', ['-n', 'trusted.hew', '-v', 'kept', `${source}/a/b`])
  const socket = 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])'
  const hasSocket = spawnSync('python3', ['-c', socket, `${source}/socket`]).status === 0
  execFileSync('find', [source, '-exec', 'touch', '-h', '-d', '2002-03-04 05:06:07.987654321 UTC', '{}', '+'])
  execFileSync('touch', ['-d', '1960-01-01 00:00:00.5 UTC', `${source}/a/one`])
  // The root lies in what is copied into it.
  const root = `${source}/roots/root`
  inRootless('new-root', '0755', root, 'claim', 'owned', 'copy-tree', source, 'release', 'keep')
  const all = '%P %y %m %U:%G %n %l %s %T@'
  const wanted = tree(source, all)
    .split('\n')
    .filter(line => !/^(roots|socket)/.test(line))
  const got = tree(root, all)
    .split('\n')
    .filter(line => !/^roots/.test(line))
  assert.equal(got, wanted)
  assert.equal(readdirSync(`${root}/roots`), [])
  assert.not.ok(existsSync(`${root}/socket`), hasSocket ? '' : 'there was none')
  assert.ok(statSync(`${root}/caps`).blocks < 1000, 'a hole at the end')
  assert.is(statSync(`${root}/zero`).rdev, statSync(`${source}/zero`).rdev)
  assert.is(statSync(`${root}/a/one`).ino, statSync(`${root}/a/b/two`).ino)
  assert.match(execFileSync('getcap', [`${root}/caps`]).toString(), 'cap_chown=p')
  assert.is(
    execFileSync('getfattr', [
      '--absolute-names',
      '--only-values',
      '-n',
      'trusted.hew',
      `${root}/a/b`,
    ]).toString(),
    'kept',
  )
  // Again, into what it made: nothing to do. Then with a difference.
  rmSync(`${source}/roots`, {recursive: true})
  const second = `${top}/second`
  mkdirSync(second)
  inRoot(second, 'copy-tree', source)
  const before = tree(second, all)
  inRoot(second, 'copy-tree', source)
  assert.is(tree(second, all), before)
  writeFileSync(`${source}/a/one`, 'other')
  assert.match(
    failure(second, 'copy-tree', source),
    /^hew test: ROOT\/a\/(one|b\/two) exists and differs from .* \(size 3, 5\)$/,
  )
})

test('copy-tree: into a merged /usr, and what the kernel makes up', () => {
  const top = fresh()
  mkdirSync(`${top}/source/lib/x`, {recursive: true})
  mkdirSync(`${top}/source/proc`)
  mkdirSync(`${top}/root/usr/lib`, {recursive: true})
  symlinkSync('usr/lib', `${top}/root/lib`)
  const plan = encodeWords(['begin', 'root', `${top}/root`, 'copy-tree', `${top}/source`, 'keep'])
  const {status, stderr} = privately(
    'mount -t proc proc "$1" && exec env -i 0=words-from 1=0 "$0"',
    plan,
    `${top}/source/proc`,
  )
  assert.is(stderr, '')
  assert.is(status, 0)
  assert.is(tree(`${top}/root`, '%P %y'), '\nlib l\nproc d\nusr d\nusr/lib d\nusr/lib/x d')
  assert.is(failure(`${top}/root`, 'copy-tree', `${top}/root`), 'hew test: ROOT cannot be copied into itself')
})

// ---- removal ----

test('remove-tree: only the very directory, no link followed', () => {
  const {root, outside, unharmed} = hostile()
  const {dev, ino} = statSync(root, {bigint: true})
  const other = stage('remove-tree', root, `${dev}`, `${ino + 1n}`)
  assert.is(other.status, 125)
  assert.match(other.stderr, /^hew test: \S+ stays: it is another directory by now\n$/)
  mkdirSync(`${root}/a/b/c`, {recursive: true})
  symlinkSync(outside, `${root}/a/b/c/out`)
  assert.equal(stage('remove-tree', root, `${dev}`, `${ino}`), {stdout: '', stderr: '', status: 0})
  assert.not.ok(existsSync(root))
  assert.is(stage('remove-tree', root, `${dev}`, `${ino}`).status, 0, 'gone is gone')
  unharmed()
})

test('remove-tree: what is mounted stays, and all around it goes', () => {
  const {root, outside, unharmed} = hostile()
  mkdirSync(`${root}/a/b/mnt`, {recursive: true})
  mkdirSync(`${root}/a/c`)
  writeFileSync(`${root}/a/b/bound`, '')
  const {dev, ino} = statSync(root, {bigint: true})
  const line =
    'mount --bind "$1" "$2/a/b/mnt" && mount --bind "$1/file" "$2/a/b/bound" && env -i 0=words-from 1=0 "$0"; echo $?; cat "$2/a/b/mnt/file"'
  const plan = encodeWords(['as', 'hew test', 'remove-tree', root, `${dev}`, `${ino}`])
  const {stdout, stderr} = privately(line, plan, outside, root)
  assert.is(stdout, '125\noutside')
  assert.equal(stderr.split('\n').sort(), [
    '',
    `hew test: ${root}/a/b/bound stays: something is mounted there`,
    `hew test: ${root}/a/b/mnt stays: something is mounted there`,
  ])
  assert.is(tree(root, '%P'), '\na\na/b\na/b/bound\na/b/mnt')
  unharmed()
})

test('what was cut off is not cleared across a mount, and it is said where', () => {
  const {outside, unharmed} = hostile()
  const cutOff = `${fresh()}/root`
  mkdirSync(`${cutOff}/a/mnt`, {recursive: true})
  writeFileSync(`${cutOff}/.hew-unfinished`, 'hew 1 owned\n')
  const plan = encodeWords(['as', 'hew test', 'begin', 'new-root', '0755', cutOff, 'claim', 'owned'])
  const {stderr, status} = privately(
    'mount --bind "$1" "$2/a/mnt" && exec env -i 0=words-from 1=0 "$0"',
    plan,
    outside,
    cutOff,
  )
  assert.is(
    stderr,
    `hew test: ${cutOff}/a/mnt stays: something is mounted there\n` +
      `hew test: cannot clear ${cutOff} of what an earlier run left\n`,
  )
  assert.is(status, 125)
  unharmed()
})

test('the undoing crosses no mount either', async () => {
  const top = fresh()
  const line = `env -i 0=words-from 1=0 "$0" < "$1/words" & while [ ! -d "$1/root/new" ]; do sleep 0.01; done
    mount -t tmpfs tmpfs "$1/root/new" && touch "$1/root/new/x"; : > "$1/go"; wait; ls "$1/root/new"`
  execFileSync('mkfifo', [`${top}/words`])
  mkdirSync(`${top}/root`)
  const child = spawn('unshare', ['-m', 'sh', '-c', line, STAGE, top])
  const fd = openSync(`${top}/words`, constants.O_WRONLY)
  writeSync(
    fd,
    encodeWords([
      'as',
      'hew test',
      'begin',
      'root',
      `${top}/root`,
      'mkdir',
      '0755',
      '/new',
      'mkdir',
      '0755',
      '/gone',
    ]),
  )
  const done = new Promise<string>(resolve => {
    let text = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', data => {
        text += data
      })
    child.on('close', () => resolve(text))
  })
  await until('the first step', () => existsSync(`${top}/go`))
  writeSync(fd, encodeWords(['no']))
  closeSync(fd)
  assert.is(await done, "hew test: no step is called 'no'\nhew test: new could not be removed\nx\n")
  assert.equal(readdirSync(`${top}/root`), ['new'])
})

// ---- as an ordinary user ----

test('an ordinary user: owners are theirs, setuid goes, lost capabilities are told of', () => {
  const top = fresh()
  const source = `${top}/tool`
  copyFileSync('/bin/true', source)
  execFileSync('setcap', ['cap_net_raw+ep', source])
  chmodSync(source, 0o4755)
  mkdirSync(`${top}/closed`)
  writeFileSync(`${top}/closed/x`, 'x')
  chmodSync(`${top}/closed`, 0o555)
  mkdirSync(`${top}/home`)
  chownSync(`${top}/home`, NOBODY, NOBODY)
  const asUser = (...list: Word[]) => runStage(STAGE, ['as', 'hew test', ...list], {uid: NOBODY, gid: NOBODY})
  const root = `${top}/home/root`
  const plan = [
    'begin',
    'new-root',
    '0755',
    root,
    'claim',
    'owned',
    'copy',
    's',
    source,
    '/tool',
    'directory',
    `${top}/closed`,
    '/closed',
    'copy',
    '-',
    `${top}/closed/x`,
    '/closed/x',
    'mkdir',
    '0555',
    '/proc',
    ...['entry-device', '0666', 0, 0, 0, 'c', 1, 3, 'null'],
  ]
  const warnings = `hew test: ${root}/tool is without its file capabilities: Operation not permitted\nhew test: devices are left out, ${root}/null is the first: Operation not permitted\n`
  const undone = asUser(
    ...plan,
    ...directory('closed/too', '0'),
    ...file('closed/too/x', 'x'),
    ...directory('closed/too/far', '0555'),
    ...file('closed/too/far/x', 'x'),
    'entries-end',
    'no',
  )
  assert.is(undone.stderr, `${warnings}hew test: no step is called 'no'\n`)
  assert.equal(readdirSync(`${top}/home`), [])
  assert.equal(asUser(...plan, 'release', 'keep'), {stdout: '', stderr: warnings, status: 0})
  assert.is(
    tree(root, '%P %m %U'),
    `\nclosed 555 ${NOBODY}\nclosed/x 644 ${NOBODY}\nproc 555 ${NOBODY}\ntool 755 ${NOBODY}`,
  )
  const {dev, ino} = statSync(root, {bigint: true})
  chmodSync(`${root}/closed`, 0)
  assert.equal(asUser('remove-tree', root, `${dev}`, `${ino}`), {stdout: '', stderr: '', status: 0})
  assert.is(
    asUser('begin', 'new-root', '0755', `${top}/no`).stderr,
    `hew test: cannot create ${top}/no: Permission denied\n`,
  )
})

tests.run()
