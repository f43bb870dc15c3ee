import {HewError} from '../errors.ts'
import {LESSON, type Step, type Turn} from './lesson.ts'
import {type Lacking, lacking, version} from './machine.ts'
import type {Counts, Page, Who} from './page.ts'
import {type Answer, Terminal} from './terminal.ts'

export interface Manner {
  page: Page
  write(text: string): void
  /** Between two steps: until the first, of so many lines, has been read. */
  pause(lines: number): Promise<void>
  /** What takes long is left out or shortened. */
  fast: boolean
  /** The binary that lines call hew. */
  hew: string
  interrupted: AbortSignal
}

/** The lesson as it goes on. */
interface Going extends Manner {
  here: Lacking
  terminal: Terminal
  counts: Counts
}

/**
 * Shows the whole lesson. What it makes is gone afterwards.
 * @returns whether each line did what it says
 * @throws HewError it was interrupted, or there is nothing to type into
 */
export async function show(manner: Manner): Promise<boolean> {
  const {fast, hew, interrupted, page, write} = manner
  const own = {name: `lesson-${process.pid}`, seconds: fast ? 1 : 2}
  const counts = {right: 0, wrong: 0, unshown: 0}
  const terminal = new Terminal(own, hew, interrupted)
  try {
    const here = await lacking(fast)
    const going: Going = {...manner, here, terminal, counts}
    for (const [i, {title, steps}] of LESSON.entries()) {
      write(page.chapter(i + 1, title))
      for (const [j, step] of steps(own, here).entries()) await one(`${i + 1}.${j + 1}`, step, going)
    }
  } finally {
    await terminal.close()
  }
  const guest = "Limits went through cgroup v1. With v2, in hew's sources: make demo GUEST=1"
  write(page.end(counts, version() === 1 ? guest : ''))
  return counts.wrong === 0
}

async function one(number: string, step: Step, going: Going): Promise<void> {
  const {counts, page, pause, write} = going
  const wrong = counts.wrong
  write(page.step(number, step))
  const hand = await typed('hand', step.hand, going)
  const hew = await typed('hew', step.hew, going)
  const both = step.seen && hand !== undefined && hew !== undefined ? step.seen(hand, hew) : undefined
  if (both) {
    count(counts, both.right)
    write(page.seen(both))
  } else if (counts.wrong === wrong && (hand ?? hew) !== undefined) write(page.done)
  await pause(`${hand}${hew}`.split('\n').length)
  goesOn(going)
}

/** One side of a step. @returns what was printed; undefined where nothing was typed */
async function typed(who: Who, turn: Turn | undefined, going: Going): Promise<string | undefined> {
  if (!turn) return undefined
  const {counts, here, page, terminal, write} = going
  write(page.typed(who, turn))
  const why = turn.needs?.flatMap(need => here(need) ?? [])[0]
  if (why !== undefined) {
    counts.unshown++
    write(page.unshown(why))
    return undefined
  }
  const answer = await terminal.type(who, turn)
  goesOn(going)
  const right = isRight(turn, answer)
  count(counts, right)
  write(page.printed(turn, answer, right))
  return answer.text
}

function isRight({says, not, status = 0}: Turn, answer: Answer): boolean {
  const asked = status === 'any' || answer.status === status
  return asked && says.test(answer.text) && !not?.test(answer.text)
}

function count(counts: Counts, right: boolean): void {
  counts[right ? 'right' : 'wrong']++
}

function goesOn({interrupted}: Manner): void {
  if (interrupted.aborted) throw new HewError('interrupted; what it had made is removed', 130)
}
