import {spawn} from 'node:child_process'
import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, requires, run, scratch} from '../support.ts'

const manifest = JSON.parse(fs.readFileSync('package.json', 'utf8')) as {
  version: string
  dependencies: Record<string, string>
}
const DAMAGED = 'hew: the file is damaged or was not copied to its end: copy it again\n'

const binary = suite('binary')
const folder = scratch()

function shell(line: string) {
  return run('sh', ['-c', line, 'sh', HEW])
}

function file(name: string, text: string): string {
  const at = path.join(folder, name)
  fs.writeFileSync(at, text)
  return at
}

/** A binary of the test's own, to be damaged. */
function copy(name: string): string {
  const at = path.join(folder, name)
  fs.copyFileSync(HEW, at)
  return at
}

/** A user who has no processes. */
const LONELY = 64123

const VERSION = {status: 0, stdout: `hew ${manifest.version}\n`, stderr: ''}

binary('is one static executable', () => {
  assert.match(run('file', ['-b', HEW]).stdout, /^ELF 64-bit LSB pie executable, x86-64, .*static-pie linked/)
  const ldd = run('ldd', [HEW])
  assert.match(ldd.stdout + ldd.stderr, /^\s*(statically linked|not a dynamic executable)\s*$/)
})

binary('is smaller than 101 MB', () => {
  assert.ok(fs.statSync(HEW).size < 101_000_000)
})

binary('says its version', () => {
  assert.equal(hew('--version'), VERSION)
})

binary('runs with its code cache, and can tell when V8 rejects it', () => {
  const env = {HEW_CODE_CACHE: 'required'}
  assert.equal(run(HEW, ['--version'], {env}), VERSION)
  // It begins with V8's magic number, and hashes of V8's version, the source and the flags.
  const stale = copy('stale')
  const bytes = fs.readFileSync(stale)
  const at = bytes.indexOf(
    fs.readFileSync(path.join(path.dirname(HEW), 'build/caches/others')).subarray(0, 64),
  )
  assert.ok(at > 0)
  bytes.writeUInt8(bytes.readUInt8(at + 4) ^ 1, at + 4)
  fs.writeFileSync(stale, bytes)
  assert.equal(run(stale, ['--version']), VERSION)
  assert.equal(run(stale, ['--version'], {env}), {
    status: 125,
    stdout: '',
    stderr: 'hew: the code cache was rejected: make builds another\n',
  })
})

binary('answers by the name it is called by, through a link or not', () => {
  const link = path.join(folder, 'mkroot')
  fs.symlinkSync(HEW, link)
  assert.match(run(link, ['--help']).stdout, /^hew mkroot: /)
  assert.match(shell(`bash -c 'exec -a mkroot "$0" --help' "$1"`).stdout, /^hew mkroot: /)
  assert.match(shell(`bash -c 'exec -a /nowhere/mkroot "$0" --help' "$1"`).stdout, /^hew mkroot: /)
})

binary(
  'runs the same by any name: those with a bundle of their own, those without, and a name of the user',
  () => {
    assert.match(shell(`bash -c 'exec -a ps "$0" enter' "$1"`).stderr, /^hew ps: .*enter/)
    assert.match(shell(`bash -c 'exec -a enter "$0" ps --help' "$1"`).stderr, /^hew enter: /)
    for (const name of ['hew-1.0', 'containers'])
      for (const command of ['enter', 'limit', 'ps'])
        assert.match(
          shell(`bash -c 'exec -a ${name} "$0" ${command} --help' "$1"`).stdout,
          new RegExp(`^hew ${command}: `),
        )
  },
)

for (const option of [
  '--inspect',
  '--inspect-brk=0',
  '-e',
  '-p',
  '--node-options=--version',
  '--require=/tmp/x.js',
  '--v8-options',
])
  binary(`Node does not take ${option} for its own`, () => {
    const {status, stdout, stderr} = hew(option, '1')
    assert.is(status, 2)
    assert.is(stdout, '')
    assert.match(stderr, `hew: unknown option ${option}`)
  })

