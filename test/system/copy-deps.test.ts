import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, type Outcome, requires, run, scratch} from '../support.ts'

/** `copy-deps`, through the built binary: what is copied, how it looks then, and that it runs. */

const here = scratch()
const asRoot = requires(test, 'root')

let roots = 0
function emptyRoot(): string {
  const root = `${here}/root-${roots++}`
  fs.mkdirSync(root)
  return root
}
const copy = (root: string, ...words: string[]): Outcome => hew('copy-deps', '-q', '-r', root, ...words)
function copied(root: string, ...words: string[]): void {
  const {stderr, status} = copy(root, ...words)
  assert.equal([stderr, status], ['', 0])
}
const inside = (root: string, ...command: string[]): Outcome => run('chroot', [root, ...command])

requires(
  test,
  'root',
  'native',
)('100 programs copied into one root start there', () => {
  const root = emptyRoot()
  const elf = (path: string): boolean => {
    const fd = fs.openSync(path, 'r')
    const head = Buffer.alloc(4)
    fs.readSync(fd, head)
    fs.closeSync(fd)
    return head.toString('latin1') === '\x7fELF'
  }
  const names = fs
    .readdirSync('/usr/bin')
    .map(name => `/usr/bin/${name}`)
    .filter(path => fs.statSync(path, {throwIfNoEntry: false})?.isFile() && elf(path))
  const step = Math.floor(names.length / 100)
  const programs = names.filter((_, i) => i % step === 0).slice(0, 100)
  assert.ok(programs.length >= 100, `${programs.length} programs`)
  copied(root, ...programs, 'sh', 'timeout')
  const script =
    'for p; do said=$(timeout 10 "$p" --version 2>&1 < /dev/null); echo "$p $? $said" | head -n 1; done'
  copied(root, 'head')
  const {stdout, stderr} = hew('enter', '-r', root, '--', 'sh', '-c', script, 'sh', ...programs)
  const lines = stdout.trim().split('\n')
  assert.is(lines.length, programs.length, stderr)
  assert.equal(
    lines.filter(line => /error while loading shared libraries/.test(line)),
    [],
  )
  const answered = lines.filter(line => / 0 /.test(line))
  assert.ok(answered.length > 50, `${answered.length} answer --version`)
})

asRoot('the same path, mode, owner, times, links; setuid only when asked for', () => {
  const program = `${here}/tools/program`
  fs.mkdirSync(`${here}/tools`, {mode: 0o751})
  fs.copyFileSync('/bin/true', program)
  fs.chownSync(program, 12, 34)
  fs.chmodSync(program, 0o6755)
  fs.utimesSync(program, 1_000_000_000, 1_234_567_890.5)
  fs.symlinkSync('program', `${here}/tools/link`)
  const root = emptyRoot()
  copied(root, `${here}/tools/link`)
  const at = `${root}${program}`
  const {mode, uid, gid, mtimeMs} = fs.statSync(at)
  assert.equal([mode & 0o7777, uid, gid, mtimeMs], [0o755, 12, 34, 1_234_567_890_500])
  assert.is(fs.readlinkSync(`${root}${here}/tools/link`), 'program')
  assert.is(fs.statSync(`${root}${here}/tools`).mode & 0o7777, 0o751)
  const kept = emptyRoot()
  copied(kept, '--keep-setuid', program)
  assert.is(fs.statSync(`${kept}${program}`).mode & 0o7777, 0o6755)
})

requires(
  test,
  'root',
  'setcap',
)('capabilities and other attributes are kept', () => {
  const program = `${here}/capable`
  fs.copyFileSync('/bin/true', program)
  assert.is(run('setcap', ['cap_net_raw+ep', program]).status, 0)
  const root = emptyRoot()
  copied(root, program)
  assert.match(run('getcap', [`${root}${program}`]).stdout, /cap_net_raw=ep/)
})

