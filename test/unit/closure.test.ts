import {chmodSync} from 'node:fs'
import {join} from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {type Closure, closure} from '../../lib/programs/closure.ts'
import {type ExecProblem, explainExec} from '../../lib/programs/explain.ts'
import {Inspector} from '../../lib/programs/inspect.ts'
import {envCommand, parseShebang} from '../../lib/programs/script.ts'
import {World, type WorldOptions} from '../../lib/programs/world.ts'
import {type Entry, Sysroot} from '../../lib/sysroot.ts'
import {makeElf} from './elf-builder.ts'
import {type Content, debianLoader, GLIBC, makeCache, makeTree} from './tree.ts'

const test = suite('closure')

/** A merged /usr with a glibc, a shell, and env. */
const base: Record<string, Content> = {
  '/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2': debianLoader,
  '/usr/lib64/ld-linux-x86-64.so.2': {link: '/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'},
  '/lib64': {link: 'usr/lib64'},
  '/lib': {link: 'usr/lib'},
  '/bin': {link: 'usr/bin'},
  '/usr/lib/x86_64-linux-gnu/libc.so.6': {elf: {soname: 'libc.so.6', needed: ['ld-linux-x86-64.so.2']}},
  '/usr/bin/dash': {elf: {interp: GLIBC, needed: ['libc.so.6']}},
  '/usr/bin/sh': {link: 'dash'},
  '/usr/bin/env': {elf: {interp: GLIBC, needed: ['libc.so.6']}},
}

function inTree<T>(files: Record<string, Content>, use: (root: string) => T): T {
  const {root, remove} = makeTree({...base, ...files})
  try {
    return use(root)
  } finally {
    remove()
  }
}

function gather(files: Record<string, Content>, programs: string[], options: WorldOptions = {}): Closure {
  return inTree(files, root => closure(programs, {sysroot: root, ...options}))
}

function paths({items}: Closure): string[] {
  return items.filter(({kind}) => kind !== 'directory').map(({path}) => path)
}

function because({items}: Closure, path: string): string[] {
  return items.find(item => item.path === path)?.because.map(({by, rule}) => `${by}: ${rule}`) ?? []
}

test('a program, its loader and libraries, every link and directory on the way, and why', () => {
  const {items, missing, absent} = gather({}, ['sh'])
  const loader = '/lib64/ld-linux-x86-64.so.2'
  assert.equal([missing, absent], [[], []])
  assert.equal(items, [
    {path: '/usr', kind: 'directory', because: [{by: '/usr/bin/sh', rule: 'parent directory'}]},
    {path: '/usr/bin', kind: 'directory', because: [{by: '/usr/bin/sh', rule: 'parent directory'}]},
    {path: '/usr/bin/sh', kind: 'link', target: 'dash', because: [{by: 'command line', rule: 'PATH'}]},
    {path: '/usr/bin/dash', kind: 'file', because: [{by: '/usr/bin/sh', rule: 'link'}]},
    {path: '/lib64', kind: 'link', target: 'usr/lib64', because: [{by: loader, rule: 'link'}]},
    {path: '/usr/lib64', kind: 'directory', because: [{by: loader, rule: 'parent directory'}]},
    {
      path: '/usr/lib64/ld-linux-x86-64.so.2',
      kind: 'link',
      target: '/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2',
      because: [
        {by: '/usr/bin/dash', rule: 'interpreter'},
        {by: '/usr/lib/x86_64-linux-gnu/libc.so.6', rule: 'DT_NEEDED ld-linux-x86-64.so.2 (loaded already)'},
      ],
    },
    {path: '/lib', kind: 'link', target: 'usr/lib', because: [{by: loader, rule: 'link'}]},
    {path: '/usr/lib', kind: 'directory', because: [{by: loader, rule: 'parent directory'}]},
    {path: '/usr/lib/x86_64-linux-gnu', kind: 'directory', because: [{by: loader, rule: 'parent directory'}]},
    {
      path: '/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2',
      kind: 'file',
      because: [{by: '/usr/lib64/ld-linux-x86-64.so.2', rule: 'link'}],
    },
    {
      path: '/usr/lib/x86_64-linux-gnu/libc.so.6',
      kind: 'file',
      because: [{by: '/usr/bin/dash', rule: 'DT_NEEDED libc.so.6 (default directory)'}],
    },
  ])
})

