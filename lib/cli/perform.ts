import {HewError} from '../errors.ts'
import {explaining} from '../launch.ts'
import {type Plan, refusal} from '../step.ts'
import {write} from './output.ts'

/** What CHANGES (command.ts) gives. */
interface Given {
  'dry-run': boolean
  explain: boolean
}

/** Whether each step is said when it is done. */
export const explained = (given: Given): boolean => given.explain || explaining

/**
 * With --dry-run: prints the plan as a script, and nothing else is to be done.
 * @throws HewError the plan's refusal
 */
export async function dryRun(plan: Plan, title: string, given: Given): Promise<boolean> {
  if (!given['dry-run']) return false
  const why = refusal(plan)
  if (why !== undefined) throw new HewError(why)
  const {script} = await import('../script.ts')
  write(1, script(plan, title))
  return true
}
