import {execFileSync, spawnSync} from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {join} from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {type Elf, EM} from '../../lib/programs/elf.ts'
import {parseLdCache} from '../../lib/programs/ldcache.ts'
import {World, type WorldOptions} from '../../lib/programs/world.ts'
import {requires, scratch} from '../support.ts'
import {makeElf} from '../unit/elf-builder.ts'

const tests = suite('loader')
const test = requires(tests, 'native')

const GLIBC = '/lib64/ld-linux-x86-64.so.2'
const MUSL = '/lib/ld-musl-x86_64.so.1'

const temporary = scratch()

/** What one program maps: by realpath, and the names that were not found. */
interface Mapped {
  files: string[]
  missing: string[]
}

/** Asks a loader itself, for many programs at once: it maps them and starts none of them. */
function ask(loader: string, programs: string[], libraryPath = ''): Map<string, Mapped> {
  // With the variable (which is ldd's way) glibc goes on after what it does not find. musl knows --list only.
  const trace = loader.includes('musl') ? `"${loader}" --list` : `LD_TRACE_LOADED_OBJECTS=1 "${loader}"`
  const script = `for program; do echo "== $program"; ${trace} "$program" 2>&1; done; :`
  const {stdout} = spawnSync('/bin/sh', ['-c', script, 'sh', ...programs], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    cwd: '/',
    env: {PATH: '/usr/bin:/bin', LC_ALL: 'C', ...(libraryPath && {LD_LIBRARY_PATH: libraryPath})},
  })
  const answers = new Map<string, Mapped>()
  for (const part of stdout.split(/^== /m).slice(1)) {
    const [program, ...lines] = part.split('\n')
    const files = new Set<string>()
    const missing = new Set<string>()
    for (const line of lines) {
      const absent =
        /^\t(\S+) => not found/.exec(line) ??
        /shared librar(?:y|ies):? ([^\s:]+): /.exec(line) ??
        /: ([^\s:]+): (?:cannot open|file too short|invalid ELF)/.exec(line)
      const file = /^\t(?:.* => )?(\/.*) \(0x[0-9a-f]+\)$/.exec(line)
      if (absent) missing.add(absent[1]!)
      else if (file) files.add(realpathSync(file[1]!))
    }
    answers.set(program!, {files: [...files].sort(), missing: [...missing].sort()})
  }
  return answers
}

/** The same from our own search. What is only for other processors is left out, unless it is what this one takes. */
function find(
  program: string,
  options: WorldOptions = {},
  world = new World({dlopen: 'none', ...options}),
): Mapped {
  const real = realpathSync(program)
  const elf = elfOf(real, world)
  const {needs, lacks} = world.load(real, elf)
  const found = needs
    .filter(({rule}) => !/^glibc-hwcaps|^\$PLATFORM|^tells/.test(rule))
    .map(({path}) => realpathSync(path))
  const files = new Set([
    ...found,
    ...(elf.interp && elf.needed.length > 0 ? [realpathSync(elf.interp)] : []),
  ])
  return {files: [...files].sort(), missing: [...new Set(lacks.map(({what}) => what))].sort()}
}

function elfOf(program: string, world = new World({})): Elf {
  const inspected = world.inspector.inspect(program)
  if (inspected.is !== 'elf') throw new Error(`${program} is ${inspected.is}`)
  return inspected.elf
}

function compile(compiler: string, output: string, source: string, ...options: string[]): string {
  const file = join(temporary, `${compiler}.c`)
  writeFileSync(file, source)
  execFileSync(compiler, [
    '-o',
    output,
    file,
    '-Wl,--no-as-needed',
    '-Wl,--allow-shlib-undefined',
    ...options,
  ])
  return output
}

