import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {EM} from '../../lib/programs/elf.ts'
import {ldSoConfDirectories, parseLdCache} from '../../lib/programs/ldcache.ts'
import type {Loading} from '../../lib/programs/ldso.ts'
import {World, type WorldOptions} from '../../lib/programs/world.ts'
import {Sysroot} from '../../lib/sysroot.ts'
import type {Made} from './elf-builder.ts'
import {type Content, debianLoader, GLIBC, makeCache, makeLoader, makeTree} from './tree.ts'

const test = suite('ldso')

/** Loads /prog of a tree. */
function load(files: Record<string, Content>, options: WorldOptions = {}, program = '/prog'): Loading {
  const {root, remove} = makeTree(files)
  try {
    const world = new World({sysroot: root, ...options})
    const {path} = world.sysroot.resolve(program)
    const inspected = world.inspector.inspect(path)
    if (inspected.is !== 'elf') throw new Error(`${program} is ${inspected.is}`)
    return world.load(path, inspected.elf)
  } finally {
    remove()
  }
}

/** The paths that are opened, in order, with the rules. */
function opened(loading: Loading): string[] {
  return loading.needs.map(({path, rule}) => `${path} ${rule}`)
}

const prog = (made: Made): Content => ({elf: {interp: GLIBC, ...made}})
const lib = (soname: string, made: Made = {}): Content => ({elf: {soname, ...made}})

test("the default directories are those of the tree's own loader", () => {
  const layouts: [name: string, strings: string[], directories: string[], lib: string][] = [
    [
      'debian',
      ['/lib/x86_64-linux-gnu/', '/usr/lib/x86_64-linux-gnu/', '/lib/', '/usr/lib/'],
      ['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/lib', '/usr/lib'],
      '/lib/x86_64-linux-gnu',
    ],
    ['fedora', ['/lib64/', '/usr/lib64/'], ['/lib64', '/usr/lib64'], '/lib64'],
    ['arch', ['/usr/lib/'], ['/usr/lib'], '/lib'],
    ['nix', ['/nix/store/abc-glibc-2.38/lib/'], ['/nix/store/abc-glibc-2.38/lib'], '/lib'],
    ['unknown', ['/proc/', 'text'], ['/lib64', '/usr/lib64', '/lib', '/usr/lib'], '/lib64'],
  ]
  for (const [name, strings, directories, token] of layouts) {
    const {lacks} = load({
      '/prog': prog({needed: ['liba.so', '/$LIB/libb.so']}),
      [GLIBC]: makeLoader({}, 'GLIBC_PRIVATE', ...strings, '', 'x'),
    })
    assert.equal(
      lacks[0]!.searched,
      directories.map(dir => `${dir} (default directory)`),
      name,
    )
    assert.equal(lacks[1]!.searched, [`${token}/libb.so`], name)
  }
})

test('the cache is where the loader was told to look for it', () => {
  const cache = '/nix/store/abc-glibc/etc/ld.so.cache'
  const loading = load({
    '/prog': prog({needed: ['liba.so']}),
    [GLIBC]: makeLoader({}, '/nix/store/abc-glibc/lib/', cache),
    [cache]: makeCache([{name: 'liba.so', path: '/opt/liba.so'}]),
    '/opt/liba.so': lib('liba.so'),
  })
  assert.equal(opened(loading), [
    '/opt/liba.so DT_NEEDED liba.so (ld.so.cache)',
    `${cache} tells the loader where to look`,
  ])
})