asRoot('scripts bring their interpreters, also through env and env -S', () => {
  const script = (name: string, first: string): string => {
    fs.writeFileSync(`${here}/${name}`, `${first}\necho ran\n`, {mode: 0o755})
    return `${here}/${name}`
  }
  for (const path of [
    script('plain', '#!/bin/sh'),
    script('through-env', '#!/usr/bin/env bash'),
    script('split', '#!/usr/bin/env -S bash -e'),
    script('nested', `#!${here}/interpreter`),
  ]) {
    if (path.endsWith('nested')) {
      fs.writeFileSync(`${here}/interpreter`, '#!/bin/sh\necho interpreted\n', {mode: 0o755})
    }
    const root = emptyRoot()
    copied(root, path)
    const {stdout, stderr} = inside(root, path)
    assert.is(stdout, path.endsWith('nested') ? 'interpreted\n' : 'ran\n', stderr)
  }
})

asRoot('copied already and the same: not copied again; different: refused, unless --force', () => {
  const root = emptyRoot()
  copied(root, 'ls')
  const at = `${root}/usr/bin/ls`
  const before = fs.statSync(at, {bigint: true})
  copied(root, 'ls', 'cat')
  assert.is(fs.statSync(at, {bigint: true}).ctimeNs, before.ctimeNs)
  fs.writeFileSync(at, 'mine')
  const refused = copy(root, 'ls', 'head')
  assert.match(
    refused.stderr,
    /^hew copy-deps: .*\/usr\/bin\/ls .*differs.*: it is not overwritten: --force replaces it\n$/,
  )
  assert.is(refused.status, 125)
  assert.is(fs.readFileSync(at, 'utf8'), 'mine')
  assert.not.ok(fs.existsSync(`${root}/usr/bin/head`))
  copied(root, '--force', 'ls')
  assert.is(fs.statSync(at).size, fs.statSync('/usr/bin/ls').size)
})

asRoot('a link that leads elsewhere: refused, unless --force; a directory in its place stays', () => {
  fs.symlinkSync('/bin/true', `${here}/alias`)
  const root = emptyRoot()
  fs.mkdirSync(`${root}${here}`, {recursive: true})
  const at = `${root}${here}/alias`
  fs.symlinkSync('/bin/false', at)
  assert.is(
    copy(root, `${here}/alias`).stderr,
    `hew copy-deps: ${at} is there already, and is no link to /bin/true: it is not overwritten: --force replaces it\n`,
  )
  copied(root, '--force', `${here}/alias`)
  assert.is(fs.readlinkSync(at), '/bin/true')
  fs.rmSync(at)
  fs.mkdirSync(at)
  assert.match(
    copy(root, '--force', `${here}/alias`).stderr,
    /alias is a directory there, and is not replaced/,
  )
})

/** Files and links, by what a process in the root would find: where it is on this machine, or that it is not that file. */
const isMachines = (root: string, path: string): boolean => {
  const [one, other] = [fs.statSync(`${root}${path}`), fs.statSync(path)]
  return one.ino === other.ino && one.dev === other.dev
}
/** A program with two names, on the file system of the roots, which needs nothing: libraries may be on another one. */
function tools(mode: number): string {
  const at = `${here}/tools-${roots++}`
  fs.mkdirSync(at)
  fs.writeFileSync(`${at}/program`, 'a shell runs this\n')
  fs.chmodSync(`${at}/program`, mode)
  fs.linkSync(`${at}/program`, `${at}/second`)
  return at
}

