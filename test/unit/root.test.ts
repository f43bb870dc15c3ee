import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import type {Item} from '../../lib/programs/closure.ts'
import {
  belongings,
  layoutOf,
  linksIntoPath,
  populated,
  shellOf,
  skeleton,
  transaction,
} from '../../lib/root/plan.ts'
import {freshRoot, rootsDirectory} from '../../lib/root/roots.ts'
import {type Plan, told} from '../../lib/step.ts'
import {Sysroot} from '../../lib/sysroot.ts'
import {makeTree} from './tree.ts'

const test = suite('root')

const MERGED = new Map([
  ['/bin', 'usr/bin'],
  ['/lib', 'usr/lib'],
  ['/lib64', 'usr/lib64'],
  ['/sbin', '/usr/sbin'],
])

function at(plan: Plan, path: string): Plan {
  return plan.filter(step => 'path' in step && step.path === path)
}

function item(path: string, kind: Item['kind'], rule = 'PATH', target?: string): Item {
  return {path, kind, because: [{by: 'command line', rule}], ...(target !== undefined && {target})}
}

test('a merged /usr is one inside too: links, and the directories that they lead to', () => {
  const plan = skeleton(MERGED)
  assert.equal(at(plan, '/bin'), [
    {do: 'symlink', target: 'usr/bin', path: '/bin', why: 'as on this machine'},
  ])
  assert.equal(at(plan, '/usr/lib64'), [{do: 'mkdir', path: '/usr/lib64', mode: 0o755}])
  assert.is(at(plan, '/sbin')[0]!.do, 'symlink')
})

test('where /usr is not merged, directories', () => {
  const plan = skeleton(new Map())
  for (const path of ['/bin', '/sbin', '/lib', '/usr/bin'])
    assert.equal(at(plan, path), [{do: 'mkdir', path, mode: 0o755}])
  assert.is(at(plan, '/lib64').length, 0)
})

test('modes that matter', () => {
  const modes = new Map(
    skeleton(new Map()).map(step => (step.do === 'mkdir' ? [step.path, step.mode] : ['', 0])),
  )
  assert.is(modes.get('/tmp'), 0o1777)
  assert.is(modes.get('/var/tmp'), 0o1777)
  assert.is(modes.get('/root'), 0o700)
  assert.is(modes.get('/etc'), 0o755)
})

test('every parent comes before what is in it, and nothing is made twice', () => {
  const items = [
    item('/opt', 'directory'),
    item('/opt/x', 'directory'),
    item('/opt/x/y', 'file'),
    item('/usr', 'directory'),
    item('/bin', 'link', '', 'usr/bin'),
    item('/usr/bin', 'directory'),
    item('/usr/bin/sh', 'file'),
  ]
  const plan = populated(MERGED, {items, files: [['/etc/passwd', '']], links: [['/var/run', '/run']]})
  const seen = new Set(['/'])
  for (const step of plan) {
    if (!('path' in step)) continue
    assert.not(seen.has(step.path), `${step.path} twice`)
    assert.ok(seen.has(step.path.replace(/\/[^/]+$/, '') || '/'), `the parent of ${step.path}`)
    seen.add(step.path)
  }
  assert.ok(seen.has('/usr/bin/sh'))
})

test('the shell of /etc/passwd', () => {
  assert.is(shellOf([item('/usr/bin/bash', 'file'), item('/usr/bin/sh', 'link')], MERGED), '/bin/bash')
  assert.is(shellOf([item('/usr/bin/bash', 'file')], new Map()), '/usr/bin/bash')
  assert.is(shellOf([item('/bin/sh', 'link')], new Map()), '/bin/sh')
  assert.is(shellOf([item('/usr/bin/bash', 'file', '#!')], MERGED), undefined)
  assert.is(shellOf([], MERGED), undefined)
})

test('programs from elsewhere get a link where the PATH inside leads', () => {
  const items = [
    item('/usr/bin/ls', 'file'),
    item('/nix/store/x/bin/sh', 'link'),
    item('/lib/x', 'file', 'DT'),
  ]
  assert.equal(linksIntoPath(items, '/usr/bin:/bin'), [['/usr/local/bin/sh', '/nix/store/x/bin/sh']])
})

test('a root from nothing is marked before anything is in it, and printed when it is whole', () => {
  const plan = transaction('/r', false, [{do: 'mkdir', path: '/x', mode: 0o755}], [{do: 'print', text: 'x'}])
  assert.equal(
    plan.map(step => step.do),
    ['begin', 'new-root', 'claim', 'mkdir', 'release', 'print', 'keep'],
  )
  assert.equal(
    transaction('/r', true, [], []).map(step => step.do),
    ['begin', 'root', 'claim', 'release', 'keep'],
  )
})

