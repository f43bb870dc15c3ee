import {command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {running} from '../lib/containers/find.ts'
import {setFrozen} from '../lib/containers/freeze.ts'

export default command(
  {
    name: 'thaw',
    summary: 'let the processes of frozen containers go on',
    usage: 'NAME|PID...',
    description: ['What freeze has stopped goes on where it was. To thaw what is not frozen is no error.'],
    options: {},
    examples: [['hew thaw web', 'goes on']],
    run: ({operands}) => {
      for (const target of named(operands).map(running)) setFrozen(target, false)
    },
  },
  import.meta,
)
