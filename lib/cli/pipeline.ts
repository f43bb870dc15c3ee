import {EXIT, UsageError} from '../errors.ts'
import {connect} from '../stdio.ts'
import type {Command} from './command.ts'
import {load} from './commands.ts'
import {commandsOf} from './line.ts'
import {failed, outcome, prepared} from './main.ts'

/**
 * `hew -c LINE`: the commands of a pipe, one after the other in this process, each reading what the one before has printed. As
 * in a shell each runs whatever became of the others, and the last one's exit status counts. Only a command line that cannot
 * be understood stops them all, before the first.
 */
export async function pipeline(line: string): Promise<never> {
  const runs: {as: string; run: () => Promise<void>}[] = []
  let wrong = false
  for (const words of commandsOf(line)) {
    const [name, ...rest] = words[0] === 'hew' ? words.slice(1) : words
    const command = await known(name)
    try {
      runs.push({as: `hew ${command.name}`, run: prepared(command, rest)})
    } catch (error) {
      wrong = true
      failed(`hew ${command.name}`, error)
    }
  }
  if (wrong) process.exit(EXIT.usage)
  let input: Buffer | undefined
  let status = 0
  for (const [i, {as, run}] of runs.entries()) {
    const output: Buffer[] = []
    connect(input, i < runs.length - 1 ? output : undefined)
    status = await outcome(as, run)
    input = Buffer.concat(output)
  }
  process.exit(status)
}

async function known(name = ''): Promise<Command> {
  const command = await load(name)
  if (command) return command
  throw new UsageError(
    `-c: there is no command ${name || 'behind hew'}: it runs hew's own, and a shell runs others`,
  )
}
