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

interface Judged {
  bench: string
  peer: string
  words: string
  limit: number
  median: number
  unit: Result['unit']
  met: boolean
}

/** What was to be reached, of all benches. */
export function targets(results: Result[]): Judged[] {
  return results.flatMap(({title, unit, targets}) => targets.map(target => ({bench: title, unit, ...target})))
}

/** The same as a table. */
export function targetTable(results: Result[]): string {
  const all = targets(results)
  const rows = all.map(({bench, peer, words, limit, median, unit, met}) =>
    [
      met ? 'met   ' : 'MISSED',
      `${peer}: ${words}`.padEnd(62),
      figure(median).padStart(8),
      figure(limit).padStart(8),
      unit.padEnd(4),
      bench,
    ].join(' '),
  )
  const missed = all.filter(({met}) => !met).length
  const head = `Targets: ${all.length - missed} met, ${missed} missed`
  return [head, `${' '.repeat(70)}${'is'.padStart(8)} ${'at most'.padStart(8)}`, ...rows, ''].join('\n')
}

const ROW = 19
const COLUMN = 440
const LABEL = 150
const BAR = 190

/** Whatever the page behind it is, light or dark: both colours and the text are between. */
const STYLE = `text{font:12px system-ui,sans-serif;fill:#7d8590}.title{font-size:13px;font-weight:600}.hew{fill:#e8590c}.other{fill:#8b949e;fill-opacity:.55}text.hew{fill:#e8590c;fill-opacity:1}`

/** A panel for each bench that is to be shown, two beside each other; each has a scale of its own. */
export function chart(results: Result[], where: string): string {
  const shown = results.filter(({chart}) => chart !== undefined)
  const parts: string[] = []
  const bottoms = [0, 0]
  for (const result of shown) {
    const column = bottoms[0]! <= bottoms[1]! ? 0 : 1
    const [drawn, height] = panel(result)
    parts.push(`<g transform="translate(${column * COLUMN} ${bottoms[column]})">\n${drawn}\n</g>`)
    bottoms[column]! += height
  }
  const height = Math.max(...bottoms) + 22
  const caption = `<text x="8" y="${height - 8}" style="font-size:10px">${escaped(where)}</text>`
  const open = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * COLUMN} ${height}" width="${2 * COLUMN}" height="${height}">`
  return `${open}\n<title>hew beside others: less is better</title>\n<style>${STYLE}</style>\n${parts.join('\n')}\n${caption}\n</svg>\n`
}

function panel({name, chart = '', unit, rows}: Result): [drawn: string, height: number] {
  // What a start takes has a panel of its own.
  const compared = rows.filter(({peer}) => name === 'start' || peer !== 'hew --version')
  const measured = compared.filter(row => row.median !== undefined)
  const most = Math.max(...measured.map(({median}) => median!))
  const bars = measured.map(({peer, median}, i) => {
    const y = 34 + i * ROW
    const width = Math.max(1.5, (median! / most) * BAR)
    const kind = peer.startsWith('hew') ? 'hew' : 'other'
    return [
      `<text x="${LABEL}" y="${y + 10}" text-anchor="end"${kind === 'hew' ? ' class="hew"' : ''}>${escaped(peer)}</text>`,
      `<rect x="${LABEL + 8}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 6}" rx="2" class="${kind}"/>`,
      `<text x="${(LABEL + 14 + width).toFixed(1)}" y="${y + 10}">${figure(median!)} ${unit}</text>`,
    ].join('')
  })
  const title = `<text x="8" y="22" class="title">${escaped(chart)}</text>`
  return [[title, ...bars].join('\n'), 34 + measured.length * ROW + 12]
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, character => `&#${character.charCodeAt(0)};`)
}
