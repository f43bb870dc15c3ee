import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {type Options, parse} from '../../lib/cli/options.ts'

const table = {
  root: {short: 'r', value: 'ROOT', help: ''},
  env: {short: 'e', value: 'K=V', many: true, help: ''},
  init: {help: ''},
  map: {value: 'WHO', choices: ['self', 'auto'], help: ''},
} as const

const refused = (words: string[], message: string, stopEarly = false) =>
  assert.throws(
    () => parse<Options>(table, words, stopEarly),
    (error: Error) => {
      assert.is(error.message, message)
      return true
    },
  )

test('values, switches, lists', () => {
  const {options, operands} = parse(table, ['-r', '/x', '--env=A=1', '-e', 'B=2', '--init', 'a', 'b'])
  assert.equal(options, {root: '/x', env: ['A=1', 'B=2'], init: true, map: undefined})
  assert.equal(operands, ['a', 'b'])
})

test('a switch whose name begins with no', () => {
  const own = {'no-trunc': {help: ''}} as const
  assert.is(parse(own, ['--no-trunc']).options['no-trunc'], true)
  assert.is(parse(own, ['x']).options['no-trunc'], false)
  assert.equal(parse(own, ['--', '--no-trunc']), {options: {'no-trunc': false}, operands: ['--no-trunc']})
  assert.equal(parse(own, ['x', '--no-trunc'], true), {
    options: {'no-trunc': false},
    operands: ['x', '--no-trunc'],
  })
  assert.throws(() => parse(own, ['--no-trunc=x']), /is a switch and takes no value/)
})

test('a program that is called true', () => {
  const own = {init: {short: 'i', help: ''}} as const
  assert.equal(parse(own, ['--init', 'true'], true), {options: {init: true}, operands: ['true']})
  assert.equal(parse(own, ['-i', 'false', 'x']), {options: {init: true}, operands: ['false', 'x']})
})

test('a value right behind its letter', () => {
  assert.is(parse(table, ['-r/x']).options.root, '/x')
  assert.is(parse(table, ['-r=/x']).options.root, '/x')
  assert.equal(parse(table, ['-eA=1', '-e', 'B=2', 'a', '-r/x'], true), {
    options: {root: undefined, env: ['A=1', 'B=2'], init: false, map: undefined},
    operands: ['a', '-r/x'],
  })
  refused(['-r/x', '-r', '/y'], '--root is given 2 times')
  refused(['-root', '/x'], 'unknown option -root: did you mean --root?')
})

test('a number below zero is a value: its command knows what is allowed', () => {
  assert.equal(parse(table, ['-r5', '--env', '-2', '-e', '-3']).options.env, ['-2', '-3'])
  assert.is(parse(table, ['--root', '-1']).options.root, '-1')
  assert.equal(parse(table, ['a', '-r', '-1', '-2'], true).operands, ['a', '-r', '-1', '-2'])
  refused(['--init', '-1'], 'unknown option -1')
  refused(['--root', '-x'], 'unknown option -x')
})

test('a value behind a dash alone', () => {
  const own = {signal: {short: 's', value: 'SIGNAL', bare: /^(\d+|[A-Z]+)$/, help: ''}} as const
  assert.equal(parse(own, ['-9', 'web']), {options: {signal: '9'}, operands: ['web']})
  assert.equal(parse(own, ['-HUP', '--', '-9']), {options: {signal: 'HUP'}, operands: ['-9']})
  assert.throws(() => parse(own, ['-9', '-s', 'HUP']), '--signal is given 2 times')
  assert.throws(() => parse(own, ['-x']), 'unknown option -x')
  refused(['-undefined'], 'unknown option -undefined')
})

test('numbers stay text', () => {
  const {options, operands} = parse(table, ['--root', '007', '08'])
  assert.is(options.root, '007')
  assert.equal(operands, ['08'])
})

for (const [words, operands] of [
  [
    ['sh', '-c', 'x', '--', 'y'],
    ['sh', '-c', 'x', '--', 'y'],
  ],
  [
    ['--', 'sh', '--', '-r'],
    ['sh', '--', '-r'],
  ],
  [['--init', '--', '--init=1'], ['--init=1']],
  [
    ['--init', 'ls', '--init=5', '--no-init', '--rot'],
    ['ls', '--init=5', '--no-init', '--rot'],
  ],
  [['-r', '/x', '-'], ['-']],
  [[], []],
] as const)
  test(`options end at the first operand: ${words.join(' ')}`, () => {
    assert.equal(parse(table, [...words], true).operands, [...operands])
  })

test('what cannot be understood', () => {
  refused(['--rot', '/x'], 'unknown option --rot: did you mean --root?')
  refused(['--ro', '/x'], 'unknown option --ro: did you mean --root?')
  refused(['--frobnicate'], 'unknown option --frobnicate')
  refused(['-z'], 'unknown option -z')
  refused(['--root'], '--root needs a value: --root ROOT')
  refused(['--root', '/a', '--root', '/b'], '--root is given 2 times')
  refused(['--init=yes'], '--init=yes: --init is a switch and takes no value')
  refused(['--no-init'], '--no-init: --init is a switch and takes no value')
  refused(['--map', 'some'], '--map some: it is one of self, auto')
  refused(['--__proto__'], 'unknown option --__proto__')
})

test.run()