test('every dynamic program of this machine maps what we find', () => {
  const world = new World({dlopen: 'none'})
  const byLoader = new Map<string, string[]>()
  for (const dir of ['/usr/bin', '/usr/sbin']) {
    for (const name of readdirSync(dir)) {
      const {kind, path} = world.sysroot.resolve(join(dir, name))
      const inspected = kind === 'file' ? world.inspector.inspect(path) : undefined
      if (inspected?.is !== 'elf' || inspected.elf.interp === undefined) continue
      const loader = inspected.elf.interp
      byLoader.set(loader, [...new Set([...(byLoader.get(loader) ?? []), path])])
    }
  }
  let compared = 0
  for (const [loader, programs] of byLoader) {
    if (!existsSync(loader)) continue
    const answers = ask(loader, programs)
    for (const program of programs) {
      assert.equal(find(program, {}, world), answers.get(program), program)
      compared++
    }
  }
  console.log(`loader: ${compared} programs compared`)
  assert.ok(compared > 200, `only ${compared} programs compared`)
})

/** With this, both DT_RPATH and DT_RUNPATH: ld writes only one of them, so another string is renamed. */
function addRpath(file: string): void {
  const DT_DEPAUDIT = 0x6ffffefb
  const bytes = readFileSync(file)
  const dynamic = (() => {
    const [phoff, phnum] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(56)]
    for (let i = 0; i < phnum; i++) {
      const at = phoff + 56 * i
      if (bytes.readUInt32LE(at) === 2) return Number(bytes.readBigUInt64LE(at + 8))
    }
    throw new Error(`${file} has no dynamic section`)
  })()
  for (let at = dynamic; ; at += 16) {
    const tag = Number(bytes.readBigUInt64LE(at))
    if (tag === 0) throw new Error(`${file} has no DT_DEPAUDIT`)
    if (tag !== DT_DEPAUDIT) continue
    bytes.writeBigUInt64LE(15n, at)
    writeFileSync(file, bytes)
    return
  }
}

const KINDS = ['neither', 'rpath', 'runpath', 'both'] as const

function linkWith(kind: (typeof KINDS)[number], dir: string): string[] {
  if (kind === 'neither') return []
  if (kind === 'both') return [`-Wl,--enable-new-dtags,-rpath,${dir}-run`, `-Wl,--depaudit,${dir}-r`]
  const [tags, suffix] = kind === 'rpath' ? ['--disable-new-dtags', 'r'] : ['--enable-new-dtags', 'run']
  return [`-Wl,${tags},-rpath,${dir}-${suffix}`]
}

/**
 * A program needs libmid.so, which needs libleaf.so; each of the two has neither, one or both kinds of path; the leaf
 * is in every subset of the directories these name and LD_LIBRARY_PATH.
 */
function comparesPaths(compiler: string, loader: string): number {
  const base = join(temporary, compiler)
  const [top, mid, llp] = ['top', 'mid', 'llp'].map(name => join(base, name)) as [string, string, string]
  const dirs = [`${top}-r`, `${top}-run`, `${mid}-r`, `${mid}-run`, llp]
  for (const dir of dirs) mkdirSync(dir, {recursive: true})
  const leaf = compile(
    compiler,
    join(base, 'libleaf.so'),
    'int leaf;',
    '-shared',
    '-fPIC',
    '-Wl,-soname,libleaf.so',
  )
  const programs: string[] = []
  for (const midKind of KINDS) {
    // Without a DT_SONAME, DT_NEEDED becomes the path, so that this one is always found.
    const library = join(base, `libmid-${midKind}.so`)
    compile(compiler, library, 'int mid;', '-shared', '-fPIC', leaf, ...linkWith(midKind, mid))
    if (midKind === 'both') addRpath(library)
    for (const topKind of KINDS) {
      const program = join(base, `top-${topKind}-${midKind}`)
      compile(compiler, program, 'int main(void) {}', library, ...linkWith(topKind, top))
      if (topKind === 'both') addRpath(program)
      programs.push(program)
    }
  }
  let compared = 0
  for (let subset = 0; subset < 2 ** dirs.length; subset++) {
    for (const [i, dir] of dirs.entries()) {
      const copy = join(dir, 'libleaf.so')
      if (subset & (1 << i)) copyFileSync(leaf, copy)
      else rmSync(copy, {force: true})
    }
    for (const libraryPath of ['', llp]) {
      const answers = ask(loader, programs, libraryPath)
      const world = new World({dlopen: 'none', libraryPath})
      for (const program of programs) {
        const label = `${program} subset ${subset.toString(2)} LD_LIBRARY_PATH=${libraryPath}`
        assert.equal(find(program, {}, world), answers.get(program), label)
        compared++
      }
    }
  }
  return compared
}

