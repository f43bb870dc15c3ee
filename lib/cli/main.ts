import * as path from 'node:path'
import {EXIT, HewError, reason, UsageError} from '../errors.ts'
import {visible} from '../shell.ts'
import {Ended} from '../stdio.ts'
import {COMMON, type Command} from './command.ts'
import {type Options, parse} from './options.ts'
import {write} from './output.ts'

/** Runs one command and ends the process with its status. */
export async function start<O extends Options>(command: Command<O>, words: string[]): Promise<never> {
  return guarded(`hew ${command.name}`, () => prepared(command, words)())
}

/** The words behind a command's name, which is that of a link to hew, or hew's first word. */
export function wordsOf<O extends Options>({name}: Command<O>): string[] {
  return process.argv.slice(path.basename(process.argv0) === name ? 2 : 3)
}

/**
 * A command with its words, to be run.
 * @throws UsageError it does not understand them
 */
export function prepared<O extends Options>(command: Command<O>, words: string[]): () => Promise<void> {
  const given = parse({...command.options, ...COMMON}, words, command.stopEarly)
  return async () => {
    if (given.options.help) write(1, (await import('./help.ts')).help(command))
    else await command.run(given)
  }
}

/** Runs `action` and ends the process with its status. */
export async function guarded(as: string, action: () => void | Promise<void>): Promise<never> {
  process.exit(await outcome(as, async () => action()))
}

/** Runs `action`; whatever it throws becomes lines on stderr and an exit status, never a stack trace. */
export async function outcome(as: string, action: () => Promise<void>): Promise<number> {
  try {
    process.exitCode = 0
    await action()
    return Number(process.exitCode)
  } catch (error) {
    return error instanceof Ended ? error.status : failed(as, error)
  }
}

/** Says what went wrong. @returns the exit status */
export function failed(as: string, error: unknown): number {
  const lines = error instanceof HewError ? error.lines : [reason(error)]
  const advice = error instanceof UsageError ? [`see '${as} --help'`] : []
  try {
    for (const line of [...lines, ...advice]) write(2, `${as}: ${visible(line)}\n`)
  } catch {
    // Nobody is there to be told; the status says it.
  }
  return error instanceof HewError ? error.status : EXIT.hew
}
