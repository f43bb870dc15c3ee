import {readFileSync, statfsSync} from 'node:fs'
import {availableParallelism, cpus, release, tmpdir, totalmem} from 'node:os'
import type {Result, Row} from './frame.ts'

/** On what machine it was measured. */
export function machine() {
  const [one] = cpus()
  return {
    processor: one?.model ?? 'unknown',
    processors: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown',
    fileSystem: FILE_SYSTEMS[statfsSync(tmpdir()).type] ?? 'unknown',
  }
}

export type Machine = ReturnType<typeof machine>

/** The magic numbers of statfs(2). */
const FILE_SYSTEMS: Record<number, string> = {
  61267: 'ext4',
  16914836: 'tmpfs',
  2435016766: 'btrfs',
  1481003842: 'xfs',
  2035054128: 'overlay',
}

/** One line that says which machine. */
export function machineText({
  processor,
  processors,
  memoryBytes,
  kernel,
  system,
  fileSystem,
}: Machine): string {
  return `${processors} x ${processor}, ${Math.round(memoryBytes / 2 ** 30)} GiB, Linux ${kernel}, ${system}, ${fileSystem}`
}

/** Three digits at least, and no more behind the point than mean something. */
export const figure = (value: number): string => value.toFixed(value < 100 ? 1 : 0)

const cells = (name: string, ...values: string[]): string =>
  name.padEnd(34) + values.map(value => value.padStart(9)).join('')

/** A bench as a table, with what was to be reached. */
export function table({title, unit, rows, targets}: Result): string {
  const line = (row: Row): string =>
    row.median === undefined
      ? `${row.peer.padEnd(34)} ${row.lacking}`
      : cells(
          row.peer,
          ...[row.median, row.low!, row.high!].map(figure),
          row.ratio!.toFixed(row.ratio! < 10 ? 2 : 0),
        )
  const judged = targets.map(
    ({peer, words, limit, median, met}) =>
      `  ${met ? 'met' : 'MISSED'}: ${peer}: ${words}: ${figure(median)} of ${figure(limit)} ${unit}`,
  )
  return [title, cells(unit, 'median', '10%', '90%', 'ratio'), ...rows.map(line), ...judged, ''].join('\n')
}

const ROW = 18
const LEFT = 250
const WIDE = 420

/** A bar for each median; each bench has a scale of its own. */
export function chart(results: Result[], where: string): string {
  const parts: string[] = []
  let y = 24
  const text = (x: number, what: string, more = ''): void => {
    parts.push(`<text x="${x}" y="${y}"${more}>${escaped(what)}</text>`)
  }
  for (const {title, unit, rows} of results) {
    const shown = rows.filter(row => row.median !== undefined)
    const most = Math.max(...shown.map(({median}) => median!))
    text(8, title, ' font-weight="bold"')
    y += ROW + 4
    for (const {peer, median} of shown) {
      const width = Math.max(1, (median! / most) * WIDE)
      const color = peer.startsWith('hew') ? '#d9480f' : '#868e96'
      text(LEFT - 8, peer, ' text-anchor="end"')
      parts.push(
        `<rect x="${LEFT}" y="${y - 11}" width="${width.toFixed(1)}" height="${ROW - 5}" fill="${color}"/>`,
      )
      text(LEFT + width + 6, `${figure(median!)} ${unit}`)
      y += ROW
    }
    y += ROW
  }
  text(8, where, ' font-size="10"')
  // Gray is read on white and on black.
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${LEFT + WIDE + 100}" height="${y + 12}" font-family="sans-serif" font-size="12" fill="#7a7a7a">\n${parts.join('\n')}\n</svg>\n`
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, character => `&#${character.charCodeAt(0)};`)
}