test('every combination of DT_RPATH, DT_RUNPATH and LD_LIBRARY_PATH is searched as glibc does', () => {
  const compared = comparesPaths('gcc', GLIBC)
  console.log(`loader: ${compared} combinations compared with glibc`)
  assert.is(compared, 1024)
})

const testMusl = requires(tests, 'musl-gcc', 'native')

testMusl('every combination of DT_RPATH, DT_RUNPATH and LD_LIBRARY_PATH is searched as musl does', () => {
  const compared = comparesPaths('musl-gcc', MUSL)
  console.log(`loader: ${compared} combinations compared with musl`)
  assert.is(compared, 1024)
})

/** Builds `dir/prog`, needing libx.so, with the options; then compares what is found. */
function agrees(
  name: string,
  build: (dir: string, x: string) => {program: string; libraryPath?: string},
): void {
  test(`agrees with glibc: ${name}`, () => {
    const dir = mkdtempSync(join(temporary, 'agrees-'))
    const x = compile('gcc', join(dir, 'x'), 'int x;', '-shared', '-fPIC', '-Wl,-soname,libx.so')
    const {program, libraryPath} = build(dir, x)
    const answer = ask(GLIBC, [realpathSync(program)], libraryPath).get(realpathSync(program))!
    assert.equal(find(program, {libraryPath}), answer)
    // An answer that says nothing would agree with anything.
    assert.ok(answer.files.length + answer.missing.length > 0)
  })
}

function install(file: string, ...parts: string[]): string {
  const target = join(...parts)
  mkdirSync(join(target, '..'), {recursive: true})
  copyFileSync(file, target)
  return target
}

const MAIN = 'int main(void) {}'

for (const origin of [
  '$ORIGIN/../lib',
  `\${ORIGIN}/../lib`,
  '$ORIGIN/$LIB',
  '$ORIGIN/$PLATFORM',
  '$ORIGINAL',
  'lib',
  '',
]) {
  agrees(`DT_RUNPATH=${origin}`, (dir, x) => {
    mkdirSync(join(dir, 'bin'))
    for (const place of ['lib', 'bin/lib/x86_64-linux-gnu', 'bin/x86_64', 'binAL']) {
      install(x, dir, place, 'libx.so')
    }
    return {program: compile('gcc', join(dir, 'bin/prog'), MAIN, x, `-Wl,-rpath,${origin}`)}
  })
}

agrees('$ORIGIN of a program called through a link is where the program is', (dir, x) => {
  install(x, dir, 'real/libx.so')
  compile('gcc', join(dir, 'real/prog'), MAIN, x, '-Wl,-rpath,$ORIGIN')
  symlinkSync('real/prog', join(dir, 'prog'))
  return {program: join(dir, 'prog')}
})

agrees('$ORIGIN of a library is the directory in which it was found, not where its link leads', (dir, x) => {
  mkdirSync(join(dir, 'real'))
  mkdirSync(join(dir, 'links'))
  const y = compile(
    'gcc',
    join(dir, 'real/liby.so'),
    'int y;',
    '-shared',
    '-fPIC',
    x,
    '-Wl,-soname,liby.so',
    '-Wl,-rpath,$ORIGIN',
  )
  symlinkSync('../real/liby.so', join(dir, 'links/liby.so'))
  install(x, dir, 'links/libx.so')
  return {program: compile('gcc', join(dir, 'prog'), MAIN, y, `-Wl,-rpath,${dir}/links`)}
})

