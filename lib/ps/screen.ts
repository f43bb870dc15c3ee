import {bandwidthText, bytesText} from '../cgroups/values.ts'
import {visible} from '../shell.ts'
import {type Container, keyOf, type Member} from './snapshot.ts'
import {counted, durationText, heading, layout, NONE, row, title} from './text.ts'
import {cut, displayWidth} from './width.ts'

/** What `--watch` shows, as a pure function from what there is, what was typed, and how large the window is. */

/** The last values of a figure, the newest one last. */
export type History = number[]

/** A container, and how it has fared since the last look. */
export interface Watched {
  container: Container
  /** CPUs that it used since then, as in 0.05. */
  cores: number
  memoryBytes: number
  pids: number
  history: {memory: History; cpu: History; pids: History}
  /** Percent of the last ten seconds in which something waited (PSI: avg10 of `some`); undefined where the kernel does not say. */
  pressure: {memory: number | undefined; cpu: number | undefined}
}

export interface Sample {
  containers: Watched[]
  others: Member[] | undefined
  /** CPUs that a process used since the last look, by PID. */
  cores: Map<number, number>
  /** What the machine has: the end of a bar that no limit ends. */
  machine: {memoryBytes: number; cpus: number}
}

export const SORTS = ['cpu', 'memory', 'pid', 'name'] as const

/** What is selected: a container, or a process in it. */
export interface Target {
  key: string
  pid: number | undefined
}

/** What the keys have changed. */
export interface View {
  sort: (typeof SORTS)[number]
  filter: string
  /** `/` was pressed, and the filter is being typed. */
  typing: boolean
  help: boolean
  selected: Target | undefined
  /** Seconds between two looks. */
  interval: number
  /** What is asked, and waits for y. */
  asking: {target: Target; whole: boolean; start: number | undefined} | undefined
  /** What the last key did not do, and why. */
  message: string
}

/** Before the first key. */
export const BEGINNING: View = {
  sort: 'cpu',
  filter: '',
  typing: false,
  help: false,
  selected: undefined,
  interval: 1,
  asking: undefined,
  message: '',
}

export interface Style {
  colour: boolean
  /** False: nothing but ASCII. */
  unicode: boolean
}

export interface Screen {
  /** As many as there are rows, none wider than the columns. */
  lines: string[]
  /** All that can be selected, from top to bottom. */
  targets: Target[]
  /** The containers of which something is to be seen. */
  shown: Set<string>
}

/** A line of the list, before it is cut. */
interface Line {
  text: string
  target?: Target
  key: string
  /** Between which columns it is a bar, and how full that is. */
  bar?: {from: number; to: number; part: number}
  bold?: boolean
}

/** A line that does not yet say whose it is. */
type Figure = Omit<Line, 'key'>

/** The whole screen. */
export function screen(sample: Sample, view: View, rows: number, columns: number, style: Style): Screen {
  const wanted = sorted(matching(sample, view), view)
  const all = wanted.flatMap(one => linesOf(one, sample, view, columns, style))
  if (sample.others) all.push(...machineLines(sample.others, sample, view))
  const targets = all.flatMap(({target}) => target ?? [])
  const selected = targets.find(target => isSame(target, view.selected)) ?? targets[0]
  const height = Math.max(1, rows - 2)
  const at = all.findIndex(({target}) => target && isSame(target, selected))
  // The selected line is in the middle, once there are more than fit.
  const top = Math.max(0, Math.min(at - Math.floor(height / 2), all.length - height))
  const window = all.slice(top, top + height)
  const body = view.help
    ? HELP.slice(0, height)
    : all.length === 0
      ? [view.filter ? 'nothing is called so: / changes the filter' : NONE]
      : window.map(line =>
          painted(line, line.target !== undefined && isSame(line.target, selected), columns, style),
        )
  const lines = [
    status(wanted, sample, view),
    ...body.map(line => (view.help || all.length === 0 ? cut(line, columns) : line)),
  ]
  while (lines.length < rows - 1) lines.push('')
  lines.push(cut(prompt(view, wanted), columns))
  lines[0] = style.colour
    ? `\x1b[7m${cut(lines[0]!, columns).padEnd(columns)}\x1b[0m`
    : cut(lines[0]!, columns)
  return {lines: lines.slice(0, Math.max(1, rows)), targets, shown: new Set(window.map(({key}) => key))}
}

export function isSame(a: Target, b: Target | undefined): boolean {
  return a.key === b?.key && a.pid === b.pid
}

function status(wanted: Watched[], {containers}: Sample, {sort, filter, interval}: View): string {
  const processes = wanted.reduce((sum, {container}) => sum + container.processes.length, 0)
  const some = wanted.length === containers.length ? '' : ` of ${containers.length}`
  return [
    `hew ps: ${wanted.length}${some} ${containers.length === 1 ? 'container' : 'containers'}`,
    counted(processes, 'process', 'processes'),
    `by ${sort}`,
    `every ${interval} s`,
    ...(filter ? [`only ${visible(filter)}`] : []),
  ].join(', ')
}

