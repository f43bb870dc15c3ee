/** Control characters, and those that begin a line or turn the direction of writing (CVE-2021-42574). */
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** A word for POSIX sh: as it is where that is safe, else in single quotes. */
export function quote(word: string): string {
  return /^[\w@%+:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/**
 * A word for a line that a person is told to type: quoted, and with nothing in it that visible() would have to show. $() takes newlines
 * from its end: such a path cannot be typed.
 */
export function typable(word: string): string {
  if (visible(word) === word) return quote(word)
  const octal = (c: string): string =>
    [...Buffer.from(c)].map(byte => `\\0${byte.toString(8).padStart(3, '0')}`).join('')
  const escaped = word.replaceAll('\\', '\\\\').replace(UNSAFE, octal)
  return `"$(printf %b ${quote(escaped)})"`
}

/** A line of text for a file, by echo where every echo does the same with it. */
export function echo(text: string): string {
  return /^-?\d+$|^\w[\w :=,.-]*$/.test(text) ? `echo ${quote(text)}` : `printf '%s\\n' ${quote(text)}`
}

/** A path inside the root that the script calls "$root". */
export function inRoot(path: string): string {
  const rest = path.replace(/^\/+/, '')
  return rest === '' ? '"$root"' : `"$root"/${quote(rest)}`
}

/** Text that comes from files or processes, safe for a terminal and for what a person reads around it: such characters are shown, not sent. */
export function visible(text: string): string {
  return text.replace(UNSAFE, c => {
    const code = c.charCodeAt(0).toString(16)
    return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`
  })
}
