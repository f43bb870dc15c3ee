/** A word for POSIX sh: as it is where that is safe, else in single quotes. */
export function quote(word: string): string {
  return /^[\w@%+:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
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

/**
 * Text that comes from files or processes, safe for a terminal: control characters are shown, not sent. So are those that
 * begin a line or turn the direction of writing, and with it what a person reads around them (CVE-2021-42574).
 */
export function visible(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, c => {
    const code = c.charCodeAt(0).toString(16)
    return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`
  })
}