agrees('a DT_NEEDED that is a path, and $ORIGIN in it', (dir, x) => {
  const y = compile('gcc', join(dir, 'y'), 'int y;', '-shared', '-fPIC', '-Wl,-soname,$ORIGIN/sub/liby.so')
  install(y, dir, 'sub/liby.so')
  const z = compile('gcc', join(dir, 'libz.so'), 'int z;', '-shared', '-fPIC')
  return {program: compile('gcc', join(dir, 'prog'), MAIN, y, z, x)}
})

agrees('a library that is loaded already answers to its DT_SONAME', (dir, x) => {
  // Found by path first; libx.so itself is nowhere to be found by name.
  const byPath = compile('gcc', join(dir, 'libother.so'), 'int o;', '-shared', '-fPIC', '-Wl,-soname,libx.so')
  const first = compile('gcc', join(dir, 'f'), 'int f;', '-shared', '-fPIC', `-Wl,-soname,${byPath}`)
  const second = compile('gcc', join(dir, 'libsecond.so'), 'int s;', '-shared', '-fPIC', x)
  return {program: compile('gcc', join(dir, 'prog'), MAIN, first, second)}
})

agrees('breadth first: the first to need a library decides where it is searched', (dir, x) => {
  for (const place of ['a', 'b']) install(x, dir, place, 'libx.so')
  const with_ = (name: string, place: string, ...more: string[]) =>
    compile('gcc', join(dir, name), 'int v;', '-shared', '-fPIC', ...more, `-Wl,-rpath,${dir}/${place}`)
  const deep = with_('libdeep.so', 'a', x)
  const left = with_('libleft.so', 'a', deep)
  const right = with_('libright.so', 'b', x)
  return {program: compile('gcc', join(dir, 'prog'), MAIN, left, right)}
})

agrees(
  'DT_RPATH is inherited over two generations, and not past a DT_RUNPATH of the one that needs',
  (dir, x) => {
    for (const place of ['top', 'own']) install(x, dir, place, 'libx.so')
    const w = install(
      compile('gcc', join(dir, 'w'), 'int w;', '-shared', '-fPIC', '-Wl,-soname,libw.so'),
      dir,
      'top/libw.so',
    )
    const old = '-Wl,--disable-new-dtags'
    const low = compile(
      'gcc',
      join(dir, 'liblow.so'),
      'int l;',
      '-shared',
      '-fPIC',
      x,
      w,
      `-Wl,--enable-new-dtags,-rpath,${dir}/own`,
    )
    const lower = compile('gcc', join(dir, 'liblower.so'), 'int k;', '-shared', '-fPIC', x)
    const mid = compile('gcc', join(dir, 'libmid.so'), 'int m;', '-shared', '-fPIC', low, lower)
    return {program: compile('gcc', join(dir, 'prog'), MAIN, mid, old, `-Wl,-rpath,${dir}/top`)}
  },
)

agrees('LD_LIBRARY_PATH with semicolons, tokens, empty and missing elements', (dir, x) => {
  install(x, dir, 'z/libx.so')
  return {program: compile('gcc', join(dir, 'prog'), MAIN, x), libraryPath: `/nowhere;:${dir}/none:$ORIGIN/z`}
})

agrees('a file for another class or machine is passed over', (dir, x) => {
  for (const [place, made] of Object.entries({
    a: {class: 32, machine: 3},
    b: {machine: 183},
    c: {class: 32},
  } as const)) {
    install(x, dir, place, 'libx.so')
    writeFileSync(join(dir, place, 'libx.so'), makeElf(made))
  }
  install(x, dir, 'd/libx.so')
  return {
    program: compile(
      'gcc',
      join(dir, 'prog'),
      MAIN,
      x,
      `-Wl,-rpath,${['a', 'b', 'c', 'd'].map(d => `${dir}/${d}`).join(':')}`,
    ),
  }
})

