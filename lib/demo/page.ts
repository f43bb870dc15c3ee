import {visible} from '../shell.ts'
import type {Seen, Step, Turn} from './lesson.ts'
import type {Answer} from './terminal.ts'

/** How the lesson looks: a gutter that says who typed, and beside it what. */
export interface Page {
  chapter(number: number, title: string): string
  step(number: string, step: Step): string
  /** The line as it is typed, before it runs. */
  typed(who: Who, turn: Turn): string
  /** What came of it, and, where it is not what should have, what should. */
  printed(turn: Turn, answer: Answer, right: boolean): string
  unshown(why: string): string
  seen(seen: Seen): string
  /** Of a step that did what it should. */
  done: string
  end(counts: Counts, more: string): string
}

export type Who = 'hand' | 'hew'

export interface Counts {
  right: number
  wrong: number
  unshown: number
}

const LABELS: Record<Who, string> = {hand: 'by hand', hew: 'hew'}
const GUTTER = 11
const MOST = 12

/** What hew says is read to its end, where the advice is; of a wide table the beginning will do. */
const MESSAGE = /^hew [\w-]+: /

const STYLES = {bold: 1, dim: 2, red: 31, green: 32, cyan: 36} as const

/** @param columns how wide a line of output may become; @param colour whether styles are written */
export function page(columns: number, colour: boolean): Page {
  const styled = (style: keyof typeof STYLES, text: string): string =>
    colour && text !== '' ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text
  const label = (text: string): string => styled('dim', text.padStart(GUTTER - 2))
  const indent = ' '.repeat(GUTTER)
  const width = Math.max(columns - GUTTER, 40)
  const verdict = (right: boolean, text = ''): string =>
    `${' '.repeat(GUTTER - 2)}${right ? styled('green', '✓') : styled('red', '✗')} ${right ? styled('dim', text) : styled('red', text)}\n`
  return {
    chapter: (number, title) => `\n${styled('bold', `${number}  ${title}`)}\n${'─'.repeat(columns)}\n`,
    step: (number, {title, why}) =>
      `\n${styled('dim', number.padEnd(4))} ${styled('bold', title)}\n${folded(why, columns - 5)
        .map(line => `     ${styled('dim', line)}\n`)
        .join('')}`,
    typed: (who, {line}) =>
      line
        .split('\n')
        .flatMap((text, i) => typedLines(i === 0 ? `$ ${text}` : `  ${text}`, width))
        .map((text, i) => `${i === 0 ? `${label(LABELS[who])}  ` : indent}${styled('cyan', text)}\n`)
        .join(''),
    printed: ({most = MOST, says, not, status: expected = 0}, {text, status}, right) => {
      const lines = plain(text)
      const shown = lines.length > most + 1 ? lines.slice(0, most) : lines
      const left = lines.length - shown.length
      return [
        ...(right ? shown : lines)
          .flatMap(line => (MESSAGE.test(line) ? folded(line, width) : [cut(line, width)]))
          .map(line => `${indent}${line}`.trimEnd().concat('\n')),
        ...(right && left > 0 ? [`${indent}${styled('dim', `… ${left} more lines`)}\n`] : []),
        ...(status === 0 ? [] : [`${indent}${styled('dim', `exit status ${status}`)}\n`]),
        ...(right
          ? []
          : [verdict(false, `not as it should be: ${says}${not ? `, not ${not}` : ''}, ${expected}`)]),
      ].join('')
    },
    unshown: why => `${indent}${styled('dim', `not typed: ${why}`)}\n`,
    seen: ({right, text}) => verdict(right, text),
    done: verdict(true),
    end: ({right, wrong, unshown}, more) =>
      [
        `\n${'─'.repeat(columns)}\n`,
        verdict(
          wrong === 0,
          wrong === 0
            ? `${right} lines did what they say`
            : `${wrong} of ${right + wrong} lines did not do what they say`,
        ),
        ...(unshown > 0
          ? [`${indent}${styled('dim', `not typed, for the reasons above: ${unshown}`)}\n`]
          : []),
        ...(more === '' ? [] : [`${indent}${more}\n`]),
      ].join(''),
  }
}

/** What was printed, as lines, with nothing in them that moves a cursor. */
function plain(text: string): string[] {
  const lines = text.replaceAll('\r', '').replaceAll('\t', '    ').trimEnd().split('\n')
  return lines.length === 1 && lines[0] === '' ? [] : lines.map(visible)
}

function cut(line: string, width: number): string {
  return line.length > width ? `${line.slice(0, width - 1)}…` : line
}

/** A line that is too long goes on further to the right, as an editor shows it. */
function typedLines(line: string, width: number): string[] {
  const [, margin = '', text = ''] = /^([$ ] *)(.*)$/.exec(line) ?? []
  const deeper = ' '.repeat(margin.length + 4)
  return folded(text, width - deeper.length).map((part, i) => (i === 0 ? margin : deeper) + part)
}

function folded(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}
