import * as fs from 'node:fs'
import {perform} from '../lib/act.ts'
import {CONTROLLERS, mounting, prepare} from '../lib/cgroups/prepare.ts'
import {CHANGES, command, OUTPUT} from '../lib/cli/command.ts'
import {list} from '../lib/cli/options.ts'
import {describe, isTerminal, write} from '../lib/cli/output.ts'
import {awaited} from '../lib/cli/patience.ts'
import {dryActs, telling} from '../lib/cli/perform.ts'
import {type Source, sourceOf} from '../lib/cli/source.ts'
import {NoDocument} from '../lib/document/read.ts'
import {UsageError} from '../lib/errors.ts'
import {words} from '../lib/kernel.ts'
import {readsPipe} from '../lib/stdio.ts'

const options = {
  controllers: {
    value: 'LIST',
    help: `the controllers to enable (default: what there is of ${CONTROLLERS.join(',')})`,
  },
  'evacuate-to': {value: 'NAME', help: 'the cgroup that takes up the processes (default other-procs)'},
  ...CHANGES,
  ...OUTPUT,
} as const

export default command(
  {
    name: 'cgroup-init',
    summary: 'make the tree of cgroups ready for limits (v2, in a fresh container)',
    usage: '[OPTIONS]',
    description: [
      'In a container, cgroup v2 enables no controller ("Device or resource busy") as long as there are processes in the topmost cgroup. This moves them all to a cgroup other-procs, and enables the controllers for the cgroups beside it. It can be run again.',
      "Where nothing needs to be done (the kernel's own root, cgroup v1) it says so; a tree that systemd manages it leaves alone. In a pipe it passes the document on.",
    ],
    options,
    examples: [
      ['hew cgroup-init', 'once in a fresh privileged container'],
      ['hew mkroot | hew cgroup-init | hew limit --memory 80M | hew enter', 'all in one line'],
    ],
    run: ({options: given, operands}) => {
      if (operands.length > 0) throw new UsageError(`${operands[0]}: cgroup-init has no operands`)
      const evacuateTo = given['evacuate-to'] ?? 'other-procs'
      if (!/^[A-Za-z0-9_-]{1,100}$/.test(evacuateTo))
        throw new UsageError(`--evacuate-to ${evacuateTo}: it is a name of letters, digits, - and _`)
      const controllers = given.controllers === undefined ? undefined : list(given.controllers)
      const unknown = controllers?.find(name => !CONTROLLERS.includes(name))
      if (unknown) throw new UsageError(`--controllers ${unknown}: there are ${CONTROLLERS.join(', ')}`)
      const from = piped()
      const asked = {controllers, evacuateTo}
      if (given['dry-run']) {
        const document = from && describe(from.configuration, () => [], {quiet: given.quiet, json: true})
        return dryActs([...mounting(), ...prepare(asked).acts], 'hew cgroup-init', document)
      }
      const tell = telling('hew cgroup-init', given)
      perform(mounting(), tell)
      const {found, cgroup, before, acts} = prepare(asked)
      const {moved} = perform(acts, tell)
      const after = cgroup === undefined ? [] : words(`${cgroup}/cgroup.subtree_control`)
      const done = {found, ...(cgroup !== undefined && {cgroup}), moved: moved.size, before, after}
      if (from)
        write(
          1,
          describe(from.configuration, () => [['root', from.root], ...summary(done)], given),
        )
      else write(1, given.json ? `${JSON.stringify(done)}\n` : text(done))
    },
  },
  import.meta,
)

/** The document in the pipe, where there is one: it is a command of its own as well, in scripts whose stdin is empty. */
function piped(): Source | undefined {
  if (isTerminal(0) || !(readsPipe() || fs.fstatSync(0).isFile())) return undefined
  try {
    return sourceOf(awaited())
  } catch (error) {
    if (error instanceof NoDocument) return undefined
    throw error
  }
}

/** What was found, and what was done. */
interface Done {
  found: string
  cgroup?: string
  moved: number
  before: string[]
  after: string[]
}

function summary({found, cgroup, moved, before, after}: Done): [string, string][] {
  if (cgroup === undefined) return [['cgroups', found]]
  return [
    ['cgroups', `${found} (${cgroup})`],
    ['moved', `${moved} ${moved === 1 ? 'process' : 'processes'}`],
    ['enabled', `${after.join(' ')} (before: ${before.join(' ') || 'none'})`],
  ]
}

function text(done: Done): string {
  return summary(done)
    .map(([term, text]) => `${term.padEnd(7)}  ${text}\n`)
    .join('')
}
