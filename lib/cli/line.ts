import {UsageError} from '../errors.ts'

const IS_BLANK = /[ \t]/
/** What a shell would do with these where they are not quoted, and `hew -c` does not. */
const REFUSED: [signs: string, why: string][] = [
  ['<>', 'nothing is redirected: a shell does that'],
  ['$`', 'nothing is expanded: a shell does that, or quote it'],
  ['*?[', 'names of files are not expanded: a shell does that, or quote it'],
  ['{}', 'braces are not expanded: quote it'],
  ['&;\n', 'it is one pipe of commands: a shell runs several'],
  ['()', 'there are no subshells: a shell has them'],
]
const AT_BEGINNING: [signs: string, why: string][] = [
  ['~', 'home directories are not expanded: a shell does that, or quote it'],
  ['#', 'there are no comments: quote it'],
]

/**
 * The commands of a pipe, as sh(1) splits them into words: blanks, quotes, backslashes.
 * @throws UsageError what a shell would do more, a quote that does not end, a command that is missing
 */
export function commandsOf(line: string): string[][] {
  const commands: string[][] = [[]]
  let word: string | undefined
  let at = 0

  const endWord = (): void => {
    if (word !== undefined) commands.at(-1)!.push(word)
    word = undefined
  }
  /** Up to the quote's end, with what a backslash makes literal there. */
  const quoted = (quote: string): string => {
    const from = at
    let text = ''
    for (at++; line[at] !== quote; at++) {
      if (at >= line.length) throw new UsageError(`-c: the ${quote} of ${line.slice(from)} has no end`)
      if (quote === '"' && /[$`]/.test(line[at]!)) throw refused(line, at, REFUSED[1]![1])
      const escaped = quote === '"' && line[at] === '\\' && /[$`"\\\n]/.test(line[at + 1] ?? '')
      if (escaped) at++
      if (!escaped || line[at] !== '\n') text += line[at]
    }
    return text
  }

  for (; at < line.length; at++) {
    const sign = line[at]!
    if (IS_BLANK.test(sign)) endWord()
    else if (
      sign === '\n' &&
      (line.slice(at).trim() === '' || (word === undefined && commands.at(-1)!.length === 0))
    )
      endWord()
    else if (sign === '|') {
      if (/[|&]/.test(line[at + 1] ?? '')) throw refused(line, at, REFUSED[4]![1])
      endWord()
      commands.push([])
    } else if (sign === '"' || sign === "'") word = (word ?? '') + quoted(sign)
    else if (sign === '\\' && line[at + 1] === '\n') at++
    else if (sign === '\\' && at + 1 < line.length) word = (word ?? '') + line[++at]
    else {
      const why =
        reasonAgainst(sign, REFUSED) ?? (word === undefined ? reasonAgainst(sign, AT_BEGINNING) : undefined)
      if (why !== undefined) throw refused(line, at, why)
      word = (word ?? '') + sign
    }
  }
  endWord()
  if (commands.some(words => words.length === 0))
    throw new UsageError(
      commands.length > 1 ? '-c: a command is missing beside a |' : '-c: there is no command in it',
    )
  return commands
}

function reasonAgainst(sign: string, table: [signs: string, why: string][]): string | undefined {
  return table.find(([signs]) => signs.includes(sign))?.[1]
}

function refused(line: string, at: number, why: string): UsageError {
  return new UsageError(
    `-c: ${JSON.stringify(line[at])} at ${JSON.stringify(line.slice(at, at + 20))}: ${why}`,
  )
}
