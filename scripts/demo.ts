import * as path from 'node:path'
import {command} from '../lib/cli/command.ts'
import {isTerminal, write} from '../lib/cli/output.ts'
import {EXIT, UsageError} from '../lib/errors.ts'
import {packaged} from '../lib/launch.ts'

const PACES = ['step', 'fast'] as const

const options = {
  pace: {
    value: 'PACE',
    choices: PACES,
    help: 'step: wait for a key after each step; fast: leave out what takes long (DEMO=PACE)',
  },
} as const

export default command(
  {
    name: 'demo',
    summary: 'the whole lesson, by hand and with hew, typed and checked',
    usage: '[--pace PACE]',
    description: [
      'Shows what a container is made of, in about a minute: a root and the programs in it, namespaces, cgroups and limits. Each step is typed twice, as a person does it by hand and as hew does it, and what comes of it is checked. It touches nothing but what it makes itself, and removes that, also when it is interrupted.',
      'What takes root, or a program that is not here, is not typed, and the reason is said.',
      'Exit status: 0 when each line did what it says, else 1.',
    ],
    changesNothing: true,
    options,
    examples: [
      ['hew demo', 'the lesson'],
      ['hew demo --pace step', 'at the pace of a class'],
      ['DEMO=fast hew demo | less -R', 'in a few seconds'],
    ],
    run: async ({options: {pace = paceOf(process.env.DEMO)}, operands}) => {
      if (operands.length > 0) throw new UsageError(`${operands[0]}: demo has no operands`)
      const [{show}, {page}, {presenter}] = await Promise.all([
        import('../lib/demo/run.ts'),
        import('../lib/demo/page.ts'),
        import('../lib/demo/presenter.ts'),
      ])
      const terminal = isTerminal(1)
      const columns = Math.min((terminal && process.stdout.columns) || 100, 110)
      const {pause, interrupted, close} = presenter(terminal, pace)
      const right = await show({
        page: page(columns, terminal && !process.env.NO_COLOR),
        write: text => write(1, text),
        pause,
        fast: pace === 'fast',
        hew: packaged ? process.execPath : path.resolve(import.meta.dirname, '../dist/hew'),
        interrupted,
      }).finally(close)
      if (!right) process.exitCode = EXIT.missing
    },
  },
  import.meta,
)

/** DEMO, for make(1). */
function paceOf(word: string | undefined): string | undefined {
  if (word === undefined || word === '') return undefined
  if (PACES.some(pace => pace === word)) return word
  throw new UsageError(`DEMO=${word}: it is one of ${PACES.join(', ')}`)
}
