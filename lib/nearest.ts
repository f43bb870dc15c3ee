/** The name that was probably meant: at most two edits away (one for short names, and not as many as it has letters), or undefined. */
export function nearest(given: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let least = given.length > 4 ? 2 : Math.min(1, given.length - 1)
  for (const name of known) {
    if (Math.abs(name.length - given.length) > least) continue
    const edits = distance(given, name)
    if (edits <= least && (best === undefined || edits < least)) {
      best = name
      least = edits
    }
  }
  return best
}

/** Edits (insert, delete, replace, swap of neighbours) between two words: optimal string alignment. */
function distance(a: string, b: string): number {
  let before: number[] = []
  let above = Array.from({length: b.length + 1}, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let edits = Math.min(row[j - 1]! + 1, above[j]! + 1, above[j - 1]! + (same ? 0 : 1))
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) edits = Math.min(edits, before[j - 2]! + 1)
      row.push(edits)
    }
    before = above
    above = row
  }
  return above[b.length]!
}