/** What makes a list of items one that can be made in its order, in an empty root, and be whole. */
function assertWhole({items}: Closure, sysroot: Sysroot): void {
  const made = new Map<string, Entry>([['/', sysroot.lstat('/')]])
  for (const {path, kind, target, because} of items) {
    const parent = path.slice(0, path.lastIndexOf('/')) || '/'
    assert.is(made.get(parent)?.kind, 'directory', `the parent of ${path}`)
    assert.not.ok(made.has(path), `${path} twice`)
    assert.ok(because.length > 0, `${path} for no reason`)
    const entry = sysroot.lstat(path)
    assert.equal([entry.kind, entry.target], [kind, target], path)
    made.set(path, entry)
  }
  for (const {path, kind} of items) {
    if (kind === 'link') assert.ok(made.has(sysroot.resolve(path).path), `${path} dangles`)
  }
}

test('200 programs of this machine: whole, in order, and in little time', () => {
  const sysroot = new Sysroot()
  const programs = sysroot
    .list('/usr/bin')
    .map(name => `/usr/bin/${name}`)
    .filter(path => sysroot.resolve(path).kind === 'file')
    .slice(0, 200)
  const start = performance.now()
  const found = closure(programs)
  const time = performance.now() - start
  assertWhole(found, sysroot)
  assert.ok(found.items.length > programs.length)
  assert.ok(time < 2000, `${time} ms`)
})

test('every file is opened once, whatever the number of programs', () => {
  const opened: string[] = []
  const original = Sysroot.prototype.open
  Sysroot.prototype.open = function (this: Sysroot, entry: Entry, use) {
    opened.push(entry.path)
    return original.call(this, entry, use)
  } as typeof original
  try {
    gather({'/usr/bin/a': {link: 'dash'}, '/usr/bin/script': '#!/bin/sh\n'}, [
      'sh',
      'a',
      'env',
      'script',
      'sh',
    ])
  } finally {
    Sysroot.prototype.open = original
  }
  // The loader's own file once more for the strings compiled into it, once to tell whether it is musl's.
  const elsewhere = opened.filter(path => !path.includes('/ld-linux'))
  assert.equal(elsewhere, [...new Set(elsewhere)])
  assert.ok(opened.length - elsewhere.length <= 3)
})

test('links: absolute, through several directories, up; as in /etc/alternatives', () => {
  const found = gather(
    {
      '/usr/bin/vi': {link: '/etc/alternatives/vi'},
      '/etc/alternatives/vi': {link: '../../opt/vim/bin/../current'},
      '/opt/vim/bin/keep': '',
      '/opt/vim/current': {link: '/opt/vim/v9/vim'},
      '/opt/vim/v9': {link: 'v9.0'},
      '/opt/vim/v9.0/vim': 'data',
    },
    ['vi'],
  )
  assert.equal(paths(found), [
    '/usr/bin/vi',
    '/etc/alternatives/vi',
    '/opt/vim/current',
    '/opt/vim/v9',
    '/opt/vim/v9.0/vim',
  ])
  const directories = found.items.filter(({kind}) => kind === 'directory').map(({path}) => path)
  assert.equal(directories, [
    '/usr',
    '/usr/bin',
    '/etc',
    '/etc/alternatives',
    '/opt',
    '/opt/vim',
    '/opt/vim/bin',
    '/opt/vim/v9.0',
  ])
  assert.equal(because(found, '/opt/vim/v9.0/vim'), ['/opt/vim/current: link'])
})

test('PATH: the first that is executable; elements that depend on the working directory are none', () => {
  const files = {'/a/x': 'data', '/b/x': 'data', '/c/x': {link: '../b/x'}}
  const found = inTree(files, root => {
    chmodSync(join(root, '/a/x'), 0o644)
    return closure(['x'], {sysroot: root, path: ':a::/none:/a:/b//:/c'})
  })
  assert.equal(paths(found), ['/b/x'])
  const [missing] = inTree(files, root => {
    chmodSync(join(root, '/a/x'), 0o644)
    return closure(['x'], {sysroot: root, path: '/none:/a'}).missing
  })
  assert.equal(missing, {
    kind: 'program',
    what: 'x',
    by: 'command line',
    searched: ['/none', '/a'],
    why: '/a/x is not executable',
  })
})

