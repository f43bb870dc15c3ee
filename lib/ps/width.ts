/** What a terminal shows without going on: accents, joiners, selectors of a form. */
const NONE = /^[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff]$/u
/** Two columns: East Asian Wide and Fullwidth (Unicode's UAX #11), and what is an emoji by itself. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18dff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]$/u
const ASCII = /^[\x20-\x7e]*$/

/** How many columns a character takes, as wcwidth(3). Terminals differ in emoji of several characters: each counts here. */
function widthOf(character: string): number {
  if (character < '\u0300') return 1
  return NONE.test(character) ? 0 : WIDE.test(character) ? 2 : 1
}

/** How many columns of a terminal a text takes that visible() has made harmless. */
export function displayWidth(text: string): number {
  if (ASCII.test(text)) return text.length
  let width = 0
  for (const character of text) width += widthOf(character)
  return width
}

/** The beginning of a text, no wider than so many columns. */
export function cut(text: string, columns: number): string {
  // A character of no width costs nothing on the screen, and there may be thousands.
  const most = 4 * columns + 16
  if (text.length <= columns && ASCII.test(text)) return text
  let width = 0
  let end = 0
  for (const character of text) {
    width += widthOf(character)
    end += character.length
    if (width > columns || end > most) return text.slice(0, end - character.length)
  }
  return text
}

/** A text in a column of its own: cut, and filled with spaces on its right, or on its left. */
export function fitted(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const shown = cut(text, columns)
  const space = ' '.repeat(Math.max(0, columns - displayWidth(shown)))
  return align === 'left' ? shown + space : space + shown
}