asRoot('--hardlink: the same files, and the document says read-only; setuid files are copied', () => {
  const plain = tools(0o755)
  const setuid = tools(0o4755)
  const root = emptyRoot()
  const programs = [`${plain}/program`, `${setuid}/program`, `${setuid}/second`]
  const {stdout, stderr, status} = hew('copy-deps', '--json', '--hardlink', '-r', root, ...programs)
  assert.equal([stderr, status], ['', 0])
  assert.is(JSON.parse(stdout).root.readonly, true)
  assert.ok(isMachines(root, `${plain}/program`))
  const mode = (path: string): number => fs.statSync(path).mode & 0o7777
  assert.equal([mode(`${root}${setuid}/program`), mode(`${setuid}/program`)], [0o755, 0o4755])
  assert.is(fs.statSync(`${root}${setuid}/second`).nlink, 2)
  const before = fs.statSync(`${plain}/program`).nlink
  copied(root, '--hardlink', ...programs)
  copied(root, ...programs)
  assert.is(fs.statSync(`${plain}/program`).nlink, before)
  const kept = emptyRoot()
  copied(kept, '--hardlink', '--keep-setuid', `${setuid}/program`)
  assert.ok(isMachines(kept, `${setuid}/program`))
  const refused = copy(kept, `${setuid}/program`)
  assert.match(refused.stderr, /program exists and differs from .* \(mode 4755, 0755\)/)
  copied(kept, '--force', `${setuid}/program`)
  assert.not.ok(isMachines(kept, `${setuid}/program`))
  assert.is(mode(`${setuid}/program`), 0o4755)
})

asRoot('--hardlink --force puts a link in the place of what differs, and an error takes links back', () => {
  const at = tools(0o755)
  const root = emptyRoot()
  fs.mkdirSync(`${root}${at}`, {recursive: true})
  fs.writeFileSync(`${root}${at}/program`, 'mine')
  const links = fs.statSync(`${at}/program`).nlink
  assert.match(copy(root, '--hardlink', `${at}/second`, `${at}/program`).stderr, /program exists and differs/)
  assert.equal(fs.readdirSync(`${root}${at}`), ['program'])
  assert.is(fs.statSync(`${at}/program`).nlink, links)
  copied(root, '--hardlink', '--force', `${at}/program`)
  assert.ok(isMachines(root, `${at}/program`))
})

asRoot(
  '--hardlink: what is on another file system is copied, and that is said; so it is for who may not link',
  () => {
    const at = tools(0o755)
    const elsewhere = `${here}/elsewhere`
    fs.mkdirSync(elsewhere)
    const line = `mount -t tmpfs none '${elsewhere}' && '${HEW}' copy-deps -q --hardlink -r '${elsewhere}' '${at}/program' '${at}/second' && stat -c '%h %s' '${elsewhere}${at}/program'`
    const {stdout, stderr, status} = run('unshare', ['--mount', 'sh', '-c', line])
    assert.is(status, 0, stderr)
    assert.match(
      stderr,
      /^hew copy-deps: what cannot be linked is copied, \/.* is the first: Invalid cross-device link\n$/,
    )
    assert.is(stdout, `${elsewhere}\n2 18\n`)
    if (fs.readFileSync('/proc/sys/fs/protected_hardlinks', 'utf8').trim() !== '1') return
    const root = emptyRoot()
    fs.chmodSync(here, 0o755)
    fs.chownSync(root, 1000, 1000)
    const user = run(HEW, ['copy-deps', '-q', '--hardlink', '-r', root, `${at}/program`], {
      uid: 1000,
      gid: 1000,
    })
    assert.is(user.status, 0, user.stderr)
    assert.match(
      user.stderr,
      /^hew copy-deps: what cannot be linked is copied, .*: Operation not permitted\n$/,
    )
    assert.not.ok(isMachines(root, `${at}/program`))
  },
)

requires(
  test,
  'root',
  'native',
)('a root of hard links in the pipe is entered read-only', () => {
  const line = `'${HEW}' mkroot --empty '${emptyRoot()}' | '${HEW}' copy-deps --hardlink sh true | '${HEW}' enter -- sh -c ': >>/usr/bin/true'`
  const {stderr, status} = run('sh', ['-c', line])
  assert.match(stderr, /Read-only file system/)
  assert.is.not(status, 0)
})