for (const behindOld of [false, true]) {
  test(`the cache${behindOld ? ' behind one of the old format' : ''}: by type, before the default directories`, () => {
    const loading = load({
      '/prog': prog({needed: ['liba.so', 'libb.so', 'libc.so', 'libstale.so']}),
      [GLIBC]: debianLoader,
      '/etc/ld.so.cache': makeCache(
        [
          {name: 'liba.so', path: '/lib32/liba.so', flags: 0x3},
          {name: 'liba.so', path: '/libx32/liba.so', flags: 0x803},
          {name: 'liba.so', path: '/usr/local/lib/liba.so'},
          {name: 'liba.so', path: '/never/liba.so'},
          {name: 'libb.so', path: '/lib/libb.so'},
          {name: 'libstale.so', path: '/gone/libstale.so'},
        ],
        {behindOld},
      ),
      '/usr/local/lib/liba.so': lib('liba.so'),
      '/never/liba.so': lib('liba.so'),
      '/lib/liba.so': lib('liba.so'),
      '/lib/libb.so': lib('libb.so'),
      '/lib/libc.so': lib('libc.so'),
      '/lib/libstale.so': lib('libstale.so'),
    })
    assert.equal(opened(loading), [
      '/usr/local/lib/liba.so DT_NEEDED liba.so (ld.so.cache)',
      '/etc/ld.so.cache tells the loader where to look',
      '/lib/libb.so DT_NEEDED libb.so (ld.so.cache)',
      '/lib/libc.so DT_NEEDED libc.so (default directory)',
      '/lib/libstale.so DT_NEEDED libstale.so (default directory)',
    ])
  })
}

test('the cache of a machine of the other byte order', () => {
  const s390x: Made = {littleEndian: false, machine: 22}
  const loading = load({
    '/prog': {elf: {...s390x, interp: '/lib/ld64.so.1', needed: ['liba.so']}},
    '/lib/ld64.so.1': makeLoader(s390x, '/lib/s390x-linux-gnu/', '/usr/lib/s390x-linux-gnu/'),
    '/etc/ld.so.cache': makeCache(
      [
        {name: 'liba.so', path: '/opt/glibc-hwcaps/z15/liba.so', flags: 0x403, hwcaps: 0x40000000},
        {name: 'liba.so', path: '/opt/liba.so', flags: 0x403},
      ],
      {bigEndian: true},
    ),
    '/opt/glibc-hwcaps/z15/liba.so': {elf: {...s390x, soname: 'liba.so'}},
    '/opt/liba.so': {elf: {...s390x, soname: 'liba.so'}},
  })
  assert.equal(
    opened(loading).filter(line => !line.includes('tells')),
    ['/opt/liba.so DT_NEEDED liba.so (ld.so.cache)', '/opt/glibc-hwcaps/z15/liba.so glibc-hwcaps z15'],
  )
})

test('every level of glibc-hwcaps comes along, with what it alone needs', () => {
  const hwcaps = '/lib/glibc-hwcaps'
  const loading = load({
    '/prog': prog({needed: ['liba.so', 'libonly.so']}),
    [GLIBC]: debianLoader,
    '/lib/liba.so': lib('liba.so'),
    [`${hwcaps}/x86-64-v2/liba.so`]: lib('liba.so', {runpath: '$ORIGIN/sub', needed: ['libb.so']}),
    [`${hwcaps}/x86-64-v2/sub/libb.so`]: lib('libb.so'),
    [`${hwcaps}/x86-64-v3/liba.so`]: lib('liba.so', {class: 32}),
    [`${hwcaps}/x86-64-v4/libonly.so`]: lib('libonly.so'),
    '/usr/lib/libonly.so': lib('libonly.so'),
  })
  assert.equal(opened(loading), [
    '/lib/liba.so DT_NEEDED liba.so (default directory)',
    `${hwcaps}/x86-64-v2/liba.so glibc-hwcaps x86-64-v2`,
    '/usr/lib/libonly.so DT_NEEDED libonly.so (default directory)',
    `${hwcaps}/x86-64-v4/libonly.so glibc-hwcaps x86-64-v4`,
    `${hwcaps}/x86-64-v2/sub/libb.so DT_NEEDED libb.so (DT_RUNPATH)`,
  ])
})

