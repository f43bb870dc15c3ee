/**
 * A picture of the demo in a terminal, for the README: `tsx lib/build/picture.ts HEW OUT.svg` types the whole lesson and keeps some
 * steps of what was really shown. It does so only when the lesson is not the one that the picture is of; with a third word, always.
 */
import {spawnSync} from 'node:child_process'
import {createHash} from 'node:crypto'
import {globSync, readFileSync, utimesSync, writeFileSync} from 'node:fs'
import {argv} from 'node:process'
import {quote} from '../shell.ts'

const [, , hew = 'dist/hew', out = 'lib/demo/demo.svg', anew] = argv

/** The steps that are in the picture, by their titles. */
const STEPS = ['Entering fails', 'A process of the machine', 'Processes: after, with 3', 'One line']

const FONT = {size: 14, width: 8.43, line: 19}
const MARGIN = 20
const COLUMNS = 102

/** What the styles of page.ts look like, by their numbers (ECMA-48, SGR). */
const STYLES: Record<string, string> = {
  1: 'font-weight="bold" fill="#f0f3f6"',
  2: 'fill="#8b949e"',
  31: 'fill="#ff7b72"',
  32: 'fill="#7ee787"',
  36: 'fill="#79c0ff"',
}

/** What the lesson and its looks are made of, as a number that the picture carries. */
function inputs(): string {
  const hash = createHash('sha256')
  for (const file of [...globSync('lib/demo/*.ts').sort(), 'lib/build/picture.ts'])
    hash.update(readFileSync(file))
  return hash.digest('hex').slice(0, 16)
}

/** All that is shown at a terminal; undefined, with the reason said, where the whole lesson cannot be shown. */
function shown(): string | undefined {
  if (process.getuid!() !== 0) return unmade('it takes root')
  // A terminal of its own, so that there are colours.
  const {stdout, status} = spawnSync('script', ['-qec', `${quote(hew)} demo --pace fast`, '/dev/null'], {
    encoding: 'utf8',
    input: '',
    env: {...process.env, TERM: 'xterm', NO_COLOR: '', DEMO: ''},
  })
  if (status !== 0) return unmade(`the demo ended with ${status}, see hew demo`)
  // What is another's each time is not, so that the same lesson makes the same picture.
  return stdout
    .replaceAll('\r', '')
    .replace(/hew-demo-\w{6}/g, 'hew-demo')
    .replace(/lesson-\d+/g, 'lesson')
    .replace(/(?<=\/proc\/|\()\d+(?=\/comm|\) - )/g, '1234')
}

function unmade(why: string): undefined {
  console.error(`${out} is of an earlier demo, and a new one cannot be made here: ${why}`)
}

/** The lines of a step, from its heading to its check. */
function step(text: string, title: string): string[] {
  const lines = text.split('\n')
  const from = lines.findIndex(line => line.endsWith(`\x1b[1m${title}\x1b[0m`))
  if (from < 0) throw new Error(`the demo has no step ${title}`)
  const to = lines.findIndex((line, i) => i > from && line === '')
  return lines.slice(from, to)
}

const escaped = (text: string): string =>
  text.replace(/[&<>]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;'})[c]!)

function styled(line: string): string {
  return line
    .split(/(\x1b\[\d+m[^\x1b]*\x1b\[0m)/)
    .filter(part => part !== '')
    .map(part => {
      const [, style, text] = /^\x1b\[(\d+)m([^\x1b]*)/.exec(part) ?? []
      return style === undefined ? escaped(part) : `<tspan ${STYLES[style] ?? ''}>${escaped(text!)}</tspan>`
    })
    .join('')
}

function svg(lines: string[], made: string): string {
  const width = Math.ceil(2 * MARGIN + COLUMNS * FONT.width)
  const top = MARGIN + 26
  const height = top + lines.length * FONT.line + MARGIN
  const rows = lines.map(
    (line, i) =>
      `<text x="${MARGIN}" y="${top + (i + 1) * FONT.line}" xml:space="preserve">${styled(line)}</text>`,
  )
  const buttons = ['#ff5f57', '#febc2e', '#28c840'].map(
    (fill, i) => `<circle cx="${MARGIN + 6 + i * 20}" cy="24" r="6" fill="${fill}"/>`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace" font-size="${FONT.size}" fill="#c9d1d9">`,
    `<!-- made by lib/build/picture.ts of ${made} -->`,
    '<title>hew demo, in a terminal</title>',
    `<rect width="${width}" height="${height}" rx="10" fill="#0d1117"/>`,
    ...buttons,
    ...rows,
    '</svg>',
    '',
  ].join('\n')
}

function make(made: string): void {
  const text = shown()
  if (text === undefined) return
  const picked = STEPS.flatMap((title, i) => [...(i > 0 ? [''] : []), ...step(text, title)])
  if (picked.some(line => line.includes('not typed: '))) unmade('this machine lacks something that it takes')
  else writeFileSync(out, svg(['\x1b[36m$ hew demo\x1b[0m', '', ...picked], made))
}

const now = inputs()
if (anew !== undefined || !readFileSync(out, 'utf8').includes(` of ${now} `)) make(now)
// For make(1): it has been looked at.
else utimesSync(out, new Date(), new Date())
