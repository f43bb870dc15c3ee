import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {CHANGES} from '../../lib/cli/command.ts'
import {loadAll} from '../../lib/cli/commands.ts'

/** The tables of the commands. */

test('a command says that it changes nothing, or it has --dry-run and --explain', async () => {
  const undecided = (await loadAll()).filter(({changesNothing, options}) => {
    const has = Object.entries(CHANGES).map(([name, option]) => options[name] === option)
    return changesNothing ? has.includes(true) : has.includes(false)
  })
  assert.equal(
    undecided.map(({name}) => name),
    [],
  )
})

test.run()
