import type {Act, Tally} from '../act.ts'
import {HewError} from '../errors.ts'
import {explaining} from '../launch.ts'
import {lines, type Plan, refusal} from '../step.ts'
import {write} from './output.ts'

/** What CHANGES (command.ts) gives. */
export interface Given {
  'dry-run': boolean
  explain: boolean
}

/** Whether each step is said when it is done. */
export const explained = (given: Given): boolean => given.explain || explaining

/**
 * With --dry-run: prints the plan as a script, and nothing else is to be done.
 * @throws HewError the plan's refusal
 */
export async function dryRun(plan: Plan, title: () => string, given: Given): Promise<boolean> {
  if (!given['dry-run']) return false
  const why = refusal(plan)
  if (why !== undefined) throw new HewError(why)
  const {script} = await import('../script.ts')
  write(1, script(plan, title()))
  return true
}

/** For perform() of act.ts: says each line, where that is asked for. */
export function telling(as: string, given: Given): ((line: string) => void) | undefined {
  return explained(given) ? line => write(2, `${as}: ${line}\n`) : undefined
}

/** Acts as a script. @param document what it prints at the end, as the command does in a pipe */
export async function dryActs(acts: Act[], title: string, document?: string): Promise<void> {
  const [{scriptOf}, {actLines}] = await Promise.all([import('../script.ts'), import('../act.ts')])
  const passedOn = document === undefined ? [] : lines([{do: 'print', text: document}])
  write(1, scriptOf([...actLines(acts), ...passedOn], title))
}

/** Does the acts of a command that prints nothing, or prints them as a script. */
export async function done(acts: Act[], title: string, given: Given): Promise<void> {
  await counted(acts, title, given)
}

/** The same, with what was counted; undefined when nothing was done. */
export async function counted(acts: Act[], title: string, given: Given): Promise<Tally | undefined> {
  if (given['dry-run']) {
    await dryActs(acts, title)
    return undefined
  }
  const {perform} = await import('../act.ts')
  return perform(acts, telling(title.split(' ', 2).join(' '), given))
}
