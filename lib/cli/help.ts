import {COMMON, type Command} from './command.ts'
import type {Option, Options} from './options.ts'

const WIDTH = 80

/** Breaks text into lines of at most 80 columns, each with the indent before it. */
export function wrap(text: string, indent = ''): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(indent + line)
      line = word
    } else line = line ? `${line} ${word}` : word
  }
  return [...lines, indent + line].join('\n')
}

/** How an option is written: `-r, --root ROOT`. */
export function written(name: string, option: Option): string {
  const short = option.short ? `-${option.short}, ` : '    '
  return `${short}--${name}${option.value ? ` ${option.value}` : ''}`
}

/** Two columns; text that does not fit beside its term goes below it. */
export function columns(rows: [term: string, text: string][], width = 26): string {
  return rows
    .map(([term, text]) => {
      const lines = wrap(text, ' '.repeat(width)).slice(width)
      return term.length + 4 > width
        ? `  ${term}\n${' '.repeat(width)}${lines}`
        : `  ${term.padEnd(width - 2)}${lines}`
    })
    .join('\n')
}

/** `hew help NAME`. */
export function help<O extends Options>(command: Command<O>): string {
  const options = Object.entries({...command.options, ...COMMON} as Options)
  return [
    `hew ${command.name}: ${command.summary}`,
    '',
    `  hew ${command.name} ${command.usage}`,
    '',
    ...command.description.flatMap(paragraph => [wrap(paragraph), '']),
    'Options:',
    columns(options.map(([name, option]) => [written(name, option), option.help])),
    '',
    'Examples:',
    ...command.examples.map(([line, does]) => `  ${line}\n      ${does}`),
    '',
  ].join('\n')
}
