/** The first line of a script: what the kernel executes instead of it. */
export interface Shebang {
  interpreter: string
  /** Everything behind the interpreter is one argument. */
  argument: string | undefined
}

/** The kernel looks at so many bytes of a file to find out what it is (BINPRM_BUF_SIZE). */
export const HEAD_SIZE = 256

/**
 * The `#!` line as load_script (fs/binfmt_script.c) reads it. Undefined when the kernel would not take the file for a
 * script: there is no interpreter, or its name does not end within the first 255 bytes.
 */
export function parseShebang(head: Buffer): Shebang | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined
  const text = head.subarray(2, HEAD_SIZE - 1).toString('latin1')
  const newline = text.indexOf('\n')
  const whole = newline >= 0 || head.length < HEAD_SIZE
  const line = newline >= 0 ? text.slice(0, newline) : text
  const match = /^[ \t]*([^ \t\0]+)(.*)$/s.exec(line)
  if (!match || (!whole && match[2] === '')) return undefined
  const argument = match[2]!.replace(/\0.*$/s, '').replace(/^[ \t]+|[ \t]+$/g, '')
  return {interpreter: utf8(match[1]!), argument: argument === '' ? undefined : utf8(argument)}
}

function utf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString()
}

/** What env(1) is told to execute. */
export interface EnvCommand {
  program: string
  /** The PATH that env looks it up in, where it is told one. */
  path: string | undefined
}

/**
 * The program in the argument of `#!/usr/bin/env ARGUMENT`, with or without -S. env gets one argument only, so without
 * -S it would take a blank for a part of the name; such a script cannot work, but what it means is plain.
 */
export function envCommand(argument: string): EnvCommand | undefined {
  const words = splitString(argument)
  let path: string | undefined
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const split = /^(?:-[iv0]*S|--split-string=?)(.*)$/s.exec(word)
    if (split) {
      // The words behind it were split already, by the same rules.
      if (split[1] !== '') words.unshift(split[1]!)
    } else if (/^-[iv0]*[uC]$/.test(word) || word === '--unset' || word === '--chdir') {
      words.shift()
    } else if (/^[^-=][^=]*=/.test(word)) {
      if (word.startsWith('PATH=')) path = word.slice('PATH='.length)
    } else if (!word.startsWith('-')) {
      return {program: word, path}
    }
  }
  return undefined
}

/** Splits as `env -S` does: blanks, both kinds of quotes, backslashes; `#` before a word begins a comment. */
function splitString(text: string): string[] {
  const words: string[] = []
  for (const [token] of text.matchAll(/#.*|(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+/gs)) {
    if (token.startsWith('#')) break
    words.push(
      token.replace(
        /"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|\\./gs,
        (whole, double?: string, single?: string) =>
          single !== undefined
            ? single.replace(/\\([\\'])/g, '$1')
            : (double ?? whole).replace(/\\(.)/gs, (_, escaped: string) => ESCAPES[escaped] ?? escaped),
      ),
    )
  }
  return words
}

const ESCAPES: Record<string, string> = {f: '\f', n: '\n', r: '\r', t: '\t', v: '\v', _: ' '}
