import {checks, works} from '../lib/check/checks.ts'
import {gather} from '../lib/check/facts.ts'
import {json, text} from '../lib/check/report.ts'
import {command} from '../lib/cli/command.ts'
import {isTerminal, write} from '../lib/cli/output.ts'
import {EXIT, UsageError} from '../lib/errors.ts'
import {end} from '../lib/stdio.ts'

const options = {
  json: {help: 'print it as JSON, for programs'},
} as const

export default command(
  {
    name: 'check',
    summary: 'what can be done on this machine, and what is in the way',
    usage: '[--json]',
    description: [
      'Tries what the other commands need, as the user who calls it: system calls, namespaces, file systems, a whole container, limits, programs. Nothing of that stays. What does not work it explains: what hew cannot do without it, and (->) what to type or to change.',
      'With --json, one object: hew (its version), works (true or false), machine (system, kernel, uid, contained), and checks, a list of: id, group, title, status (fine, limited or missing), needed (whether `hew enter` takes it), found, and, where something is to be said, means and fix. Ids stay as they are; more may come.',
      'Exit status: 0 when `hew enter` works here, 1 when something that it takes is missing.',
    ],
    changesNothing: true,
    options,
    examples: [
      ['hew check', 'what this machine can do'],
      ['hew check --json | grep -o \'"works":[a-z]*\'', 'one thing of it, for a script'],
    ],
    run: ({options: given, operands}) => {
      if (operands.length > 0) throw new UsageError(`${operands[0]}: check has no operands`)
      const facts = gather()
      const all = checks(facts)
      const colour = isTerminal(1) && !process.env.NO_COLOR
      write(1, given.json ? json(facts, all) : text(facts, all, colour))
      if (!works(all)) end(EXIT.missing)
    },
  },
  import.meta,
)
