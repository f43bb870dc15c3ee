/** A word for POSIX sh: as it is where that is safe, else in single quotes. */
export function quote(word: string): string {
  return /^[\w@%+:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/** A path inside the root that the script calls "$root". */
export function inRoot(path: string): string {
  const rest = path.replace(/^\/+/, '')
  return rest === '' ? '"$root"' : `"$root"/${quote(rest)}`
}

/** Text that comes from files or processes, safe for a terminal: control characters are shown, not sent. */
export function visible(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