test('without a cache: the directories of ld.so.conf, as ldconfig finds them', () => {
  const {root, remove} = makeTree({
    '/etc/ld.so.conf':
      '# comment\n/opt/first/   # and another\n\n  include ld.so.conf.d/*.conf\n/opt/old=libc6\nhwcap 1 x\n',
    '/etc/ld.so.conf.d/b.conf': '/opt/b\n/opt/first\ninclude /etc/ld.so.conf\n',
    '/etc/ld.so.conf.d/a.conf': '/opt/a\ninclude more/[x-z]?.conf more/[!x]1.conf\n',
    '/etc/ld.so.conf.d/.hidden.conf': '/opt/hidden\n',
    '/etc/ld.so.conf.d/c.conf.bak': '/opt/bak\n',
    '/etc/ld.so.conf.d/more/y1.conf': '/opt/y1\n',
    '/etc/ld.so.conf.d/more/a1.conf': '/opt/a1\n',
    '/etc/ld.so.conf.d/more/b12.conf': '/opt/b12\n',
  })
  assert.equal(ldSoConfDirectories(new Sysroot(root)), [
    '/opt/first',
    '/opt/a',
    '/opt/y1',
    '/opt/a1',
    '/opt/b',
    '/opt/old',
  ])
  remove()
  const files = {
    '/prog': prog({needed: ['liba.so']}),
    [GLIBC]: debianLoader,
    '/etc/ld.so.conf': '/opt\n',
    '/opt/liba.so': lib('liba.so'),
    '/lib/liba.so': lib('liba.so'),
  }
  assert.equal(opened(load(files)), ['/opt/liba.so DT_NEEDED liba.so (ld.so.conf)'])
  assert.equal(opened(load(files, {ldSoConf: false})), ['/lib/liba.so DT_NEEDED liba.so (default directory)'])
  const withCache = {...files, '/etc/ld.so.cache': makeCache([])}
  assert.equal(opened(load(withCache)), ['/lib/liba.so DT_NEEDED liba.so (default directory)'])
})

test('an include pattern full of stars takes no time', () => {
  const {root, remove} = makeTree({
    '/etc/ld.so.conf': `include ${'*a'.repeat(60)}*b\ninclude [z-a]x [ [!\n`,
    [`/etc/${'a'.repeat(200)}`]: '/opt\n',
  })
  const start = performance.now()
  assert.equal(ldSoConfDirectories(new Sysroot(root)), [])
  assert.ok(performance.now() - start < 1000)
  remove()
})

test('a library that is nowhere: where it was looked for, in order', () => {
  const {lacks, needs} = load(
    {
      '/app/prog': prog({needed: ['liba.so'], rpath: '/r1:$ORIGIN/r2'}),
      [GLIBC]: debianLoader,
      '/etc/ld.so.cache': makeCache([]),
      '/r1/liba.so': lib('liba.so', {needed: ['libgone.so']}),
      '/llp/libgone.so': lib('libgone.so', {machine: 183}),
    },
    {libraryPath: 'rel:/llp'},
    '/app/prog',
  )
  assert.equal(opened({needs} as Loading), ['/r1/liba.so DT_NEEDED liba.so (DT_RPATH)'])
  assert.equal(lacks, [
    {
      what: 'libgone.so',
      by: '/r1/liba.so',
      searched: [
        '/r1 (DT_RPATH of /app/prog)',
        '/app/r2 (DT_RPATH of /app/prog)',
        '"rel" (LD_LIBRARY_PATH: relative to whatever directory the program is started in)',
        '/llp (LD_LIBRARY_PATH)',
        '/llp/libgone.so (for another kind of machine)',
        '/etc/ld.so.cache',
        '/lib/x86_64-linux-gnu (default directory)',
        '/usr/lib/x86_64-linux-gnu (default directory)',
        '/lib (default directory)',
        '/usr/lib (default directory)',
      ],
    },
  ])
})

test('a file at which the loader gives up ends the search, with the reason', () => {
  for (const [content, why] of [
    ['INPUT(liba.so.1)\n', '/a/liba.so: not an ELF file'],
    [{link: '/a'}, '/a/liba.so: not a regular file'],
    [{elf: {type: 1}}, '/a/liba.so: neither a library nor a program'],
    [{elf: {littleEndian: false}}, '/a/liba.so: of the other byte order'],
  ] as [Content, string][]) {
    const {lacks} = load({
      '/prog': prog({needed: ['liba.so'], runpath: '/a'}),
      [GLIBC]: debianLoader,
      '/a/liba.so': content,
      '/lib/liba.so': lib('liba.so'),
    })
    assert.is(lacks[0]?.why, why)
  }
})