for (const [name, content] of Object.entries({text: 'INPUT(libx.so.1)\n', empty: '', magic: '\x7fELF'})) {
  test(`agrees with glibc: it gives up at a file that is no ELF file (${name})`, () => {
    const dir = join(temporary, `no-elf-${name}`)
    mkdirSync(dir)
    const x = compile('gcc', join(dir, 'x'), 'int x;', '-shared', '-fPIC', '-Wl,-soname,libx.so')
    install(x, dir, 'b/libx.so')
    mkdirSync(join(dir, 'a'))
    writeFileSync(join(dir, 'a/libx.so'), content)
    const program = compile('gcc', join(dir, 'prog'), MAIN, x, `-Wl,-rpath,${dir}/a:${dir}/b`)
    assert.not.equal(spawnSync(GLIBC, ['--list', program]).status, 0)
    assert.equal(find(program).missing, ['libx.so'])
  })
}

agrees('-z nodefaultlib: neither the default directories nor what the cache has from there', (dir, x) => {
  // libdl is where the cache and the default directories have it.
  const y = compile(
    'gcc',
    join(dir, 'liby.so'),
    'int y;',
    '-shared',
    '-fPIC',
    x,
    '-ldl',
    '-Wl,-z,nodefaultlib',
  )
  return {program: compile('gcc', join(dir, 'prog'), MAIN, y)}
})

const LDCONFIG = '/sbin/ldconfig'
const testLdconfig = requires(tests, 'root', 'native')

testLdconfig("this machine's cache, entry by entry", () => {
  const listed = execFileSync(LDCONFIG, ['-p'], {encoding: 'utf8', env: {LC_ALL: 'C'}, maxBuffer: 1 << 26})
  const lines = [...listed.matchAll(/^\t(\S+) \((.*)\) => (.*)$/gm)].map(
    ([, name, , path]) => `${name} ${path}`,
  )
  const cache = parseLdCache(readFileSync('/etc/ld.so.cache'), EM.X86_64)!
  const names = new Set(lines.map(line => line.split(' ', 1)[0]!))
  const entries = [...names].flatMap(name => [...cache(name)].map(({path}) => `${name} ${path}`))
  assert.ok(lines.length > 50)
  assert.equal(entries.sort(), lines.sort())
})

for (const format of ['new', 'compat', 'old']) {
  testLdconfig(`a cache that ldconfig writes in the format "${format}", with glibc-hwcaps`, () => {
    const root = mkdtempSync(join(temporary, 'cache-'))
    const x = compile('gcc', join(root, 'x'), 'int x;', '-shared', '-fPIC', '-Wl,-soname,libx.so.1')
    install(x, root, 'opt/libx.so.1')
    install(x, root, 'opt/glibc-hwcaps/x86-64-v3/libx.so.1')
    mkdirSync(join(root, 'etc'))
    writeFileSync(join(root, 'etc/ld.so.conf'), '/opt\n')
    execFileSync(LDCONFIG, ['-r', root, '-c', format], {stdio: 'ignore'})
    const cache = parseLdCache(readFileSync(join(root, 'etc/ld.so.cache')), EM.X86_64)
    const variant = {path: '/opt/glibc-hwcaps/x86-64-v3/libx.so.1', flags: 0x303, hwcaps: true}
    const plain = {path: '/opt/libx.so.1', flags: 0x303, hwcaps: false}
    // Before glibc 2.2 no loader reads another.
    assert.equal(cache && [...cache('libx.so.1')], format === 'old' ? undefined : [variant, plain])
  })
}