test('what is no program is said to be what it is; all of it at once', () => {
  const {missing, items} = gather(
    {
      '/usr/bin/self': {link: 'self'},
      '/usr/bin/a': {link: 'b'},
      '/usr/bin/b': {link: '/usr/bin/a'},
      '/usr/bin/dangling': {link: 'gone'},
      '/usr/bin/cut': makeElf().subarray(0, 70),
    },
    [
      'nosuch',
      '/usr/bin',
      '/usr/bin/self',
      '/usr/bin/a',
      '/usr/bin/dangling',
      '/bin/sh/x',
      '/bin/sh/',
      '/bin/sh/.',
      'cut',
      '',
    ],
  )
  assert.equal(
    missing.map(({what, why}) => `${what}: ${why}`),
    [
      'nosuch: undefined',
      '/usr/bin: it is a directory',
      '/usr/bin/self: too many symbolic links',
      '/usr/bin/a: too many symbolic links',
      '/usr/bin/dangling: it is not there',
      '/bin/sh/x: a part of its path is not a directory',
      '/bin/sh/: a part of its path is not a directory',
      '/bin/sh/.: a part of its path is not a directory',
      '/usr/bin/cut: it refers to bytes past its own end',
      ': undefined',
    ],
  )
  assert.ok(missing.every(({kind, by}) => kind === 'program' && by === 'command line'))
  assert.ok(items.every(({path}) => ['/usr', '/usr/bin', '/usr/bin/cut'].includes(path)))
  assert.is(closure(['/dev/null']).missing[0]?.why, 'it is a device, a pipe or a socket')
})

test('a long chain of links, and one too long', () => {
  const chain = (length: number) =>
    Object.fromEntries(
      Array.from({length}, (_, i) => [`/usr/bin/l${i}`, {link: i === 0 ? 'dash' : `l${i - 1}`}]),
    )
  assert.equal(gather(chain(40), ['l39']).missing, [])
  assert.is(gather(chain(41), ['/usr/bin/l40']).missing[0]?.why, 'too many symbolic links')
})

test('missing libraries and loaders of all programs are found at once', () => {
  const {missing} = gather(
    {
      '/usr/bin/a': {elf: {interp: GLIBC, needed: ['libone.so', 'libc.so.6', 'libtwo.so']}},
      '/usr/bin/b': {elf: {interp: '/lib/ld-gone.so', needed: ['libone.so']}},
      '/usr/bin/c': {elf: {interp: '/usr/bin/script'}},
      '/usr/bin/d': {elf: {interp: GLIBC, machine: 183}},
      '/usr/bin/e': {elf: {interp: 'ld.so'}},
      '/usr/bin/script': '#!/bin/sh\n',
    },
    ['a', 'b', 'a', 'c', 'd', 'e'],
  )
  assert.equal(
    missing.map(({kind, what, by, why}) => [kind, what, by, why].join(' ')),
    [
      'library libone.so /usr/bin/a ',
      'library libtwo.so /usr/bin/a ',
      'interpreter /lib/ld-gone.so /usr/bin/b it is not there',
      'library libone.so /usr/bin/b ',
      'interpreter /usr/bin/script /usr/bin/c it is not an ELF file',
      `interpreter ${GLIBC} /usr/bin/d it is for another kind of machine`,
      'interpreter ld.so /usr/bin/e its path is relative to whatever directory the program is started in',
    ],
  )
})

test('what the cache alone knows how to find brings the cache along', () => {
  const files: Record<string, Content> = {
    '/usr/bin/a': {elf: {interp: GLIBC, needed: ['libx.so']}},
    '/usr/bin/b': {elf: {interp: GLIBC, needed: ['liby.so']}},
    '/usr/local/lib/libx.so': {elf: {soname: 'libx.so'}},
    '/usr/lib/x86_64-linux-gnu/liby.so': {elf: {soname: 'liby.so'}},
    '/etc/ld.so.cache': makeCache([
      {name: 'libx.so', path: '/usr/local/lib/libx.so'},
      // By another name of a default directory.
      {name: 'liby.so', path: '/usr/lib64/../lib/x86_64-linux-gnu/liby.so'},
    ]),
  }
  const found = gather(files, ['a'])
  assert.equal(because(found, '/etc/ld.so.cache'), ['/usr/local/lib/libx.so: tells the loader where to look'])
  assert.not.ok(paths(gather(files, ['b'])).includes('/etc/ld.so.cache'))
})

