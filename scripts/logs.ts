import {command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {isTerminal, NobodyReads, write} from '../lib/cli/output.ts'
import {logOf} from '../lib/containers/log.ts'
import {UsageError} from '../lib/errors.ts'
import {visible} from '../lib/shell.ts'

/** What a shell reports for who was ended by SIGPIPE, as cat(1) is. */
const BROKEN_PIPE = 128 + 13

export default command(
  {
    name: 'logs',
    summary: 'what a detached container has written',
    usage: '[-f] [--raw] NAME|PID',
    description: [
      'Prints what the command of a detached container has written to its stdout and stderr; of a long log, what is left of it.',
      'In a terminal control characters are shown and not sent, since the container could make the terminal do things; --raw sends them. A pipe or a file gets every byte as it was written.',
    ],
    changesNothing: true,
    options: {
      follow: {short: 'f', help: 'go on with what it writes, until it ends'},
      raw: {help: 'control characters to the terminal, too: only for a container that you trust'},
    },
    examples: [
      ['hew logs web', 'so far'],
      ['hew logs -f web | grep -i error', 'as it comes'],
    ],
    run: async ({options: {follow, raw}, operands}) => {
      if (operands.length > 1) throw new UsageError('one NAME at a time')
      const shown = isTerminal(1) && !raw
      const decoder = new TextDecoder()
      const lines = (bytes: Uint8Array): string =>
        decoder.decode(bytes, {stream: true}).replace(/[^\n\t]+/g, visible)
      try {
        for await (const bytes of logOf(named(operands)[0]!, follow)) write(1, shown ? lines(bytes) : bytes)
      } catch (error) {
        if (!(error instanceof NobodyReads)) throw error
        process.exitCode = BROKEN_PIPE
      }
    },
  },
  import.meta,
)