test('programs of several ABIs in one tree each find their own', () => {
  const arm: Made = {class: 32, machine: 40}
  const kinds: [made: Made, interp: string, flags: number][] = [
    [{}, GLIBC, 0x303],
    [{class: 32}, '/libx32/ld-linux-x32.so.2', 0x803],
    [{class: 32, machine: 3}, '/lib/ld-linux.so.2', 0x3],
    [{machine: 183}, '/lib/ld-linux-aarch64.so.1', 0xa03],
    [{...arm, flags: 0x5000400}, '/lib/ld-linux-armhf.so.3', 0x903],
    [{...arm, flags: 0x5000200}, '/lib/ld-linux.so.3', 0xb03],
    [{machine: 243, flags: 5}, '/lib/ld-linux-riscv64-lp64d.so.1', 0x1003],
    [{machine: 21, flags: 2}, '/lib64/ld64.so.2', 0x503],
    [{class: 32, machine: 8, flags: 0x20}, '/lib32/ld.so.1', 0x603],
  ]
  const files: Record<string, Content> = {}
  const cache = []
  for (const [i, [made, interp, flags]] of kinds.entries()) {
    files[`/prog${i}`] = {
      elf: {
        ...made,
        interp,
        needed: ['libcached.so', 'libdir.so'],
        runpath: kinds.map((_, k) => `/dir${k}`).join(':'),
      },
    }
    files[interp] = makeLoader(made, '/lib/', '/usr/lib/')
    files[`/cached${i}/libcached.so`] = lib('libcached.so', made)
    files[`/dir${i}/libdir.so`] = lib('libdir.so', made)
    cache.push({name: 'libcached.so', path: `/cached${i}/libcached.so`, flags})
  }
  // ldconfig sorts the entries of one name so.
  files['/etc/ld.so.cache'] = makeCache(cache.sort((a, b) => b.flags - a.flags))
  for (const i of kinds.keys()) {
    const {needs, lacks} = load(files, {}, `/prog${i}`)
    assert.equal(lacks, [], `/prog${i}`)
    const found = needs
      .map(({path}) => path)
      .filter(path => path.startsWith('/cached') || path.startsWith('/dir'))
    assert.equal(found, [`/cached${i}/libcached.so`, `/dir${i}/libdir.so`])
  }
})

test('.note.dlopen: by priority, after everything that is linked, the first name that is there', () => {
  const files = {
    '/prog': prog({
      needed: ['liba.so'],
      dlopen: [
        '[{"soname":["libnew.so","libold.so","libolder.so"],"feature":"f","priority":"required"}]',
        '[{"soname":["libsug.so"],"priority":"suggested"},{"soname":["librec.so"],"feature":"r"}]',
        '[{"soname":["libgone.so","libgone2.so"],"priority":"required"},{"soname":["libnone.so"]}]',
      ],
    }),
    [GLIBC]: debianLoader,
    ...Object.fromEntries(
      ['libold', 'libolder', 'libsug', 'librec', 'libb', 'libdeep'].map(name => [
        `/lib/${name}.so`,
        lib(`${name}.so`, name === 'librec' ? {needed: ['libdeep.so']} : {}),
      ]),
    ),
    '/lib/liba.so': lib('liba.so', {needed: ['libb.so']}),
  }
  const needed = [
    '/lib/liba.so DT_NEEDED liba.so (default directory)',
    '/lib/libb.so DT_NEEDED libb.so (default directory)',
  ]
  const required = '/lib/libold.so dlopen required: f'
  const recommended = '/lib/librec.so dlopen recommended: r'
  const deep = '/lib/libdeep.so DT_NEEDED libdeep.so (default directory)'
  const all = load(files, {dlopen: 'suggested'})
  assert.equal(opened(all), [...needed, required, '/lib/libsug.so dlopen suggested', recommended, deep])
  const usual = load(files)
  assert.equal(opened(usual), [...needed, required, recommended, deep])
  assert.equal(
    usual.lacks.map(({what}) => what),
    ['libgone.so or libgone2.so'],
  )
  assert.equal(
    usual.absent.map(({what}) => what),
    ['libnone.so'],
  )
  assert.equal(opened(load(files, {dlopen: 'required'})), [...needed, required])
  const none = load(files, {dlopen: 'none'})
  assert.equal([opened(none), none.lacks, none.absent], [needed, [], []])
})

