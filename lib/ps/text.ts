import {bandwidthText, bytesText} from '../cgroups/values.ts'
import {visible} from '../shell.ts'
import type {Container, Member, Snapshot} from './snapshot.ts'
import {cut, displayWidth, fitted} from './width.ts'

/** A list of containers for a person; no line is wider than so many columns. Everything in it that is not hew's own is made visible. */
export function text({containers, others}: Snapshot, columns: number): string {
  if (containers.length === 0 && !others) return `${NONE}\n`
  const all = [...containers.flatMap(({processes}) => processes), ...(others ?? [])]
  const table = layout(all)
  const lines = [heading(table)]
  for (const container of containers) {
    lines.push(...head(container, columns))
    for (const process of container.processes) lines.push(row(process, table))
  }
  if (others) {
    lines.push(`the machine: ${counted(others.length, 'process', 'processes')} in no container`)
    for (const process of others) lines.push(row(process, table))
  }
  return lines.map(line => `${cut(line, columns).trimEnd()}\n`).join('')
}

export const NONE = "no container runs here: 'hew mkroot | hew enter' makes one"

/** The name of a container; one that has none goes by its first process. */
export function title({name, pid}: Container): string {
  return visible(name ?? `PID ${pid}`)
}

/** What is to be known of a container, in as many lines as it takes. */
function head(container: Container, columns: number): string[] {
  const {status, detached, createdAt, root, namespaces} = container
  const age = createdAt && durationText((Date.now() - createdAt.getTime()) / 1000)
  const state = [
    status,
    ...(status === 'running' && age ? [`for ${age}`] : []),
    ...(detached ? ['detached'] : []),
  ]
  return flow(
    `${title(container)}: `,
    [
      state.join(', '),
      ...(root === undefined ? [] : [visible(root)]),
      ...(namespaces ? [`its own: ${namespaces.join(' ')}`] : []),
      ...figures(container),
    ],
    columns,
  )
}

/** What a container uses, against its limits. */
export function figures({use, processes}: Container): string[] {
  const {memory, cpu, processes: pids, cgroups} = use
  if (Object.keys(cgroups).length === 0)
    return processes.length === 0
      ? []
      : [
          `no cgroup of its own; memory ${bytesText(sum(processes, ({memoryBytes}) => memoryBytes))}`,
          `CPU ${sum(processes, ({cpuSeconds}) => cpuSeconds).toFixed(1)} s`,
        ]
  const of = (limit: number | undefined, text: (value: number) => string): string =>
    limit === undefined ? '' : ` of ${text(limit)}`
  const some = (value: number | undefined, text: string): string[] => (value ? [text] : [])
  const limit =
    cpu.quota === undefined
      ? ''
      : `, limit ${bandwidthText({quota: cpu.quota, period: cpu.period ?? 100_000})}`
  return [
    `memory ${memory.now === undefined ? '?' : bytesText(memory.now)}${of(memory.limit, bytesText)}`,
    ...some(memory.kills, `${memory.kills} killed`),
    `CPU ${cpu.seconds === undefined ? '?' : `${cpu.seconds.toFixed(1)} s`}${limit}`,
    ...some(cpu.throttledSeconds, `held back ${cpu.throttledSeconds?.toFixed(1)} s`),
    `pids ${pids.now ?? '?'}${of(pids.limit, String)}`,
    ...some(pids.refused, `${counted(pids.refused ?? 0, 'fork', 'forks')} refused`),
  ]
}

export function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}

function sum(processes: Member[], value: (process: Member) => number): number {
  return processes.reduce((total, process) => total + value(process), 0)
}

/** Pieces one behind the other, in lines that fit; the second and later lines are indented. */
function flow(beginning: string, pieces: string[], columns: number): string[] {
  const lines: string[] = []
  let line = beginning + pieces[0]!
  for (const piece of pieces.slice(1)) {
    if (displayWidth(line) + displayWidth(piece) + 3 <= columns) line += ` | ${piece}`
    else {
      lines.push(line)
      line = `    ${piece}`
    }
  }
  return [...lines, line]
}

/** Seconds as people say them: the largest unit that fits. */
export function durationText(seconds: number): string {
  if (seconds < 100) return `${Math.max(0, Math.floor(seconds))} s`
  if (seconds < 100 * 60) return `${Math.floor(seconds / 60)} min`
  return seconds < 48 * 3600 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`
}

/** A column of the table: what it says of a process. */
interface Column {
  title: string
  align: 'left' | 'right'
  width: number
  text: (process: Member) => string
}

/** No name makes the others' columns disappear. */
const WIDEST_USER = 12

/** The columns, as wide as what is in them. */
export function layout(processes: Member[], cpu: (process: Member) => number = lifelong): Column[] {
  const columns: Column[] = [
    {title: 'PID', align: 'right', width: 5, text: ({pid}) => `${pid}`},
    {title: 'INSIDE', align: 'right', width: 6, text: ({pidInside}) => `${pidInside ?? '-'}`},
    {title: 'USER', align: 'left', width: 6, text: ({user, uidInside}) => visible(user ?? `${uidInside}`)},
    {title: '%CPU', align: 'right', width: 5, text: process => cpu(process).toFixed(1)},
    {title: 'MEMORY', align: 'right', width: 9, text: ({memoryBytes}) => bytesText(memoryBytes)},
    {title: 'S', align: 'left', width: 1, text: ({state}) => visible(state)},
    {title: 'TIME', align: 'right', width: 5, text: ({cpuSeconds}) => timeText(cpuSeconds)},
  ]
  const most = (column: Column): number =>
    processes.reduce((width, process) => Math.max(width, displayWidth(column.text(process))), column.width)
  return columns.map(column => ({
    ...column,
    width: column.title === 'USER' ? Math.min(WIDEST_USER, most(column)) : most(column),
  }))
}

export function heading(table: Column[]): string {
  return [...table.map(({title, width, align}) => fitted(title, width, align)), 'COMMAND'].join(' ')
}

/** A process as a line of the table. */
export function row(process: Member, table: Column[]): string {
  const cells = table.map(({text, width, align}) => fitted(text(process), width, align))
  return [...cells, `${branch(process.depth)}${commandText(process)}`].join(' ')
}

/** Percent of a CPU over its whole life, as ps(1) has it. */
function lifelong({cpuSeconds, ageSeconds}: Member): number {
  return ageSeconds > 0 ? (100 * cpuSeconds) / ageSeconds : 0
}

/** A tree as `ps f` draws it; far from the root it does not go further to the right. */
function branch(depth: number): string {
  return depth === 0 ? '' : `${'  '.repeat(Math.min(depth, 16) - 1)}\\_ `
}

/** The command line, or, as with ps(1), the name in brackets where there is none. */
export function commandText({args, comm}: Member): string {
  return visible(args.some(arg => arg !== '') ? args.join(' ') : `[${comm}]`)
}

/** CPU time as ps(1) shows it: minutes and seconds, with hours in front once there are some. */
function timeText(seconds: number): string {
  const two = (value: number): string => `${Math.floor(value)}`.padStart(2, '0')
  const minutes = Math.floor(seconds / 60)
  return minutes < 60
    ? `${minutes}:${two(seconds % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`
}
