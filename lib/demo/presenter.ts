import {setTimeout as sleep} from 'node:timers/promises'
import {isTerminal, write} from '../cli/output.ts'
import {outside} from '../root/outside.ts'

export interface Presenter {
  /** Until a step with so many lines of output has been read. */
  pause(lines: number): Promise<void>
  /** Ctrl-C, or another signal that asks to end. */
  interrupted: AbortSignal
}

/** How long a step stays for itself: some lines are read at a glance. */
const PAUSE_MS = {step: 400, line: 60, most: 1600}

const PROMPT = 'any key goes on, q ends'
const ERASE = '\r\x1b[K'

/** @param watched somebody looks at a terminal, and reads */
export function presenter(watched: boolean, pace: string | undefined): Presenter {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort())
  const interrupted = controller.signal
  const glance = async (lines: number): Promise<void> => {
    const milliseconds = Math.min(PAUSE_MS.step + lines * PAUSE_MS.line, PAUSE_MS.most)
    await sleep(milliseconds, undefined, {signal: interrupted}).catch(() => {})
  }
  if (!watched || pace === 'fast') return {pause: async () => {}, interrupted}
  if (pace === 'step' && isTerminal(0)) return {pause: () => key(controller), interrupted}
  return {pause: glance, interrupted}
}

/** Waits for any key. The terminal passes it on at once only as long as that takes; Ctrl-C stays what it is. */
async function key(controller: AbortController): Promise<void> {
  const $ = (await outside())({stdio: ['inherit', 'pipe', 'pipe'], detached: false})
  const before = (await $`stty -g`).stdout.trim()
  await $`stty -icanon -echo`
  write(1, PROMPT)
  const pressed = $`exec head -c 1`
  const end = (): void => void pressed.child?.kill('SIGTERM')
  controller.signal.addEventListener('abort', end)
  if (controller.signal.aborted) end()
  const {stdout} = await pressed
  controller.signal.removeEventListener('abort', end)
  write(1, ERASE)
  await $`stty ${before}`
  if (stdout === 'q' || stdout === '') controller.abort()
}
