import {CHANGES, command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {done} from '../lib/cli/perform.ts'
import {running} from '../lib/containers/find.ts'
import type {Container} from '../lib/containers/state.ts'

export default command(
  {
    name: 'freeze',
    summary: 'stop all processes of containers where they are',
    usage: 'NAME|PID...',
    description: [
      'All processes of a container stand still from then on: they use no CPU, hold what they have, and notice nothing. It returns when all do.',
    ],
    options: CHANGES,
    examples: [['hew freeze web', 'until thaw web']],
    run: ({options: given, operands}) => {
      const targets = named(operands).map(running)
      const act = (container: Container) => ({do: 'freeze', container, frozen: true}) as const
      return done(targets.map(act), ['hew freeze', ...targets.map(({id}) => id)].join(' '), given)
    },
  },
  import.meta,
)
