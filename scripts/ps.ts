import {command} from '../lib/cli/command.ts'
import type {Values} from '../lib/cli/options.ts'
import {isTerminal, write} from '../lib/cli/output.ts'
import {awaited} from '../lib/cli/patience.ts'
import {type Container, containers} from '../lib/containers/state.ts'
import {UsageError} from '../lib/errors.ts'
import {chosen, namedBy} from '../lib/ps/choose.ts'
import {json} from '../lib/ps/json.ts'
import {snapshot} from '../lib/ps/snapshot.ts'
import {text} from '../lib/ps/text.ts'
import {visible} from '../lib/shell.ts'
import {readsPipe} from '../lib/stdio.ts'

const options = {
  all: {short: 'a', help: 'the processes that are in no container, too'},
  json: {help: 'print JSON, in a terminal too'},
  watch: {short: 'w', help: 'show them again every second, with keys to sort, filter, freeze and kill'},
  'no-trunc': {help: 'lines as long as they are, and not as wide as the terminal'},
} as const

type Given = Values<typeof options>

export default command(
  {
    name: 'ps',
    summary: 'show containers: their state, limits, use, and processes',
    usage: '[OPTIONS] [NAME|PID...]',
    description: [
      'Containers that hew made, and processes that were isolated by hand: those with a PID namespace of their own, or with a mount namespace and a root of their own. A PID is that of any process in a container. Behind a pipe it shows the container whose state document comes through.',
      'INSIDE and USER are the PID and the user as the container itself sees them, %CPU is over the whole life of the process.',
    ],
    changesNothing: true,
    options,
    examples: [
      ['hew ps', 'every container'],
      ['hew ps web --no-trunc', 'one, with all of its command lines'],
      ['hew ps --watch', 'how they fare, until q'],
      ['hew ps | jq .containers[].memoryBytes', 'JSON in a pipe: README tells its fields'],
    ],
    run: async ({options: given, operands}) =>
      show(given, operands.length > 0 || !readsPipe() ? operands : await namedBy(awaited())),
  },
  import.meta,
)

async function show(given: Given, words: string[]): Promise<void> {
  if (given.json && given['no-trunc']) throw new UsageError('--no-trunc: JSON is never cut')
  if (given.watch) {
    if (given.json || given['no-trunc']) throw new UsageError('--watch fills a screen: leave the others out')
    return (await import('../lib/ps/watch.ts')).watch(words, given.all)
  }
  const known = await alive()
  const found = chosen(snapshot(known, given.all), words)
  const terminal = isTerminal(1)
  const columns = given['no-trunc'] ? Number.POSITIVE_INFINITY : terminal ? process.stdout.columns || 80 : 80
  write(1, given.json || !terminal ? json(found) : text(found, columns))
}

/** The containers that have a state, without those that died; what is wrong with the others is said. */
async function alive(): Promise<Container[]> {
  let found = containers()
  if (found.containers.some(({life}) => life === 'dead')) {
    const {sweep} = await import('../lib/containers/sweep.ts')
    sweep()
    found = containers()
  }
  for (const {why} of found.broken) write(2, `hew ps: ${visible(why)}\n`)
  return found.containers
}