test('a static program, and what is neither ELF nor script, come alone', () => {
  const files = {'/usr/bin/static': makeElf({type: 2}), '/usr/bin/text': 'echo hello\n', '/usr/bin/empty': ''}
  const found = gather(files, ['static', 'text', '/usr/bin/empty'])
  assert.equal(paths(found), ['/usr/bin/static', '/usr/bin/text', '/usr/bin/empty'])
  assert.equal(because(found, '/usr/bin/empty'), ['command line: path'])
  assert.equal(found.missing, [])
})

test('scripts bring their interpreters, and theirs, and what they ask env for', () => {
  const found = gather(
    {
      '/usr/bin/one': '#! /usr/bin/two -x\n',
      '/usr/bin/two': '#!/usr/bin/env -S three --flag\n',
      '/usr/local/bin/three': '#!/bin/sh -e',
      '/usr/bin/circle': '#!/usr/bin/circle\n',
      '/usr/bin/envcircle': '#!/usr/bin/env envcircle\n',
    },
    ['one', 'circle', 'envcircle'],
  )
  assert.equal(found.missing, [])
  assert.equal(because(found, '/usr/bin/two'), ['/usr/bin/one: #!'])
  assert.equal(because(found, '/usr/bin/env'), ['/usr/bin/two: #!', '/usr/bin/envcircle: #!'])
  assert.equal(because(found, '/usr/local/bin/three'), ['/usr/bin/two: #! env PATH'])
  assert.equal(because(found, '/usr/bin/sh'), ['/usr/local/bin/three: #!'])
  assert.equal(because(found, '/usr/bin/envcircle'), [
    'command line: PATH',
    '/usr/bin/envcircle: #! env PATH',
  ])
  assert.ok(paths(found).includes('/usr/lib/x86_64-linux-gnu/libc.so.6'))
})

test('a script whose interpreter, or what env is asked for, is missing; a relative one is nowhere', () => {
  const relative = gather({'/usr/bin/r': '#!usr/bin/sh\n'}, ['r'])
  assert.match(relative.missing[0]?.why ?? '', /relative to whatever/)
  assert.equal(paths(relative), ['/usr/bin/r'])
  const {missing} = gather({'/usr/bin/a': '#!/opt/python\n', '/usr/bin/b': '#!/usr/bin/env nosuch\n'}, [
    'a',
    'b',
  ])
  assert.equal(
    missing.map(({kind, what, by}) => [kind, what, by]),
    [
      ['interpreter', '/opt/python', '/usr/bin/a'],
      ['program', 'nosuch', '/usr/bin/b'],
    ],
  )
})

test('the first line, as the kernel reads it', () => {
  const parse = (text: string) => {
    const shebang = parseShebang(Buffer.from(text).subarray(0, 256))
    return shebang && [shebang.interpreter, shebang.argument]
  }
  assert.equal(parse('#!/bin/sh\nx'), ['/bin/sh', undefined])
  assert.equal(parse('#!/bin/sh'), ['/bin/sh', undefined])
  assert.equal(parse('#! \t/bin/awk  -f  x \t\n'), ['/bin/awk', '-f  x'])
  assert.equal(parse('#!/bin/sh\0junk\n'), ['/bin/sh', undefined])
  assert.equal(parse('#!/bin/sh\r\n'), ['/bin/sh\r', undefined])
  assert.equal(parse('#!\n/bin/sh\n'), undefined)
  assert.equal(parse('#! \t \n'), undefined)
  assert.equal(parse(' #!/bin/sh\n'), undefined)
  assert.equal(parse(`#!/${'x'.repeat(251)}\n`), [`/${'x'.repeat(251)}`, undefined])
  assert.equal(parse(`#!/${'x'.repeat(260)}\n`), undefined)
  // An argument is cut instead.
  assert.equal(parse(`#!/bin/sh ${'x'.repeat(300)}\n`), ['/bin/sh', 'x'.repeat(245)])
})