function prompt({typing, filter, asking, message}: View, wanted: Watched[]): string {
  if (typing) return `only what is called: ${visible(filter)}_`
  if (asking) {
    const {target, whole} = asking
    const container = wanted.find(({container}) => keyOf(container) === target.key)?.container
    const name = container ? title(container) : 'the machine'
    return whole ? `kill everything in ${name}? y/n` : `kill the process ${target.pid} of ${name}? y/n`
  }
  return message === ''
    ? 'q quit  ? help  arrows select  s sort  / filter  f freeze  t thaw  k kill  K kill container'
    : visible(message)
}

export const HELP = [
  '',
  '  up, down, PgUp, PgDn    select a container or a process',
  `  s                       sort by ${SORTS.join(', ')}`,
  '  /                       show only what has a text in its name, root or command line',
  '  f, t                    freeze the container that is selected, and thaw it',
  '  k                       kill the process that is selected (asks first)',
  '  K                       kill everything in its container (asks first)',
  '  +, -                    look more often, less often',
  '  Ctrl-Z                  to the shell for a while; fg comes back',
  '  q, Ctrl-C               quit',
  '',
  '  A bar ends at the limit, or at what the machine has. Behind it are the last values, and, where the kernel tells (PSI),',
  '  in how many percent of the last ten seconds something had to wait for it.',
  '',
  '  any key                 back',
]

function matching({containers}: Sample, {filter}: View): Watched[] {
  if (filter === '') return containers
  const has = (text: string): boolean => text.toLowerCase().includes(filter.toLowerCase())
  return containers.filter(
    ({container}) =>
      has(title(container)) ||
      has(container.root ?? '') ||
      container.processes.some(process => isCalled(process, filter)),
  )
}

function isCalled({args, comm}: Member, filter: string): boolean {
  return `${comm} ${args.join(' ')}`.toLowerCase().includes(filter.toLowerCase())
}

function sorted(containers: Watched[], {sort}: View): Watched[] {
  const by: Record<View['sort'], (a: Watched, b: Watched) => number> = {
    cpu: (a, b) => b.cores - a.cores,
    memory: (a, b) => b.memoryBytes - a.memoryBytes,
    pid: (a, b) => (a.container.pid ?? 0) - (b.container.pid ?? 0),
    name: (a, b) => (title(a.container) < title(b.container) ? -1 : 1),
  }
  return containers.toSorted((a, b) => by[sort](a, b) || (a.container.pid ?? 0) - (b.container.pid ?? 0))
}

function linesOf(watched: Watched, sample: Sample, view: View, columns: number, style: Style): Line[] {
  const {container} = watched
  const key = keyOf(container)
  const {status, createdAt, root} = container
  const age = createdAt && durationText((Date.now() - createdAt.getTime()) / 1000)
  const head = [
    title(container),
    status,
    ...(age ? [age] : []),
    ...(root === undefined ? [] : [visible(root)]),
  ]
  const lines: Line[] = [{text: head.join('  '), key, target: {key, pid: undefined}, bold: true}]
  if (container.pid !== undefined)
    lines.push(...figures(watched, sample, columns, style).map(line => ({...line, key})))
  return [...lines, ...processLines(container.processes, key, sample, view)]
}

function processLines(processes: Member[], key: string, {cores}: Sample, {sort}: View): Line[] {
  if (processes.length === 0) return []
  const cpu = ({pid}: Member): number => 100 * (cores.get(pid) ?? 0)
  const order: Partial<Record<View['sort'], (a: Member, b: Member) => number>> = {
    cpu: (a, b) => cpu(b) - cpu(a),
    memory: (a, b) => b.memoryBytes - a.memoryBytes,
    name: (a, b) => (a.comm < b.comm ? -1 : a.comm > b.comm ? 1 : 0),
  }
  const compare = order[sort]
  const table = layout(processes, cpu)
  // A tree has its own order among brothers and sisters only.
  const list = compare ? siblingsBy(processes, compare) : processes
  return [
    {text: heading(table), key},
    ...list.map(process => ({text: row(process, table), key, target: {key, pid: process.pid}})),
  ]
}

