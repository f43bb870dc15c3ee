import {visible} from './shell.ts'
import {lines, type Plan, type Typed} from './step.ts'
import {functionsOf} from './steps/functions.ts'
import {typed} from './steps/line.ts'

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
  // Lines that only name something can stand before the command that all the others begin.
  const chain = all.filter(({line}) => typeof line !== 'string' && 'before' in line)
  let last = ''
  const body = all
    .filter(typed => !chain.includes(typed))
    .map(({line, because}) => {
      const comment = because === last ? '' : `\n# ${visible(because)}\n`
      last = because
      return `${comment}${typed(line)}\n`
    })
  if (chain.length > 0) {
    const comments = chain.map(({because}) => `# ${visible(because)}\n`).join('')
    body.push(`\n${comments}${chain.map(({line}) => typed(line)).join(' \\\n    ')}\n`)
  }
  const text = `${functionsOf(all.map(({line}) => line))}${body.join('').trimStart()}`
  // shellcheck warns of names with a $ in them, which are meant as they are.
  const odd = /'[^']*[$`][^']*'/.test(body.join('')) ? '# shellcheck disable=SC2016\n' : ''
  return `#!/bin/sh\n# ${visible(title)}, as lines of a shell\n${odd}set -eu\n\n${text}`
}
