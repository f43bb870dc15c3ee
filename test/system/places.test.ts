import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, requires, run, scratch} from '../support.ts'

/** The binary starts unchanged in roots of every kind, and by every way into a root. */
const places = suite('places')
const folder = scratch()

/** A program of the root that must run too: the root is what it says it is. */
type Root = {own: string[] | undefined; says?: string; make(root: string): void}

const VERSION_FILE = '/etc/debian_version'

const roots: Record<string, Root> = {
  empty: {own: undefined, make: () => {}},
  busybox: {
    own: ['/bin/sh', '-c', 'echo $(true && uname -s)'],
    says: 'Linux\n',
    make: root => {
      put(root, '/bin/busybox', which('busybox'))
      for (const name of ['sh', 'true', 'uname']) fs.symlinkSync('busybox', path.join(root, 'bin', name))
    },
  },
  musl: {
    own: ['/bin/hello'],
    says: 'musl\n',
    make: root => {
      const source = path.join(folder, 'hello.c')
      fs.writeFileSync(source, '#include <stdio.h>\nint main(void) { return puts("musl") < 0; }\n')
      fs.mkdirSync(path.join(root, 'bin'))
      must('musl-gcc', ['-o', path.join(root, 'bin/hello'), source])
      const interpreter = must('sh', [
        '-c',
        `readelf -lW '${root}/bin/hello' | sed -n 's/.*interpreter: \\(.*\\)]/\\1/p'`,
      ]).trim()
      assert.match(interpreter, /^\/lib\/ld-musl-/)
      put(root, interpreter, fs.realpathSync(interpreter))
    },
  },
  // Another libc of the same soname must not be taken for ours: here every library in it is a broken file.
  'broken glibc': {
    own: undefined,
    make: root => {
      const libraries = path.join(root, 'lib/x86_64-linux-gnu')
      fs.mkdirSync(libraries, {recursive: true})
      fs.symlinkSync('lib', path.join(root, 'lib64'))
      for (const name of [
        'libc.so.6',
        'libm.so.6',
        'libstdc++.so.6',
        'libgcc_s.so.1',
        'libdl.so.2',
        'evil.so',
      ])
        fs.writeFileSync(path.join(libraries, name), 'broken')
      fs.writeFileSync(path.join(root, 'lib/ld-linux-x86-64.so.2'), 'broken')
      fs.mkdirSync(path.join(root, 'etc/ssl'), {recursive: true})
      fs.writeFileSync(path.join(root, 'etc/ld.so.preload'), '/lib/x86_64-linux-gnu/evil.so\n')
      fs.writeFileSync(path.join(root, 'etc/ld.so.cache'), 'broken')
      fs.writeFileSync(path.join(root, 'etc/ssl/openssl.cnf'), 'openssl_conf = nowhere\n[nowhere')
    },
  },
  debian: {
    own: ['/bin/sh', '-c', `cat ${VERSION_FILE}`],
    says: fs.readFileSync(VERSION_FILE, 'utf8'),
    make: root => {
      for (const name of ['bin', 'lib', 'lib64']) fs.symlinkSync(`usr/${name}`, path.join(root, name))
      put(root, VERSION_FILE, VERSION_FILE)
      for (const program of ['/usr/bin/dash', '/usr/bin/cat'])
        for (const file of [program, ...must('ldd', [program]).match(/\/\S+/g)!])
          put(root, file.replace(/^\/(lib|lib64|bin)\//, '/usr/$1/'), fs.realpathSync(file))
      fs.symlinkSync('dash', path.join(root, 'usr/bin/sh'))
    },
  },
}

/** Ways in: a shell line; $1 is the root, the rest the command. In a mount namespace of its own. */
const ways: Record<string, {line: string; needs?: string}> = {
  chroot: {line: 'root=$1; shift; mount -t proc proc "$root/proc" && exec chroot "$root" "$@"'},
  // The one line of the lesson, with /proc mounted from outside.
  unshare: {
    line: `root=$1; shift
      exec unshare --mount --uts --ipc --net --pid --fork --user --map-root-user --mount-proc="$root/proc" chroot "$root" "$@"`,
  },
  crun: {needs: 'crun', line: container('crun')},
  runc: {needs: 'runc', line: container('runc')},
}

/**
 * crun refuses hosts that have cgroup v2 beside v1, so the v2 mount is hidden from it: in this mount namespace only.
 * The resource limits that runc's example asks for may be more than this machine's root is allowed to set.
 */
function container(runtime: string): string {
  return `root=$1; shift
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    bundle=$(mktemp -d) && trap 'rm -rf "$bundle"' EXIT && cd "$bundle" && runc spec &&
    node -e '
      const fs = require("node:fs")
      const [root, ...args] = process.argv.slice(1)
      const config = JSON.parse(fs.readFileSync("config.json", "utf8"))
      Object.assign(config.process, {terminal: false, args, rlimits: []})
      config.root = {path: root, readonly: false}
      fs.writeFileSync("config.json", JSON.stringify(config))
    ' "$root" "$@" && ${runtime} run -b "$bundle" "hew-test-$$"`
}

function which(name: string): string {
  return must('sh', ['-c', `command -v ${name}`]).trim()
}

function must(program: string, words: string[]): string {
  const {status, stdout, stderr} = run(program, words)
  assert.is(status, 0, `${program} ${words.join(' ')}: ${stderr}`)
  return stdout
}

function put(root: string, at: string, from: string): void {
  const to = path.join(root, at)
  fs.mkdirSync(path.dirname(to), {recursive: true})
  fs.copyFileSync(from, to)
}

function enter(way: string, root: string, command: string[]) {
  return run('unshare', ['--mount', 'sh', '-c', ways[way]!.line, 'sh', root, ...command])
}

const made = new Map<string, string>()
function rootOf(kind: string): string {
  const root = made.get(kind) ?? path.join(folder, kind.replace(' ', '-'))
  if (made.has(kind)) return root
  fs.mkdirSync(path.join(root, 'proc'), {recursive: true})
  roots[kind]!.make(root)
  put(root, '/hew', HEW)
  made.set(kind, root)
  return root
}

const expected = hew('--version')

for (const [kind, {own, says}] of Object.entries(roots))
  for (const [way, {needs = 'root'}] of Object.entries(ways)) {
    const test = requires(
      places,
      'root',
      needs,
      ...(kind === 'musl' ? ['musl-gcc'] : kind === 'busybox' ? ['busybox'] : []),
    )
    test(`runs in a root of kind ${kind} through ${way}`, () => {
      const root = rootOf(kind)
      assert.equal(enter(way, root, ['/hew', '--version']), expected)
      if (own) assert.equal(enter(way, root, own), {status: 0, stdout: says, stderr: ''})
    })
  }

/**
 * A place as a fresh privileged container is: a root by pivot_root, /proc, /sys and /dev, every capability. (In a mere
 * chroot the kernel makes no user namespaces.)
 */
function fresh(root: string, command: string[], input = '') {
  const line = `root=$1; shift
    mkdir -p "$root/sys" "$root/dev" "$root/tmp" "$root/.old"
    mount --bind "$root" "$root" && cd "$root" && mount -t proc proc proc && mount -t sysfs sysfs sys &&
      mount --rbind /dev dev && pivot_root . .old && /.old${which('busybox')} umount -l /.old && exec "$@"`
  return run('unshare', ['--mount', '--pid', '--fork', 'sh', '-c', line, 'sh', root, ...command], {input})
}

/** A line for the shell of a place: makes a root there with hew, and enters it. */
const SHELL =
  "/hew mkroot --rm | /hew enter -- sh -c 'echo $$; cd /; echo *; read os < /proc/sys/kernel/ostype; echo $os'"
const MADE = /^1\n(?=.*\bproc\b)(?!.*\bhew\b).*\nLinux\n$/

for (const [kind, shell] of [
  ['debian', SHELL],
  ['busybox', SHELL],
] as const)
  requires(
    places,
    'root',
    'busybox',
  )(`mkroot | enter in a fresh container of kind ${kind}`, () => {
    const {stdout, stderr, status} = fresh(rootOf(kind), ['/bin/sh', '-c', shell])
    assert.equal([stderr, status], ['', 0])
    assert.match(stdout, MADE)
  })

for (const [kind, program, says] of [
  ['musl', '/bin/hello', 'musl\n'],
  ['empty', '/hew', expected.stdout],
] as const)
  requires(
    places,
    'root',
    'busybox',
    'musl-gcc',
  )(`mkroot | enter in a fresh container of kind ${kind}`, () => {
    const root = rootOf(kind)
    const none = fresh(root, ['/hew', 'mkroot', '/nothing'])
    assert.match(none.stderr, /^hew mkroot: .*no shell.*--from.*--with/)
    assert.is(none.status, 125)
    const made = fresh(root, ['/hew', 'mkroot', '--with', program, '/made'])
    assert.equal([made.stderr, made.status], ['', 0])
    const words = kind === 'empty' ? [program, '--version'] : [program]
    // hew needs /proc, and finds it: `enter` mounts one.
    assert.equal(fresh(root, ['/hew', 'enter', '--', ...words], made.stdout), {
      stdout: says,
      stderr: '',
      status: 0,
    })
  })

requires(
  places,
  'root',
  'busybox',
)("a container has a name in BusyBox's own, which has no /run", () => {
  const line =
    '/hew mkroot | /hew enter --detach --name box -- true >/dev/null && /hew wait box && /hew rm --root box'
  const {stdout, stderr, status} = fresh(rootOf('busybox'), ['/bin/sh', '-c', line])
  assert.equal([stderr, status], ['', 0])
  assert.match(stdout, /"id":"box"/)
})

requires(places, 'root')('runs where memfds must not be executable', () => {
  const line = `if [ -e /proc/sys/vm/memfd_noexec ]; then echo 2 >/proc/sys/vm/memfd_noexec; fi; exec "$0" --version`
  assert.equal(run('unshare', ['--pid', '--fork', '--mount-proc', 'sh', '-c', line, HEW]), expected)
})

requires(places, 'root')('starts with closed descriptors where there is no /dev/null', () => {
  const root = rootOf('empty')
  const line = 'mount -t proc proc "$1/proc" && exec chroot "$1" /hew --version'
  for (const closed of ['<&-', '2>&-', '<&- 2>&-'])
    assert.equal(run('unshare', ['--mount', 'sh', '-c', `${line} ${closed}`, 'sh', root]), expected)
})

places.run()
