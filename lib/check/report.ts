import {wrap} from '../cli/help.ts'
import {version} from '../launch.ts'
import {visible} from '../shell.ts'
import type {Check, Standing} from './check.ts'
import {works} from './checks.ts'
import type {Facts} from './facts.ts'

const COLOURS: Record<Standing, number> = {fine: 32, limited: 33, missing: 31}
const TITLES = 24

/** For programs: this shape stays, and only grows. */
export function json({system, kernel, machine, contained}: Facts, all: Check[]): string {
  const around = {system, kernel, uid: machine.uid, contained}
  return `${JSON.stringify({hew: version, works: works(all), machine: around, checks: all})}\n`
}

/** For people. */
export function text({system, kernel, machine, contained}: Facts, all: Check[], colour: boolean): string {
  const who = machine.uid === 0 ? 'root' : `user ${machine.uid}`
  const groups = [...new Set(all.map(({group}) => group))]
  return [
    `${system}, Linux ${kernel}, as ${who}${contained ? ' in a container' : ''}`,
    ...groups.flatMap(group => [
      '',
      group,
      ...all.filter(check => check.group === group).map(row => line(row, colour)),
    ]),
    '',
    conclusion(all),
    '',
  ].join('\n')
}

function line({status, title, found, means, fix}: Check, colour: boolean): string {
  const word = status.padEnd(8)
  const head = `  ${colour ? `\x1b[${COLOURS[status]}m${word}\x1b[m` : word} ${title.padEnd(TITLES)} `
  const indent = ' '.repeat(11)
  const beside = indent.length + TITLES + 1
  const text = visible(found)
  const notes = [...(means ? [means] : []), ...(fix ? [`-> ${fix}`] : [])].map(visible)
  if (status === 'fine') return head + wrap(text, ' '.repeat(beside)).slice(beside)
  return text.length <= 80 - beside
    ? [head + text, ...notes.map(note => wrap(note, indent))].join('\n')
    : [head.trimEnd(), ...[text, ...notes].map(note => wrap(note, indent))].join('\n')
}

function conclusion(all: Check[]): string {
  if (works(all)) return "'hew enter' works here."
  const lacking = all.filter(({needed, status, means}) => needed && status === 'missing' && means)
  const reasons = lacking.filter(({id}) => id !== 'enter' || lacking.length === 1)
  return wrap(`'hew enter' does not work here, for want of: ${reasons.map(({title}) => title).join(', ')}.`)
}
