import {CHANGES, command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {done, dryRun, explained} from '../lib/cli/perform.ts'
import {running} from '../lib/containers/find.ts'
import {signalNumber, signalStep} from '../lib/containers/signal.ts'
import type {Container} from '../lib/containers/state.ts'
import {become} from '../lib/stage.ts'

export default command(
  {
    name: 'kill',
    summary: 'send a signal to containers',
    usage: '[-s SIGNAL] [--all] NAME|PID...',
    description: [
      'Sends a signal, TERM unless another is named, to the command of each container. A command that does not handle one which would end it is ended all the same, though the kernel would leave it alone as PID 1 of its namespace.',
      'With --all every process of the container gets it, and none escapes by forking meanwhile.',
      'Without a NAME the container is the one whose state document comes through the pipe.',
    ],
    options: {
      signal: {
        short: 's',
        value: 'SIGNAL',
        bare: /^(\d+|[A-Z][A-Z\d+-]+)$/,
        help: 'as kill(1) has them: TERM, SIGTERM or 15, and -TERM or -15 for short; 0 only asks whether it runs',
      },
      all: {help: 'to every process in it, at once'},
      ...CHANGES,
    },
    examples: [
      ['hew kill web', 'asks the command of web to end'],
      ['hew kill -s HUP web', 'as `kill -HUP` does for a daemon'],
      ['hew kill -9 --all web', 'ends everything in it, now'],
    ],
    run: async ({options: {signal = 'TERM', all, ...given}, operands}) => {
      const number = signalNumber(signal)
      const targets = named(operands).map(running)
      const title = ['hew kill -s', signal, ...(all ? ['--all'] : []), ...targets.map(({id}) => id)].join(' ')
      if (all) {
        const act = (container: Container) => ({do: 'signal-all', container, number, as: 'hew kill'}) as const
        return done(targets.map(act), title, given)
      }
      const plan = targets.map(target => signalStep(target, number))
      if (await dryRun(plan, () => title, given)) return
      become(plan, {as: 'hew kill', title: 'kill', explain: explained(given)})
    },
  },
  import.meta,
)