binary('the environment of another Node, loader, libc or zx has no power', () => {
  const marker = path.join(folder, 'loaded')
  const script = file('loaded.cjs', `require('node:fs').writeFileSync(${JSON.stringify(marker)}, '')`)
  const garbage = file('garbage.so', 'no ELF file')
  for (const name of ['libc.so.6', 'libm.so.6', 'libstdc++.so.6']) file(name, 'no ELF file')
  const variables = {
    NODE_OPTIONS: [`--require=${script}`, '--inspect=0', '--no-such-option'],
    NODE_REPL_EXTERNAL_MODULE: [script],
    NODE_DEBUG: ['fs,module'],
    NODE_DEBUG_NATIVE: ['SEA'],
    NODE_V8_COVERAGE: [path.join(folder, 'coverage')],
    NODE_COMPILE_CACHE: [path.join(folder, 'cache')],
    NODE_REDIRECT_WARNINGS: [path.join(folder, 'warnings')],
    NODE_EXTRA_CA_CERTS: ['/nowhere'],
    LD_PRELOAD: [garbage, '/nowhere.so'],
    LD_AUDIT: [garbage],
    LD_LIBRARY_PATH: [folder],
    LD_DEBUG: ['all'],
    LD_BIND_NOT: ['1'],
    LD_TRACE_LOADED_OBJECTS: ['1'],
    GLIBC_TUNABLES: ['glibc.rtld.nns=0:glibc.malloc.check=3'],
    OPENSSL_CONF: [garbage],
    UV_THREADPOOL_SIZE: ['0'],
    ZX_SHELL: ['/nowhere'],
    ZX_VERBOSE: ['true'],
    HEW_LAUNCH: ['nofile=1:1', 'nonsense'],
  }
  const before = fs.readdirSync(folder).sort()
  for (const [name, values] of Object.entries(variables))
    for (const value of values)
      assert.equal(run(HEW, ['--version'], {env: {[name]: value}}), VERSION, `${name}=${value}`)
  assert.equal(fs.readdirSync(folder).sort(), before)
})

binary('starts with no environment at all', () => {
  assert.equal(shell('env -i "$1" --version'), VERSION)
})

binary('starts with closed standard descriptors', () => {
  assert.equal(shell('"$1" --version <&- 2>&-'), VERSION)
})

binary('starts with SIGSEGV ignored', () => {
  assert.equal(shell('trap "" SEGV; "$1" --version'), VERSION)
})

binary('starts with any stack limit and with a fixed address layout', () => {
  assert.equal(shell('ulimit -s unlimited; "$1" --version'), VERSION)
  assert.equal(shell('ulimit -s 512; "$1" --version'), VERSION)
  assert.equal(shell('setarch --addr-no-randomize "$1" --version'), VERSION)
})

binary('starts with a low soft limit of open files', () => {
  assert.equal(shell('ulimit -S -n 5; "$1" --version'), VERSION)
})

binary('says so in one line when it may have less than Node takes, which dies of that, or hangs', () => {
  // Open ones count, too: 0 to 2, and those of ours.
  const refused = {
    'ulimit -n 4': /it takes 24 open files more, and may have \d: .*\(ulimit -n\)/,
    'ulimit -n 20': /it takes 24 open files more, and may have \d\d?: .*\(ulimit -n\)/,
    'ulimit -v 50000':
      /it takes 1572864 KiB of addresses \(ulimit -v\), and may have 50000: raise that limit/,
    'ulimit -v 1000000': /it takes 1572864 KiB of addresses/,
    'ulimit -d 500000': /it takes 1048576 KiB of data/,
    'ulimit -s 64': /it takes 256 KiB of stack/,
  }
  for (const [limit, says] of Object.entries(refused)) {
    const {status, stdout, stderr} = shell(`${limit}; "$1" --version`)
    assert.equal([status, stdout], [125, ''], limit)
    assert.match(stderr, new RegExp(`^hew: cannot start: ${says.source}.*\n$`))
  }
})

requires(binary, 'root')('says so in one line when it may have no processes beside itself', () => {
  // A limit that root is not held by.
  const line = (processes: number): string =>
    `exec setpriv --reuid ${LONELY} --regid ${LONELY} --clear-groups prlimit --nproc=${processes} "$1" --version`
  for (const processes of [1, 2]) {
    const {status, stdout, stderr} = shell(line(processes))
    assert.equal([status, stdout], [125, ''], `${processes}`)
    assert.match(
      stderr,
      /^hew: cannot start: it takes 3 processes, and there may be no more \(.*ulimit -u\).*\n$/,
    )
  }
  assert.equal(shell(line(3)), VERSION)
})

/** A hew that is held up in the middle of its output. */
async function heldUp(inspect: (pid: number) => void): Promise<void> {
  const fifo = path.join(folder, 'fifo')
  assert.is(run('mkfifo', [fifo]).status, 0)
  const end = fs.openSync(fifo, 'r+')
  const child = spawn(HEW, ['--licenses'], {stdio: ['ignore', end, 'inherit']})
  try {
    fs.readSync(end, Buffer.alloc(1))
    inspect(child.pid!)
  } finally {
    child.kill('SIGKILL')
    await new Promise(resolve => child.once('exit', resolve))
    fs.closeSync(end)
    fs.rmSync(fifo)
  }
}

binary('keeps none of the descriptors that it was started with', () =>
  heldUp(pid => {
    const open = fs.readdirSync(`/proc/${pid}/fd`).map(fd => fs.readlinkSync(`/proc/${pid}/fd/${fd}`))
    assert.equal(
      open.filter(name => name.includes('memfd:') || name === HEW),
      [],
    )
  }),
)

