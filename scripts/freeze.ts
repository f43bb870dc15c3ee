import {command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {running} from '../lib/containers/find.ts'
import {setFrozen} from '../lib/containers/freeze.ts'

export default command(
  {
    name: 'freeze',
    summary: 'stop all processes of containers where they are',
    usage: 'NAME|PID...',
    description: [
      'All processes of a container stand still from then on: they use no CPU, hold what they have, and notice nothing. It returns when all do.',
    ],
    options: {},
    examples: [['hew freeze web', 'until thaw web']],
    run: ({operands}) => {
      for (const target of named(operands).map(running)) setFrozen(target, true)
    },
  },
  import.meta,
)
