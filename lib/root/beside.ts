import {HewError} from '../errors.ts'
import {encoded, type Streaming, stream} from '../stage.ts'
import {type Plan, refusal} from '../step.ts'
import {entryWords} from './archive.ts'
import {debootstrap} from './debootstrap.ts'

/**
 * Carries out a plan with steps that the stage cannot do alone: an archive is read, or another program run, beside it.
 * @returns the stage's exit status
 * @throws HewError the plan's refusal, or what went wrong here; then the stage has undone everything
 */
export function carryOutBeside(plan: Plan, as: string, title: string): Promise<number> {
  const why = refusal(plan)
  if (why !== undefined) throw new HewError(why)
  return stream(streaming => wordsOf(plan, streaming), as, title)
}

async function* wordsOf(plan: Plan, streaming: Streaming): AsyncGenerator<Buffer> {
  for (const step of plan) {
    if (step.do === 'unpack') yield* entryWords(step.archive, streaming.signal)
    else if (step.do === 'debootstrap') await debootstrap(step, streaming)
    else yield encoded([step])
  }
}
