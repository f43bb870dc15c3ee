import type {Options, Parsed} from './options.ts'

/** A command as its file in scripts/ states it: the table, and what it does. */
export interface Command<O extends Options = Options> {
  name: string
  /** One line, for `hew --help`. */
  summary: string
  /** What follows the name, e.g. `[OPTIONS] [DIR]`. */
  usage: string
  /** Paragraphs for `hew help NAME`. */
  description: string[]
  options: O
  /** Whatever it does, nothing is another afterwards. Every other command has the options CHANGES. */
  changesNothing?: true
  /** Options end at the first operand, since a command with options of its own follows. */
  stopEarly?: true
  /** A line to type, and what it does. */
  examples: [line: string, does: string][]
  run(given: Parsed<O>): void | Promise<void>
}

/** Options that every command has. */
export const COMMON = {
  help: {short: 'h', help: 'show this help'},
} as const

/** Options of the commands that print a document. */
export const OUTPUT = {
  json: {help: 'print the document, in a terminal too'},
  quiet: {short: 'q', help: 'print the path of the root alone'},
} as const

/** Options of the commands that change something. */
export const CHANGES = {
  'dry-run': {help: 'change nothing: print a script for sh that does the same'},
  explain: {help: 'say each step as a line of a shell when it is done, and what came of it (HEW_EXPLAIN=1)'},
} as const

/** States a command; `tsx scripts/NAME.ts` runs it without packaging. */
export function command<const O extends Options>(stated: Command<O>, meta: ImportMeta): Command<O> {
  // In the binary there is no import.meta.url: scripts/hew.ts is the one entry there.
  if (meta.url && process.argv[1] === new URL(meta.url).pathname)
    void import('./main.ts').then(main => main.start(stated, process.argv.slice(2)))
  return stated
}
