import {EXIT, HewError, reason, UsageError} from '../errors.ts'
import {visible} from '../shell.ts'
import {COMMON, type Command} from './command.ts'
import {type Options, parse} from './options.ts'
import {write} from './output.ts'

/** Runs one command and ends the process with its status. */
export async function start<O extends Options>(command: Command<O>, words: string[]): Promise<never> {
  return guarded(`hew ${command.name}`, async () => {
    const given = parse({...command.options, ...COMMON}, words, command.stopEarly)
    if (given.options.help) write(1, (await import('./help.ts')).help(command))
    else await command.run(given)
  })
}

/** Runs `action`; whatever it throws becomes lines on stderr and an exit status, never a stack trace. */
export async function guarded(as: string, action: () => void | Promise<void>): Promise<never> {
  try {
    await action()
  } catch (error) {
    process.exit(failed(as, error))
  }
  process.exit()
}

function failed(as: string, error: unknown): number {
  const message = error instanceof HewError ? error.message : reason(error)
  const advice = error instanceof UsageError ? [`see '${as} --help'`] : []
  try {
    for (const line of [...message.split('\n'), ...advice]) write(2, `${as}: ${visible(line)}\n`)
  } catch {
    // Nobody is there to be told; the status says it.
  }
  return error instanceof HewError ? error.status : EXIT.hew
}
