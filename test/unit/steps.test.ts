import {constants} from 'node:os'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {ERRNO, words} from '../../lib/step.ts'

test('errors have the numbers that the kernel gives them', () => {
  const {any, ...known} = ERRNO
  assert.is(any, 0)
  for (const [name, number] of Object.entries(known))
    assert.is(number, constants.errno[name as keyof typeof constants.errno], name)
})

test('hints come before the step, each with its number', () => {
  assert.equal(words({do: 'hostname', name: 'box', hints: {any: 'look', EPERM: 'be root'}}), [
    'hint',
    '0',
    'look',
    'hint',
    '1',
    'be root',
    'hostname',
    'box',
  ])
})

test.run()