/** The same tree, with the children of each process, and the roots, in another order. */
function siblingsBy(processes: Member[], compare: (a: Member, b: Member) => number): Member[] {
  const parents: Member[][] = []
  const children = new Map<Member | undefined, Member[]>()
  const path: Member[] = []
  for (const process of processes) {
    path.length = Math.min(path.length, process.depth)
    const parent = path.at(-1)
    const list = children.get(parent)
    if (list) list.push(process)
    else {
      const fresh = [process]
      children.set(parent, fresh)
      parents.push(fresh)
    }
    path.push(process)
  }
  for (const list of parents) list.sort(compare)
  const ordered: Member[] = []
  const waiting = (children.get(undefined) ?? []).toReversed()
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    ordered.push(next)
    for (const child of children.get(next)?.toReversed() ?? []) waiting.push(child)
  }
  return ordered
}

function machineLines(others: Member[], sample: Sample, view: View): Line[] {
  const text = `the machine: ${counted(others.length, 'process', 'processes')} in no container`
  const wanted = others.filter(process => isCalled(process, view.filter))
  return [{text, key: '', bold: true}, ...processLines(wanted, '', sample, view)]
}

/** A bar for each of memory, CPU and pids, with the last values and what went wrong. */
function figures(watched: Watched, {machine}: Sample, columns: number, style: Style): Figure[] {
  const {container, cores, memoryBytes, pids, history, pressure} = watched
  const {memory, cpu, processes} = container.use
  const quota = cpu.quota === undefined ? undefined : cpu.quota / (cpu.period ?? 100_000)
  const some = (value: number | undefined, text: string): string[] => (value ? [text] : [])
  const waiting = (value: number | undefined): string[] =>
    value === undefined ? [] : [`pressure ${value.toFixed(0)}%`]
  const most = memory.limit ?? machine.memoryBytes
  const mostPids = processes.limit
  return [
    bar(
      'memory',
      memoryBytes / most,
      history.memory.map(value => value / most),
      columns,
      style,
      [
        `${bytesText(memoryBytes)}${memory.limit === undefined ? '' : ` of ${bytesText(memory.limit)}`}`,
        ...some(memory.kills, `${memory.kills} killed`),
        ...waiting(pressure.memory),
      ],
    ),
    bar(
      'CPU',
      cores / (quota ?? machine.cpus),
      history.cpu.map(value => value / (quota ?? machine.cpus)),
      columns,
      style,
      [
        `${(100 * cores).toFixed(1)}%${quota === undefined ? '' : ` of ${bandwidthText({quota, period: 1})}`}`,
        ...some(cpu.throttledSeconds, `held back ${cpu.throttledSeconds?.toFixed(1)} s`),
        ...waiting(pressure.cpu),
      ],
    ),
    bar(
      'pids',
      mostPids === undefined ? 0 : pids / mostPids,
      history.pids.map(value => value / (mostPids ?? Math.max(...history.pids, 1))),
      columns,
      style,
      [
        `${pids}${mostPids === undefined ? '' : ` of ${mostPids}`}`,
        ...some(processes.refused, `${counted(processes.refused ?? 0, 'fork', 'forks')} refused`),
      ],
    ),
  ]
}

const SPARKS = {true: [...' ▁▂▃▄▅▆▇█'], false: [...' ._-=+*#@']}

/** The values as a line of characters, each as high as its part of the whole. */
export function sparkline(parts: number[], unicode: boolean): string {
  const marks = SPARKS[`${unicode}`]
  // What is there at all is to be seen.
  return parts.map(part => marks[part > 0 ? Math.max(1, Math.round(Math.min(1, part) * 8)) : 0]).join('')
}

function bar(
  name: string,
  part: number,
  history: number[],
  columns: number,
  {unicode}: Style,
  words: string[],
): Figure {
  const width = Math.max(6, Math.min(30, Math.floor(columns / 5)))
  const full = Math.round(Math.max(0, Math.min(1, part)) * width)
  const from = 10
  const past = sparkline(history.slice(-Math.floor(width / 2)), unicode).padStart(Math.floor(width / 2))
  return {
    text: `  ${name.padEnd(6)} [${'|'.repeat(full)}${' '.repeat(width - full)}] ${past} ${words.join(', ')}`,
    bar: {from, to: from + full, part},
  }
}

/** From here on a bar is yellow, and red. */
const [HIGH, FULL] = [0.7, 0.9]

/** A line as the terminal gets it: cut, with its attributes. */
function painted({text, bar, bold}: Line, selected: boolean, columns: number, {colour}: Style): string {
  const shown = cut(text, columns)
  if (selected) return `\x1b[7m${shown}${' '.repeat(Math.max(0, columns - displayWidth(shown)))}\x1b[0m`
  if (bold) return `\x1b[1m${shown}\x1b[0m`
  if (!bar || !colour || bar.to === bar.from || bar.to > shown.length) return shown
  const tone = bar.part >= FULL ? 31 : bar.part >= HIGH ? 33 : 32
  return `${shown.slice(0, bar.from)}\x1b[${tone}m${shown.slice(bar.from, bar.to)}\x1b[0m${shown.slice(bar.to)}`
}
