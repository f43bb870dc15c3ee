import {isSame, type Screen, SORTS, type Target, type View} from './screen.ts'

/** What a key asks for beyond another view. */
export type Action =
  | {do: 'quit' | 'stop'}
  | {do: 'freeze' | 'thaw'; target: Target}
  | {do: 'kill'; target: Target; whole: boolean; start: number | undefined}

/** What the terminal sends, in keys: a sequence that begins with ESC is one of them. */
export function keysOf(typed: string): string[] {
  return typed.match(/\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|[\s\S]/gu) ?? []
}

/** Steps of the cursor, by the sequences of xterm and of the Linux console. */
const MOVES: Record<string, number> = {
  '\x1b[A': -1,
  '\x1bOA': -1,
  '\x1b[B': 1,
  '\x1bOB': 1,
  '\x1b[5~': -10,
  '\x1b[6~': 10,
  '\x1b[H': Number.NEGATIVE_INFINITY,
  '\x1b[F': Number.POSITIVE_INFINITY,
}

const INTERVALS = [0.5, 1, 2, 5, 10]

/**
 * What a key changes.
 * @param startOf when a process that can be selected was started: what is killed later must still be that one
 */
export function press(
  key: string,
  view: View,
  {targets}: Pick<Screen, 'targets'>,
  startOf: (target: Target) => number | undefined,
): {view: View; action?: Action} {
  if (key === '\x03') return {view, action: {do: 'quit'}}
  if (key === '\x1a') return {view, action: {do: 'stop'}}
  const calm = {...view, message: ''}
  if (view.typing) return {view: typed(key, calm)}
  if (view.asking) {
    const {asking} = view
    const done = {...calm, asking: undefined}
    return key === 'y' ? {view: done, action: {do: 'kill', ...asking}} : {view: done}
  }
  if (view.help) return {view: {...calm, help: false}}
  const selected = targets.find(target => isSame(target, view.selected)) ?? targets[0]
  const step = MOVES[key]
  if (step !== undefined) {
    const at = selected ? targets.indexOf(selected) : 0
    return {view: {...calm, selected: targets[Math.max(0, Math.min(targets.length - 1, at + step))]}}
  }
  return command(key, {...calm, selected}, startOf)
}

function typed(key: string, view: View): View {
  if (key === '\r' || key === '\n') return {...view, typing: false}
  if (key === '\x1b') return {...view, typing: false, filter: ''}
  if (key === '\x7f' || key === '\b') return {...view, filter: [...view.filter].slice(0, -1).join('')}
  return key < ' ' || key.length > 2 ? view : {...view, filter: view.filter + key}
}

function command(
  key: string,
  view: View,
  startOf: (target: Target) => number | undefined,
): {view: View; action?: Action} {
  const {selected: target} = view
  const at = INTERVALS.indexOf(view.interval)
  switch (key) {
    case 'q':
      return {view, action: {do: 'quit'}}
    case '?':
    case 'h':
      return {view: {...view, help: true}}
    case '/':
      return {view: {...view, typing: true}}
    case 's':
      return {view: {...view, sort: SORTS[(SORTS.indexOf(view.sort) + 1) % SORTS.length]!}}
    case '+':
      return {view: {...view, interval: INTERVALS[at - 1] ?? view.interval}}
    case '-':
      return {view: {...view, interval: INTERVALS[at + 1] ?? view.interval}}
  }
  if (!target || !'ftkK'.includes(key)) return {view}
  if (target.key === '' && key !== 'k') return {view: {...view, message: 'that process is in no container'}}
  if (key === 'f' || key === 't') return {view, action: {do: key === 'f' ? 'freeze' : 'thaw', target}}
  const whole = key === 'K' || target.pid === undefined
  return {view: {...view, asking: {target, whole, start: startOf(target)}}}
}