test('a BusyBox machine: one binary, and its links', () => {
  const {root, remove} = makeTree({
    '/bin/busybox': 'not really',
    '/bin/sh': {link: 'busybox'},
    '/bin/ls': {link: '/bin/busybox'},
    '/usr/bin/id': {link: '../../bin/busybox'},
    '/etc/terminfo/l/linux': 'x',
    '/usr/share/terminfo/78/xterm': 'x',
  })
  try {
    const machine = new Sysroot(root)
    const {found, absent, items} = belongings(machine, '/usr/bin:/bin')
    assert.equal(found, ['sh', 'ls', 'id'])
    assert.ok(absent.includes('bash') && absent.includes('true'))
    assert.equal(
      items.filter(({kind}) => kind === 'file').map(({path}) => path),
      ['/bin/busybox', '/etc/terminfo/l/linux', '/usr/share/terminfo/78/xterm'],
    )
    assert.equal([...layoutOf(machine)], [])
    assert.is(shellOf(items, layoutOf(machine)), '/bin/sh')
  } finally {
    remove()
  }
})

test('a program that could not run inside is absent, and does not take the others with it', () => {
  const {root, remove} = makeTree({
    '/bin/sh': 'x',
    '/bin/ls': '#!/no/such/interpreter\n',
    '/bin/id': {link: 'gone'},
  })
  try {
    const {found, items} = belongings(new Sysroot(root), '/bin')
    assert.equal(found, ['sh'])
    assert.equal(
      items.map(({path}) => path),
      ['/bin', '/bin/sh'],
    )
  } finally {
    remove()
  }
})

test('libc brings what it looks up names with, and the C.UTF-8 locale comes along', () => {
  const {root, remove} = makeTree({
    '/bin/sh': 'x',
    '/bin/ls': '#!/usr/lib/libc.so.6\n',
    '/usr/lib/libc.so.6': 'x',
    '/usr/lib/libnss_dns.so.2': {link: 'libnss_dns-2.so'},
    '/usr/lib/libnss_dns-2.so': 'x',
    '/usr/lib/libnss_ldap.so.2': 'x',
    '/usr/lib/locale/C.utf8/LC_CTYPE': 'x',
    '/usr/lib/locale/C.utf8/LC_MESSAGES/SYS_LC_MESSAGES': 'x',
    '/usr/lib/locale/de_DE/LC_CTYPE': 'x',
  })
  try {
    const paths = belongings(new Sysroot(root), '/bin').items.map(({path}) => path)
    for (const path of [
      '/usr/lib/libnss_dns.so.2',
      '/usr/lib/libnss_dns-2.so',
      '/usr/lib/locale/C.utf8/LC_CTYPE',
      '/usr/lib/locale/C.utf8/LC_MESSAGES/SYS_LC_MESSAGES',
    ])
      assert.ok(paths.includes(path), path)
    assert.not(paths.some(path => path.includes('ldap') || path.includes('de_DE')))
  } finally {
    remove()
  }
})

test('the layout is what is linked at the top', () => {
  const {root, remove} = makeTree({
    '/bin': {link: 'usr/bin'},
    '/lib32': {link: '/usr/lib32'},
    '/lib/x': '',
    '/home': {link: 'data/home'},
  })
  try {
    assert.equal(
      [...layoutOf(new Sysroot(root))],
      [
        ['/bin', 'usr/bin'],
        ['/lib32', '/usr/lib32'],
      ],
    )
  } finally {
    remove()
  }
})

test('where roots are', () => {
  assert.is(rootsDirectory(0, {HOME: '/root', XDG_DATA_HOME: '/x'}), '/var/lib/hew/roots')
  assert.is(rootsDirectory(1000, {HOME: '/home/a', XDG_DATA_HOME: '/x'}), '/x/hew/roots')
  assert.is(rootsDirectory(1000, {HOME: '/home/a'}), '/home/a/.local/share/hew/roots')
  assert.is(
    rootsDirectory(1000, {HOME: '/home/a', XDG_DATA_HOME: 'relative'}),
    '/home/a/.local/share/hew/roots',
  )
  assert.throws(() => rootsDirectory(1000, {}), /name a directory/)
})

test('fresh names are short, readable, and not twice the same', () => {
  const names = new Set(Array.from({length: 200}, () => freshRoot('/nowhere')))
  assert.ok(names.size > 195)
  for (const name of names) assert.match(name, /^\/nowhere\/[a-z]{3,6}-[a-z]{3,6}-[0-9a-f]{4}$/)
})

test('steps with a line for the shell have one that names the root', () => {
  assert.is(
    told({do: 'debootstrap', suite: 'bookworm', path: '/my root', variant: 'minbase', mirror: 'http://m/'}),
    "debootstrap '--variant=minbase' bookworm '/my root' http://m/",
  )
  assert.is(told({do: 'unpack', archive: '/a b.tar'}), "unpack '/a b.tar'")
})

test.run()
