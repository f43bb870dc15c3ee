import * as path from 'node:path'
import type {Command} from '../lib/cli/command.ts'
import {guarded, start} from '../lib/cli/main.ts'
import {write} from '../lib/cli/output.ts'
import {UsageError} from '../lib/errors.ts'
import {version} from '../lib/launch.ts'
import {nearest} from '../lib/nearest.ts'

/** Every command, by the name of its file; only the one that is asked for is loaded. */
// biome-ignore lint/suspicious/noExplicitAny: each command has a table of its own type
const commands: Record<string, () => Promise<{default: Command<any>}>> = {
  check: () => import('./check.ts'),
  mkroot: () => import('./mkroot.ts'),
  'copy-deps': () => import('./copy-deps.ts'),
  'cgroup-init': () => import('./cgroup-init.ts'),
  limit: () => import('./limit.ts'),
  ps: () => import('./ps.ts'),
  enter: () => import('./enter.ts'),
  kill: () => import('./kill.ts'),
  freeze: () => import('./freeze.ts'),
  thaw: () => import('./thaw.ts'),
  wait: () => import('./wait.ts'),
  logs: () => import('./logs.ts'),
  rm: () => import('./rm.ts'),
  link: () => import('./link.ts'),
}

/** The names that links to the binary may have. */
export const names = Object.keys(commands)

async function load(name: string): Promise<Command> {
  return (await commands[name]!()).default
}

/** Options of hew itself, before any command. */
const own: Record<string, {help: string; run(): Promise<string>}> = {
  help: {help: 'show this help', run: overview},
  version: {help: 'print the version', run: async () => `hew ${version}\n`},
  licenses: {
    help: 'print the licences of all that the binary carries',
    run: async () => (await import('../lib/licenses.ts')).licenses(),
  },
}

async function overview(): Promise<string> {
  const {columns} = await import('../lib/cli/help.ts')
  const rows = await Promise.all(
    names.map(async name => [name, (await load(name)).summary] as [string, string]),
  )
  return [
    'hew: Linux containers by hand',
    '',
    '  hew mkroot | hew enter',
    '  hew mkroot /my-new-root --empty | hew copy-deps bash ls | hew enter',
    '',
    'Commands:',
    columns(rows, 16),
    '',
    'Options:',
    columns(
      Object.entries(own).map(([name, {help}]) => [`--${name}`, help]),
      16,
    ),
    '',
    "'hew help COMMAND' tells more. Linked to a command's name, hew is that command: 'hew help link'.",
    '',
  ].join('\n')
}

async function main(): Promise<void> {
  const called = path.basename(process.argv0)
  const words = process.argv.slice(2)
  if (called in commands) return start(await load(called), words)
  const [word, ...rest] = words
  if (word !== undefined && Object.hasOwn(commands, word)) return start(await load(word), rest)
  return guarded('hew', () => itself(word, rest))
}

async function itself(word: string | undefined, rest: string[]): Promise<void> {
  if (word === undefined) return write(1, await overview())
  if (word === 'help' && rest[0] !== undefined) {
    if (!Object.hasOwn(commands, rest[0])) throw unknown('command', rest[0], names)
    const {help} = await import('../lib/cli/help.ts')
    return write(1, help(await load(rest[0])))
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