binary('all code is mapped from the file itself', () =>
  heldUp(pid => {
    const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')
    const code = maps.filter(line => /^\S+ r-xp/.test(line) && !/\[v(dso|syscall)\]$/.test(line))
    const elsewhere = code.filter(line => !line.endsWith(HEW) && /\S+ \S+ \S+ \S+ \S+ +\S/.test(line))
    assert.equal(elsewhere, [])
    // The stage's, Node's three, ld.so's, and one of each of the six libraries.
    assert.ok(code.filter(line => line.endsWith(HEW)).length >= 11)
  }),
)

requires(binary, 'strace')('writes no file, and asks no network', () => {
  const trace = path.join(folder, 'trace')
  const calls = '%file,socket,connect,bind'
  assert.equal(
    run('strace', ['-f', '-qq', '-e', `trace=${calls}`, '-e', 'signal=none', '-o', trace, HEW, '--version']),
    VERSION,
  )
  const lines = fs.readFileSync(trace, 'utf8').split('\n').filter(Boolean)
  assert.ok(lines.some(line => line.includes('"/proc/self/exe"')))
  const reads =
    /^\d+ +(execve\(|readlink\(|newfstatat\(|access\(|statx\(|getcwd\(|open(at)?\(.*O_RDONLY|\+\+\+)/
  assert.equal(
    lines.filter(line => !reads.test(line) || line.includes('O_CREAT')),
    [],
  )
})

requires(binary, 'root')('without /proc one line says so', () => {
  const root = fs.mkdtempSync(path.join(folder, 'root-'))
  fs.copyFileSync(HEW, path.join(root, 'hew'))
  assert.equal(run('chroot', [root, '/hew', '--version']), {
    status: 125,
    stdout: '',
    stderr: 'hew: /proc is not mounted: mount it first (mount -t proc proc /proc)\n',
  })
})

binary('a file that was cut off says so', () => {
  const {size} = fs.statSync(HEW)
  const cut = copy('cut')
  for (const length of [size - 1, size - 4096, Math.floor(size / 2), 2_000_000]) {
    fs.truncateSync(cut, length)
    assert.equal(run(cut, ['--version']), {status: 125, stdout: '', stderr: DAMAGED}, String(length))
  }
  fs.rmSync(cut)
})

binary('so does a table of contents that points nowhere', () => {
  const bad = copy('bad')
  const fd = fs.openSync(bad, 'r+')
  // The first part's offset, after its name of 32 bytes: 16 parts of 56 bytes, three numbers and the magic end the file.
  fs.writeSync(fd, Buffer.alloc(8, 0x7f), 0, 8, fs.statSync(bad).size - (16 * 56 + 8 + 16) + 32)
  fs.closeSync(fd)
  const {status, stdout, stderr} = run(bad, ['--version'])
  assert.equal({status, stdout}, {status: 125, stdout: ''})
  assert.match(stderr, /^hew: .*\n$/)
  fs.rmSync(bad)
})

binary('prints the licences of all that it carries', () => {
  const {status, stdout, stderr} = hew('--licenses')
  assert.equal({status, stderr}, {status: 0, stderr: ''})
  for (const text of [
    'MIT License',
    'Node.js is licensed for use as follows',
    'V8, located at deps/v8',
    'GNU C Library',
    'GNU LESSER GENERAL PUBLIC LICENSE\n                       Version 2.1',
    'GCC RUNTIME LIBRARY EXCEPTION',
    'Upstream-Name: musl',
    'GNU GENERAL PUBLIC LICENSE\n                       Version 3',
    ...Object.entries(manifest.dependencies).map(([name, version]) => `${name} ${version}`),
  ])
    assert.ok(stdout.includes(text), text)
})

binary('is the same, byte for byte, when it is built again in another place', () => {
  const elsewhere = path.join(folder, 'elsewhere', 'of another length')
  fs.mkdirSync(elsewhere, {recursive: true})
  const sources = [
    'Makefile',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'LICENSE',
    'lib',
    'scripts',
  ]
  assert.is(run('cp', ['-a', ...sources, elsewhere]).status, 0)
  assert.is(shell(`cp -al node_modules '${elsewhere}' || cp -a node_modules '${elsewhere}'`).status, 0)
  // No INSTALLED: npm has nothing to do there.
  const made = run('make', ['-C', elsewhere, '--no-print-directory', 'INSTALLED=', 'dist/hew'], {
    timeout: 600_000, // it writes 400 MB, and the disk may be busy
  })
  assert.equal({status: made.status, stderr: made.stderr}, {status: 0, stderr: ''})
  assert.ok(fs.readFileSync(path.join(elsewhere, 'dist/hew')).equals(fs.readFileSync(HEW)))
})

binary.run()
