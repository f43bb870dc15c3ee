import minimist from 'minimist'
import {UsageError} from '../errors.ts'
import {nearest} from '../nearest.ts'

/** One option of a command. From this table come the parser, the help, the completion and the man page. */
export interface Option {
  /** The one-letter form, without its dash. */
  short?: string
  /** Values that may stand behind a dash alone, as kill(1) takes `-9` and `-HUP`. */
  bare?: RegExp
  /** What the value is called in the help, e.g. `DIR`; an option without it is a switch. */
  value?: string
  /** May be given more than once. */
  many?: true
  /** One line for the help. */
  help: string
  /** The values there are, for checking and completion. */
  choices?: readonly string[]
}

export type Options = Record<string, Option>

/** What a table's options come out as. */
export type Values<O extends Options> = {
  [K in keyof O]: O[K] extends {many: true}
    ? string[]
    : O[K] extends {value: string}
      ? string | undefined
      : boolean
}

export interface Parsed<O extends Options> {
  options: Values<O>
  operands: string[]
}

/**
 * Parses a command line against its table.
 * @param stopEarly options end at the first operand, as with env(1) and chroot(1)
 * @throws UsageError an unknown option, a missing or unwanted value, an option given twice, an operand that is empty
 */
export function parse<O extends Options>(table: O, words: string[], stopEarly = false): Parsed<O> {
  const names = Object.keys(table)
  const valued = names.filter(name => table[name]!.value !== undefined)
  const settings = {
    // Switches as well, or minimist looks whether they are numbers, by two expressions that are compiled for it. In `-ab` they come out as ''.
    string: ['_', ...names],
    boolean: names.filter(name => !valued.includes(name)),
    alias: Object.fromEntries(
      names.flatMap(name => (table[name]!.short ? [[name, table[name]!.short!]] : [])),
    ),
    stopEarly,
    '--': true,
    unknown: (word: string) => {
      if (!word.startsWith('-') || word === '-') return true
      throw unknownOption(word, names)
    },
  }
  const parsed = split(spelledOut(words, table), settings, names)
  const operands = stopEarly ? tail(words, parsed._.length) : [...parsed._, ...(parsed['--'] ?? [])]
  if (!stopEarly && operands.includes(''))
    throw new UsageError('one of the words is empty: a variable that is not set?')
  const given = words.slice(0, words.length - operands.length)
  const options: Record<string, string | string[] | boolean | undefined> = {}
  for (const name of names) options[name] = read(name, table[name]!, parsed[name], given)
  return {options: options as Values<O>, operands}
}

/** Before a value that begins with a dash, and never in a word of a command line. */
const VALUE = '\0'

/**
 * Words that leave minimist no doubt, as many as there are: it takes `--no-x` for the contrary of `--x`, where it may be a switch of its own, and
 * a `true` behind a switch for its value, where it is a program. And `-m80M` is `--memory=80M`, as getopt(3) has it, `-9` is `--signal=9`, where
 * the table says so, and `-3` behind `--pids` its value, which is wrong.
 */
function spelledOut(words: string[], table: Options): string[] {
  const end = words.indexOf('--')
  const takesValue = (word = ''): boolean =>
    Object.entries(table).some(([name, option]) => option.value !== undefined && isNamed(word, name, option))
  return words.map((word, i) => {
    if (!word.startsWith('-') || (end >= 0 && i > end)) return word
    if ('0123456789'.includes(word[1] ?? '-') && takesValue(words[i - 1])) return VALUE + word
    for (const [name, option] of Object.entries(table)) {
      const {short, value, bare} = option
      if (value === undefined && isNamed(word, name, option)) return `--${name}=true`
      if (bare?.test(word.slice(1))) return `--${name}=${word.slice(1)}`
      const joined = word.length > 2 && word[2] !== '='
      if (value !== undefined && short === word[1] && joined && !(word.slice(1) in table))
        return `--${name}=${word.slice(2)}`
    }
    return word
  })
}

const isNamed = (word: string, name: string, {short}: Option): boolean =>
  word === `--${name}` || (short !== undefined && word === `-${short}`)

function split(words: string[], settings: minimist.Opts, names: string[]): minimist.ParsedArgs {
  try {
    return minimist(words, settings)
  } catch (error) {
    // minimist keeps options in a plain object and stumbles over the names that this inherits: --constructor.
    const stumble = words.find(
      word => word.startsWith('--') && word.replace(/^--|=.*/gs, '') in Object.prototype,
    )
    throw error instanceof UsageError || stumble === undefined ? error : unknownOption(stumble, names)
  }
}

/** The words from the first operand on: minimist takes away a `--` that belongs to the command behind it. */
function tail(words: string[], before: number): string[] {
  const dashes = words.indexOf('--')
  if (dashes < 0) return words.slice(words.length - before)
  return before > 0 ? words.slice(dashes - before) : words.slice(dashes + 1)
}

function unknownOption(word: string, names: string[]): UsageError {
  const name = word.replace(/=.*/s, '')
  const given = name.replace(/^-+/, '')
  const meant = nearest(given, names) ?? names.find(known => given.length > 1 && known.startsWith(given))
  return new UsageError(`unknown option ${name}${meant ? `: did you mean --${meant}?` : ''}`)
}

function read(
  name: string,
  option: Option,
  value: unknown,
  words: string[],
): string | string[] | boolean | undefined {
  if (option.value === undefined) {
    // minimist has a meaning for `--switch=text` and `--no-switch`; hew has none.
    const odd = words.find(word => word.startsWith(`--${name}=`) || word === `--no-${name}`)
    if (odd !== undefined) throw new UsageError(`${odd}: --${name} is a switch and takes no value`)
    if (typeof value === 'string' && value !== '')
      throw new UsageError(`-${option.short}${value}: --${name} is a switch and takes no value`)
    return value === true || value === ''
  }
  const values = (value === undefined ? [] : Array.isArray(value) ? value : [value]).map(value =>
    String(value).replace(VALUE, ''),
  )
  if (values.includes('')) throw new UsageError(`--${name} needs a value: --${name} ${option.value}`)
  for (const value of values)
    if (option.choices && !option.choices.includes(value))
      throw new UsageError(`--${name} ${value}: it is one of ${option.choices.join(', ')}`)
  if (option.many) return values
  if (values.length > 1) throw new UsageError(`--${name} is given ${values.length} times`)
  return values[0]
}

/** The items of a comma list, e.g. `--with bash,ls`. */
export function list(value: string | undefined): string[] {
  return value === undefined ? [] : value.split(',').filter(item => item !== '')
}
