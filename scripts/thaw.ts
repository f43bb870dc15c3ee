import {CHANGES, command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {done} from '../lib/cli/perform.ts'
import {running} from '../lib/containers/find.ts'
import type {Container} from '../lib/containers/state.ts'

export default command(
  {
    name: 'thaw',
    summary: 'let the processes of frozen containers go on',
    usage: 'NAME|PID...',
    description: ['What freeze has stopped goes on where it was. To thaw what is not frozen is no error.'],
    options: CHANGES,
    examples: [['hew thaw web', 'goes on']],
    run: ({options: given, operands}) => {
      const targets = named(operands).map(running)
      const act = (container: Container) => ({do: 'freeze', container, frozen: false}) as const
      return done(targets.map(act), ['hew thaw', ...targets.map(({id}) => id)].join(' '), given)
    },
  },
  import.meta,
)