testLdconfig('every name in a cache is found that ldconfig has sorted', () => {
  const root = mkdtempSync(join(temporary, 'names-'))
  const names = [
    'z',
    '-12',
    '-9',
    '-4000000000',
    '-3000000000',
    '-5000000000',
    'é',
    '.',
    '-x86_64',
    '2abc',
    'ü1',
    'a',
  ]
  for (const name of names) {
    const soname = `lib${name}.so.1`
    const x = compile('gcc', join(root, soname), 'int x;', '-shared', '-fPIC', `-Wl,-soname,${soname}`)
    install(x, root, 'opt', soname)
  }
  mkdirSync(join(root, 'etc'))
  writeFileSync(join(root, 'etc/ld.so.conf'), '/opt\n')
  execFileSync(LDCONFIG, ['-r', root], {stdio: 'ignore'})
  const cache = parseLdCache(readFileSync(join(root, 'etc/ld.so.cache')), EM.X86_64)!
  for (const name of names)
    assert.equal(
      [...cache(`lib${name}.so.1`)].map(({path}) => path),
      [`/opt/lib${name}.so.1`],
    )
  assert.equal([...cache('libb.so.1')], [])
})

test('what is there for better processors is found besides what this one takes', () => {
  const dir = join(temporary, 'hwcaps')
  mkdirSync(dir)
  const x = compile('gcc', join(dir, 'x'), 'int x;', '-shared', '-fPIC', '-Wl,-soname,libx.so')
  const levels = ['x86-64-v2', 'x86-64-v3', 'x86-64-v4']
  const variants = levels.map(level => install(x, dir, 'lib/glibc-hwcaps', level, 'libx.so'))
  const plain = install(x, dir, 'lib/libx.so')
  const program = compile('gcc', join(dir, 'prog'), MAIN, x, `-Wl,-rpath,${dir}/lib`)
  const {needs} = new World({}).load(program, elfOf(program))
  const found = needs.map(({path}) => path).filter(path => path.endsWith('libx.so'))
  assert.equal(found, [plain, ...variants])
  const [answer] = ask(GLIBC, [program]).values()
  assert.is(answer!.files.filter(file => found.includes(file)).length, 1)
})

test('so is what $PLATFORM may mean elsewhere', () => {
  const dir = mkdtempSync(join(temporary, 'platform-'))
  const x = compile('gcc', join(dir, 'x'), 'int x;', '-shared', '-fPIC', '-Wl,-soname,libx.so')
  const platforms = ['x86_64', 'haswell'].map(platform => install(x, dir, platform, 'libx.so'))
  const program = compile('gcc', join(dir, 'prog'), MAIN, x, '-Wl,-rpath,$ORIGIN/$PLATFORM')
  const {needs} = new World({}).load(program, elfOf(program))
  assert.equal(
    needs.map(({path}) => path).filter(path => path.endsWith('libx.so')),
    platforms,
  )
  const [answer] = ask(GLIBC, [program]).values()
  assert.is(answer!.files.filter(file => platforms.includes(file)).length, 1)
})

testMusl('agrees with musl: its own names, $ORIGIN, short names, the path file', () => {
  const dir = join(temporary, 'musl')
  mkdirSync(dir)
  const library = (name: string, ...options: string[]) =>
    compile('musl-gcc', join(dir, name), 'int v;', '-shared', '-fPIC', `-Wl,-soname,${name}`, ...options)
  const programs = [
    ['plain'],
    ['names', ...['libm.so.6', 'libpthread.so.0', 'libdl.so', 'libxnet.so.1'].map(name => library(name))],
    ['origin', library('libo.so'), '-Wl,-rpath,$ORIGIN'],
    ['braces', library('libo.so'), `-Wl,-rpath,/nowhere::\${ORIGIN}/../musl`],
    ['platform', library('libo.so'), `-Wl,-rpath,$PLATFORM:${dir}`],
    ['missing', library('libo.so')],
    ['glibc', library('libo.so'), '-Wl,-rpath,/usr/lib/x86_64-linux-gnu'],
  ].map(([name, ...options]) => compile('musl-gcc', join(dir, `prog-${name}`), MAIN, ...options))
  const answers = ask(MUSL, programs)
  for (const program of programs) assert.equal(find(program), answers.get(program), program)
})

tests.run()
