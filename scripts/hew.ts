import * as path from 'node:path'
import {load, loadAll, names} from '../lib/cli/commands.ts'
import {guarded, start, wordsOf} from '../lib/cli/main.ts'
import {write} from '../lib/cli/output.ts'
import {UsageError} from '../lib/errors.ts'
import {version} from '../lib/launch.ts'
import {nearest} from '../lib/nearest.ts'

/** Options of hew itself, before any command. */
const own: Record<string, {help: string; run(): Promise<string>}> = {
  help: {help: 'show this help', run: overview},
  version: {help: 'print the version', run: async () => `hew ${version}\n`},
  licenses: {
    help: 'print the licences of all that the binary carries',
    run: async () => (await import('../lib/licenses.ts')).licenses(),
  },
}

const LINE = "run the commands of a pipe in one process, with its start paid once: hew -c 'mkroot | enter'"

async function overview(): Promise<string> {
  const {columns} = await import('../lib/cli/help.ts')
  const rows = (await loadAll()).map(({name, summary}): [string, string] => [name, summary])
  return [
    'hew: Linux containers by hand',
    '',
    '  hew mkroot | hew enter                                     a shell in a new root',
    "  hew mkroot --empty | hew copy-deps bash ls | hew enter     the lesson's first one",
    '  hew mkroot | hew limit --memory 80M --pids 3 | hew enter   with limits',
    '',
    'Commands, in the order of the lesson:',
    columns(rows, 16),
    '',
    'Options:',
    columns(
      [
        ['-c LINE', LINE],
        ...Object.entries(own).map(([name, {help}]): [string, string] => [`--${name}`, help]),
      ],
      16,
    ),
    '',
    "'hew help COMMAND' tells more. Linked to a command's name, hew is that command: 'hew help link'.",
    '',
  ].join('\n')
}

async function main(): Promise<void> {
  const words = process.argv.slice(2)
  const called = await load(path.basename(process.argv0))
  if (called) return start(called, wordsOf(called))
  const [word, ...rest] = words
  if (word === '-c') return guarded('hew', () => piped(rest))
  const named = word === undefined ? undefined : await load(word)
  if (named) return start(named, wordsOf(named))
  return guarded('hew', () => itself(word, rest))
}

/** Several commands in one process. */
async function piped(lines: string[]): Promise<void> {
  if (lines.length !== 1) throw new UsageError("-c takes one word: hew -c 'mkroot | enter'")
  await (await import('../lib/cli/pipeline.ts')).pipeline(lines[0]!)
}

async function itself(word: string | undefined, rest: string[]): Promise<void> {
  if (word === undefined) return write(1, await overview())
  if (word === 'help' && rest[0] !== undefined) {
    const named = await load(rest[0])
    if (!named) throw unknown('command', rest[0], names)
    const {help} = await import('../lib/cli/help.ts')
    return write(1, help(named))
  }
  const option = word === '-h' ? 'help' : word.replace(/^--/, '')
  if ((word.startsWith('-') || word === 'help') && Object.hasOwn(own, option))
    return write(1, await own[option]!.run())
  throw word.startsWith('-')
    ? unknown(
        'option',
        word,
        Object.keys(own).map(name => `--${name}`),
      )
    : unknown('command', word, names)
}

function unknown(what: string, word: string, known: string[]): UsageError {
  const meant = nearest(word, known)
  return new UsageError(`unknown ${what} ${word}${meant ? `: did you mean ${meant}?` : ''}`)
}

void main()
