import {quote, visible} from './shell.ts'
import {lines, type Plan, type Typed} from './step.ts'
import {functionsOf} from './steps/functions.ts'
import {isCannot, LEFT_OUT, PLACES, typed} from './steps/line.ts'

/**
 * A plan as a script that does the same: POSIX sh, with coreutils or BusyBox, util-linux, iproute2, and no hew. It stops at the
 * first line that fails, and takes nothing back.
 * @param title the command that it takes the place of
 */
export function script(plan: Plan, title: string): string {
  return scriptOf(lines(plan), title)
}

/**
 * Lines as a script.
 * @param title the command that it takes the place of
 */
export function scriptOf(all: Typed[], title: string): string {
  const whole = all.flatMap(({line, because}) =>
    typeof line === 'object' && 'whole' in line ? {line, because} : [],
  )[0]
  const missed = all.flatMap(({line}) => (isCannot(line) && line.asked ? line.cannot : []))
  const {here, around, inside, command} = sorted(
    all.filter(({line}) => line !== whole?.line && !(isCannot(line) && line.asked)),
  )
  const chain = [...around, ...(inside.length > 0 ? [] : command)]
  const stays = command.some(
    ({line}) => typeof line === 'object' && 'place' in line && line.place === 'behind',
  )
  const shell =
    inside.length > 0 ? inShell(`${block(inside)}\n${chained(command, stays ? '' : 'exec ')}`) : []
  const missing = `${missed.map(leftOut).join('')}${missed.length > 0 ? `exit ${LEFT_OUT}\n` : ''}`
  const own = `${block(here)}${chain.length > 0 ? `\n${chained(chain, '', shell)}` : ''}`
  const wrapped = (inner: string): string =>
    whole ? `${chained([whole], '', inShell(inner.trimStart())).slice(0, -1)}${whole.line.behind}\n` : inner
  const body = whole?.line.replaces ? wrapped(own + missing) : wrapped(own) + missing
  // shellcheck warns of names with a $ in them, which are meant as they are.
  const odd = /'[^']*[$`][^']*'/.test(body) ? '# shellcheck disable=SC2016\n' : ''
  const wanted = inside.length > 0 ? wants(body) : ''
  return `#!/bin/sh\n# ${visible(title)}, as lines of a shell\n${odd}set -eu\n\n${wanted}${body.trimStart() || '# There is nothing to do.\n'}`
}

const UTIL_LINUX = ['unshare', 'nsenter', 'setpriv', 'prlimit']

/** The programs of a container that are not everywhere: without them it would end half way, with a status that could be the command's. */
function wants(body: string): string {
  const programs = UTIL_LINUX.filter(name => new RegExp(`\\b${name} -`).test(body)).join(' ')
  const lacks = (what: string): string => `{ echo "this takes ${what}: install that" >&2; exit 125; }`
  return [
    "# Of util-linux, since BusyBox' know less",
    `for program in ${programs}; do`,
    `    "$program" --version 2>/dev/null | grep -q util-linux || ${lacks('$program of util-linux')}`,
    'done',
    ...(/^ip /m.test(body) ? [`command -v ip >/dev/null || ${lacks('ip of iproute2')}`] : []),
    '\n',
  ].join('\n')
}

const leftOut = (what: string): string =>
  `\n# No shell can ${what}\necho ${quote(`no shell can ${what}: left out`)} >&2\n`

/** What is done here, the words around the container, what its own shell does, the words before the command. */
function sorted(all: Typed[]): {here: Typed[]; around: Typed[]; inside: Typed[]; command: Typed[]} {
  const place = ({line}: Typed): number =>
    typeof line !== 'string' && 'before' in line ? PLACES.indexOf(line.place) : -1
  const chain = all.filter(typed => place(typed) >= 0).sort((a, b) => place(a) - place(b))
  const own = PLACES.indexOf('own')
  const birth = all.findIndex(({line}) => typeof line !== 'string' && 'begins' in line && line.begins)
  const behind = birth < 0 ? [] : all.slice(birth).filter(typed => place(typed) < 0)
  // Lines that only name or say something can stand before the command that all the others begin.
  const inside = behind.every(({line}) => /^(root=|$)/.test(typed(line))) ? [] : behind
  return {
    here: all.filter(typed => place(typed) < 0 && !inside.includes(typed)),
    around: chain.filter(typed => place(typed) < own && typed.line !== ''),
    inside,
    command: chain.filter(typed => place(typed) >= own),
  }
}

/** Lines with their reasons, and the functions that they call at the top. */
function block(all: Typed[]): string {
  let last = ''
  const body = together(cumulated(all)).map(({line, because}) => {
    if (isCannot(line)) return `\n${commented(`No shell can ${line.cannot}`)}`
    const comment = because === last ? '' : `\n${commented(because)}`
    last = because
    return `${comment}${typed(line)}\n`
  })
  return `${functionsOf(all.map(({line}) => line))}${body.join('').trimStart()}`
}

const commented = (because: string): string =>
  because.replace(/.+\n?/g, line => `# ${visible(line.trimEnd())}\n`)

/** A shell has one trap(1) of a kind: each says again what those before it said. */
function cumulated(all: Typed[]): Typed[] {
  let ends = ''
  return all.map(typed => {
    if (typeof typed.line === 'string' || !('atEnd' in typed.line)) return typed
    ends = typed.line.atEnd + (ends && `; ${ends}`)
    return {...typed, line: {atEnd: ends}}
  })
}

/** Calls in a row that do the same with other words, as one. */
function together(all: Typed[]): Typed[] {
  const done: Typed[] = []
  for (const next of all) {
    const {line} = next
    const last = done.at(-1)?.line
    const same = typeof line === 'object' && 'more' in line && typeof last === 'object' && 'more' in last
    if (same && line.name === last.name)
      done.push({...done.pop()!, line: {...last, words: [...last.words, ...line.words]}})
    else done.push(next)
  }
  return done
}

/** One command: each of its lines begins the next. */
function chained(all: Typed[], first: string, last: string[] = []): string {
  const reasons = [...new Set(all.map(({because}) => because))]
  const comments = reasons.map(commented).join('')
  const words = [...beginnings(all.map(({line}) => typed(line))), ...last]
  return `${comments}${first}${words.join(' \\\n    ')}\n`
}

/** Options of one program that are said one after the other, together. */
function beginnings(words: string[]): string[] {
  const joined: string[] = []
  for (const next of words) {
    const last = joined.at(-1) ?? ''
    const program = /^(?:setpriv|prlimit)(?= )/.exec(next)?.[0]
    // chroot(1) knows no other directory, and no user alone.
    if (next.startsWith('--')) joined.splice(-1, 1, `${last.replace(/^chroot /, 'unshare --root=')} ${next}`)
    else if (program !== undefined && last.startsWith(`${program} `))
      joined.splice(-1, 1, last + next.slice(program.length))
    else joined.push(next)
  }
  // What env(1) starts it would look for in the PATH of the container.
  return joined.map((word, i) =>
    joined[i - 1]?.startsWith('env -i') ? word.replace(/^(chroot|unshare) /, '"$(command -v $1)" ') : word,
  )
}

/** A shell of its own for these lines. */
function inShell(text: string): string[] {
  let end = 'INSIDE'
  while (text.split('\n').includes(end)) end += '_'
  return [`sh -euc "$(cat <<'${end}'\n${text}${end}\n)"`]
}