asRoot('names of one file stay names of one file', () => {
  const at = tools(0o755)
  const root = emptyRoot()
  copied(root, `${at}/program`)
  copied(root, `${at}/program`, `${at}/second`)
  assert.not.ok(isMachines(root, `${at}/program`))
  assert.is(fs.statSync(`${root}${at}/second`).nlink, 2)
})

test('--list copies nothing and says why', () => {
  const {stdout, status} = hew('copy-deps', '--list', 'bash')
  assert.is(status, 0)
  assert.match(stdout, /^\S*\/bash +PATH\n/m)
  assert.match(stdout, /libc\.so\.6 +DT_NEEDED libc\.so\.6 \(.*\), of \/usr\/bin\/bash$/m)
  const items = JSON.parse(hew('copy-deps', '--list', '--json', 'bash').stdout)
  assert.ok(items.every((item: {path: string; because: unknown[]}) => item.path && item.because.length > 0))
})

requires(
  test,
  'root',
  'musl-gcc',
)('all that is missing is listed at once, exit 1, and nothing has been copied', () => {
  for (const name of ['one', 'two']) {
    fs.writeFileSync(`${here}/${name}.c`, `int ${name}(void) { return 0; }\n`)
    run('gcc', ['-shared', '-fPIC', '-o', `${here}/lib${name}.so`, `${here}/${name}.c`])
  }
  fs.writeFileSync(`${here}/main.c`, 'int one(void), two(void); int main(void) { return one() + two(); }\n')
  run('gcc', ['-o', `${here}/main`, `${here}/main.c`, `-L${here}`, '-lone', '-ltwo', '-Wl,-rpath,/nowhere'])
  const root = emptyRoot()
  const {stderr, stdout, status} = copy(root, 'ls', `${here}/main`, 'frobnicate')
  const lines = stderr.trim().split('\n')
  assert.is(status, 1)
  assert.is(stdout, '')
  assert.is(lines[0], 'hew copy-deps: nothing was copied, since 3 things are missing:')
  assert.ok(lines.some(line => line.includes(`libone.so, which ${here}/main needs`)))
  assert.ok(lines.some(line => line.includes(`libtwo.so, which ${here}/main needs`)))
  assert.ok(lines.some(line => line.includes('  frobnicate')))
  assert.equal(fs.readdirSync(root), [])
  copied(root, '--library-path', here, `${here}/main`)
  assert.is(hew('copy-deps', '-q', '-r', root, 'sl-typo').status, 1)
  assert.match(hew('copy-deps', '-r', root, 'mkdirr').stderr, /mkdirr: did you mean mkdir\?/)
})

asRoot('a hostile root: its links lead no write outside', () => {
  const outside = `${here}/outside`
  fs.mkdirSync(outside)
  fs.writeFileSync(`${outside}/canary`, 'alive')
  const up = '../'.repeat(20)
  for (const target of [outside, `${up}${outside.slice(1)}`]) {
    const root = emptyRoot()
    for (const name of ['lib', 'lib64', 'bin', 'usr', 'etc']) fs.symlinkSync(target, `${root}/${name}`)
    copy(root, 'bash', 'ls')
    copy(root, '--force', 'bash', 'ls')
    assert.equal(fs.readdirSync(outside), ['canary'])
  }
})

asRoot('nothing of what is copied is executed', () => {
  const trap = `${here}/trap`
  fs.writeFileSync(trap, `#!${here}/evil\n`, {mode: 0o755})
  fs.writeFileSync(`${here}/evil`, `#!/bin/sh\ntouch ${here}/executed\n`, {mode: 0o755})
  copied(emptyRoot(), trap)
  assert.not.ok(fs.existsSync(`${here}/executed`))
})

asRoot('two at once into one root', () => {
  const root = emptyRoot()
  const line = `'${HEW}' copy-deps -q -r ${root} bash ls & '${HEW}' copy-deps -q -r ${root} bash cat & wait`
  const {stderr} = run('sh', ['-c', line])
  assert.is(stderr, '')
  assert.is(inside(root, 'bash', '-c', 'ls / | cat').status, 0)
})

test.run()
