import {setTimeout as sleep} from 'node:timers/promises'
import {ReadStream} from 'node:tty'
import {isTerminal, write} from '../cli/output.ts'

export interface Presenter {
  /** Until a step with so many lines of output has been read. */
  pause(lines: number): Promise<void>
  /** Ctrl-C, or another signal that asks to end. */
  interrupted: AbortSignal
  /** Gives the terminal back as it was. */
  close(): void
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
  if (!watched || pace === 'fast') return {pause: async () => {}, interrupted, close: () => {}}
  if (pace === 'step' && isTerminal(0)) return {...keys(controller), interrupted}
  return {pause: glance, interrupted, close: () => {}}
}

/**
 * The terminal passes each key on at once, all the time: one that is pressed while a line runs is not shown among what that prints, and
 * does not skip the next pause.
 */
function keys(controller: AbortController): Pick<Presenter, 'pause' | 'close'> {
  const input = new ReadStream(0)
  let goOn: (() => void) | undefined
  const press = (key: string): void => {
    if (ENDING.includes(key)) controller.abort()
    else if (key === CTRL_Z) {
      // As the terminal's driver would: the whole job stops.
      input.setRawMode(false)
      process.once('SIGCONT', () => {
        input.setRawMode(true)
        if (goOn) write(1, PROMPT)
      })
      process.kill(0, 'SIGTSTP')
    } else goOn?.()
  }
  input.on('data', typed => press(`${typed}`))
  input.on('end', () => controller.abort())
  input.on('error', () => controller.abort())
  controller.signal.addEventListener('abort', () => goOn?.())
  input.setRawMode(true)
  return {
    pause: async () => {
      if (controller.signal.aborted) return
      write(1, PROMPT)
      await new Promise<void>(resolve => {
        goOn = resolve
      })
      goOn = undefined
      write(1, ERASE)
    },
    close: () => {
      input.setRawMode(false)
      input.destroy()
    },
  }
}

const CTRL_Z = '\x1a'
/** q, Ctrl-C, Ctrl-D, Ctrl-\\ */
const ENDING = ['q', '\x03', '\x04', '\x1c']