test('DT_FILTER must be there, DT_AUXILIARY may', () => {
  const {needs, lacks} = load({
    '/prog': prog({needed: ['liba.so']}),
    [GLIBC]: debianLoader,
    '/lib/liba.so': lib('liba.so', {
      auxiliary: ['libaux.so', 'libnoaux.so'],
      filter: ['libfilter.so', 'libnofilter.so'],
    }),
    '/lib/libaux.so': lib('libaux.so'),
    '/lib/libfilter.so': lib('libfilter.so'),
  })
  assert.equal(needs.map(({path}) => path).sort(), ['/lib/liba.so', '/lib/libaux.so', '/lib/libfilter.so'])
  assert.equal(
    lacks.map(({what}) => what),
    ['libnofilter.so'],
  )
})

test('a library without a program is searched for by the usual loader of its kind', () => {
  const glibc = load({
    '/prog': lib('p', {needed: ['liba.so', 'libc.so.6']}),
    [GLIBC]: debianLoader,
    '/lib/liba.so': lib('liba.so'),
  })
  assert.equal(opened(glibc), ['/lib/liba.so DT_NEEDED liba.so (default directory)'])
  const musl = load({
    '/prog': lib('p', {needed: ['libc.musl-x86_64.so.1', 'liba.so']}),
    [MUSL]: muslLoader,
    '/usr/local/lib/liba.so': lib('liba.so'),
  })
  assert.equal(opened(musl), [
    `${MUSL} DT_NEEDED libc.musl-x86_64.so.1 (loaded already)`,
    '/usr/local/lib/liba.so DT_NEEDED liba.so (default directory)',
  ])
})

const MUSL = '/lib/ld-musl-x86_64.so.1'
const muslLoader = makeLoader({soname: 'libc.so'}, '/etc/ld-musl-x86_64.path', '/lib:/usr/local/lib:/usr/lib')
const muslProg = (made: Made): Content => ({elf: {interp: MUSL, ...made}})

test('musl: its path file, lines or colons; the directories of one that is empty are none', () => {
  const files = {
    '/prog': muslProg({needed: ['liba.so', 'libm.so.6']}),
    '/lib/ld-musl-x86_64.so.1': muslLoader,
    '/lib/liba.so': lib('liba.so'),
    '/opt/b/liba.so': lib('liba.so'),
  }
  const itself = `${MUSL} DT_NEEDED libm.so.6 (loaded already)`
  assert.equal(opened(load(files)), ['/lib/liba.so DT_NEEDED liba.so (default directory)', itself])
  const path = '/etc/ld-musl-x86_64.path'
  for (const text of ['/opt/a\n/opt/b\n', '/opt/a:/opt/b', '\n:/opt/b:/lib\n']) {
    assert.equal(opened(load({...files, [path]: text})), [
      `/opt/b/liba.so DT_NEEDED liba.so (${path})`,
      `${path} tells the loader where to look`,
      itself,
    ])
  }
  assert.equal(
    load({...files, [path]: ''}).lacks.map(({what}) => what),
    ['liba.so'],
  )
})