test('what env is asked for', () => {
  const cases: Record<string, string | undefined> = {
    python3: 'python3',
    '-S python3 -u': 'python3',
    '-Spython3 -u': 'python3',
    '-vS python3': 'python3',
    '--split-string=python3 -u': 'python3',
    '--split-string python3': 'python3',
    '-i VAR=1 OTHER= python3 x': 'python3',
    '-u PATH --unset HOME -C /tmp --chdir=/ - -- node': 'node',
    '-S "my prog" x': 'my prog',
    "-S 'a\\'b'": "a'b",
    '-S a\\ b': 'a b',
    '-S A=1 # comment': undefined,
    '-i': undefined,
    '': undefined,
  }
  for (const [argument, program] of Object.entries(cases))
    assert.is(envCommand(argument)?.program, program, argument)
  assert.is(envCommand('-S PATH=/opt/bin:/bin tool')?.path, '/opt/bin:/bin')
  const found = gather({'/usr/bin/a': '#!/usr/bin/env -S PATH=/opt/bin tool\n', '/opt/bin/tool': 'data'}, [
    'a',
  ])
  assert.ok(paths(found).includes('/opt/bin/tool'))
})

function explain(
  files: Record<string, Content>,
  command: string,
  change?: (root: string) => void,
): ExecProblem | undefined {
  return inTree(files, root => {
    change?.(root)
    return explainExec(command, {sysroot: root})
  })
}

test('why a command in a root cannot be executed', () => {
  const cases: [files: Record<string, Content>, command: string, reason: string, missing?: string[]][] = [
    [{}, 'nosuch', 'not found', ['nosuch']],
    [{}, '/bin/nosuch', 'not found'],
    [{}, '/usr', 'directory'],
    [{'/bin2/x': ''}, '/bin2/x', 'not a program'],
    [{'/x': makeElf({interp: GLIBC}).subarray(0, 80)}, '/x', 'damaged'],
    [{'/x': {elf: {interp: '/lib/ld-musl-x86_64.so.1'}}}, '/x', 'interpreter', ['/lib/ld-musl-x86_64.so.1']],
    [
      {'/x': {elf: {interp: GLIBC, needed: ['liba.so', 'libb.so']}}},
      '/x',
      'libraries',
      ['liba.so', 'libb.so'],
    ],
    [{'/x': '#!/opt/python -u\n'}, '/x', 'interpreter', ['/opt/python']],
    [{'/x': '#!/usr/bin/env node\n'}, '/x', 'interpreter', ['node']],
    [{'/x': '#!/y\n', '/y': '#!/x\n'}, '/x', 'interpreter loop'],
    [{'/x': '#!/y\n', '/y': {elf: {interp: GLIBC, needed: ['liba.so']}}}, '/x', 'libraries', ['liba.so']],
  ]
  for (const [files, command, reason, missing = []] of cases) {
    const problem = explain(files, command)
    assert.equal([problem?.reason, problem?.missing.map(({what}) => what)], [reason, missing], command)
  }
  const unfit = explain({'/usr/bin/x': ''}, 'x', root => chmodSync(join(root, '/usr/bin/x'), 0o644))
  assert.equal([unfit?.reason, unfit?.path], ['not executable', '/usr/bin/x'])
  if (process.arch === 'x64') assert.is(explain({'/x': {elf: {machine: 2}}}, '/x')?.reason, 'architecture')
})

test('a command that can be executed has no problem', () => {
  assert.is(explain({}, 'sh'), undefined)
  assert.is(explain({'/x': '#!/usr/bin/env sh\n'}, '/x'), undefined)
  assert.is(explain({'/x': {elf: {type: 2}}}, '/x'), undefined)
  assert.is(explainExec('sh'), undefined)
})

test('the loader of a root does not read ld.so.conf, and neither does the explanation', () => {
  const files: Record<string, Content> = {
    '/x': {elf: {interp: GLIBC, needed: ['liba.so']}},
    '/etc/ld.so.conf': '/opt\n',
    '/opt/liba.so': {elf: {soname: 'liba.so'}},
  }
  assert.is(explain(files, '/x')?.reason, 'libraries')
  assert.equal(gather(files, ['/x']).missing, [])
})

test('a pipe in the place of a file does not stop anything', () => {
  const inspector = new Inspector(new Sysroot())
  assert.is(inspector.inspect('/dev/null').is, 'unreadable')
  assert.is(new World({}).sysroot.read('/dev/null'), undefined)
})

test.run()