test('musl: the path file of another prefix is beside the loader', () => {
  const interp = '/opt/musl/lib/ld-musl-x86_64.so.1'
  const loading = load({
    '/prog': {elf: {interp, needed: ['liba.so']}},
    [interp]: {link: 'libc.so'},
    '/opt/musl/lib/libc.so': muslLoader,
    '/opt/musl/etc/ld-musl-x86_64.path': '/opt/musl/lib\n',
    '/etc/ld-musl-x86_64.path': '/wrong\n',
    '/opt/musl/lib/liba.so': lib('liba.so'),
  })
  assert.is(loading.needs[0]?.path, '/opt/musl/lib/liba.so')
})

test('musl: it does not pass over a file for another machine', () => {
  const {lacks} = load({
    '/prog': muslProg({needed: ['liba.so'], runpath: '/a:/b'}),
    [MUSL]: muslLoader,
    '/a/liba.so': lib('liba.so', {machine: 183}),
    '/b/liba.so': lib('liba.so'),
  })
  assert.is(lacks[0]?.why, '/a/liba.so: for another kind of machine')
})

test("no link of a tree leads out of it: what is found is the tree's own", () => {
  const outside = makeTree({'/liba.so': lib('liba.so')})
  const loading = load({
    '/prog': prog({needed: ['liba.so'], runpath: `/abs:/rel:/up${outside.root}`}),
    [GLIBC]: debianLoader,
    '/abs': {link: outside.root},
    '/rel': {link: `../../../../../..${outside.root}`},
    '/up': {link: '/../..'},
    '/lib/liba.so': lib('liba.so'),
  })
  outside.remove()
  assert.equal(opened(loading), ['/lib/liba.so DT_NEEDED liba.so (default directory)'])
})

test('a cache that is none, or of the format before glibc 2.2, is as good as none', () => {
  assert.is(parseLdCache(Buffer.alloc(0), EM.X86_64), undefined)
  assert.is(parseLdCache(Buffer.from('glibc-ld.so.cache1.1'), EM.X86_64), undefined)
  const old = Buffer.alloc(64)
  old.write('ld.so-1.7.0')
  assert.is(parseLdCache(old, EM.X86_64), undefined)
  const cut = makeCache([{name: 'a', path: '/a'}])
  cut.writeUInt32LE(1000, 20)
  assert.is(parseLdCache(cut, EM.X86_64), undefined)
})

test('names in a cache are in the order of the machine that it is for', () => {
  const names = {
    [EM.X86_64]: ['libz.so', 'libn-12.so', 'libn-3000000000.so', 'libn-.so', 'liba.so', 'libé.so'],
    [EM.AARCH64]: ['libé.so', 'libz.so', 'libn-12.so', 'libn-3000000000.so', 'libn-.so', 'liba.so'],
  }
  for (const [machine, list] of Object.entries(names)) {
    const cache = parseLdCache(
      makeCache(
        list.map(name => ({name, path: `/opt/${name}`})),
        {sorted: true},
      ),
      Number(machine),
    )!
    for (const name of list)
      assert.equal(
        [...cache(name)].map(({path}) => path),
        [`/opt/${name}`],
      )
    assert.equal([...cache('libm.so')], [])
  }
})

test('a hostile cache costs little memory and time', () => {
  const path = `/${'x'.repeat(4_000_000)}`
  const many = makeCache(Array.from({length: 5000}, () => ({name: 'libz.so.1', path: '/short'})))
  // All of them point to the same text.
  const [name, at] = [many.readUInt32LE(48 + 4), many.length]
  const long = Buffer.concat([many, Buffer.from(`${path}\0`)])
  const zeros = Buffer.concat([many, Buffer.from(`lib${'0'.repeat(4_000_000)}1\0`)])
  for (let i = 0; i < 5000; i++) {
    long.writeUInt32LE(name, 48 + 24 * i + 4)
    long.writeUInt32LE(at, 48 + 24 * i + 8)
    zeros.writeUInt32LE(at, 48 + 24 * i + 4)
  }
  assert.equal([...parseLdCache(long, EM.X86_64)!('libz.so.1')], [])
  assert.ok([...parseLdCache(zeros, EM.X86_64)!('lib1')].length <= 1024)
})

test.run()
