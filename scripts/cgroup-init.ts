import * as fs from 'node:fs'
import {CONTROLLERS, type Prepared, prepare} from '../lib/cgroups/prepare.ts'
import {command, OUTPUT} from '../lib/cli/command.ts'
import {list} from '../lib/cli/options.ts'
import {describe, isTerminal, write} from '../lib/cli/output.ts'
import {type Source, source} from '../lib/cli/source.ts'
import {NoDocument} from '../lib/document/read.ts'
import {HewError, UsageError} from '../lib/errors.ts'
import {encode, program} from '../lib/stage.ts'

const options = {
  controllers: {
    value: 'LIST',
    help: `the controllers to enable (default: what there is of ${CONTROLLERS.join(',')})`,
  },
  'evacuate-to': {value: 'NAME', help: 'the cgroup that takes up the processes (default other-procs)'},
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
      const prepared = prepare({controllers, evacuateTo, mount})
      if (from) write(1, describe(from.configuration, [['root', from.root], ...summary(prepared)], given))
      else write(1, given.json ? `${JSON.stringify(prepared)}\n` : text(prepared))
    },
  },
  import.meta,
)

/** The document in the pipe, where there is one: it is a command of its own as well, in scripts whose stdin is empty. */
function piped(): Source | undefined {
  const file = fs.fstatSync(0)
  if (isTerminal(0) || !(file.isFIFO() || file.isFile())) return undefined
  try {
    return source(undefined)
  } catch (error) {
    if (error instanceof NoDocument) return undefined
    throw error
  }
}

function summary({found, cgroup, moved, before, after}: Prepared): [string, string][] {
  if (cgroup === undefined) return [['cgroups', found]]
  return [
    ['cgroups', `${found} (${cgroup})`],
    ['moved', `${moved} ${moved === 1 ? 'process' : 'processes'}`],
    ['enabled', `${after.join(' ')} (before: ${before.join(' ') || 'none'})`],
  ]
}

function text(prepared: Prepared): string {
  return summary(prepared)
    .map(([term, text]) => `${term.padEnd(7)}  ${text}\n`)
    .join('')
}

/** mount(2) is the stage's to call: a container of nothing but hew has no mount(8). */
function mount(at: string): void {
  const {spawnSync} = process.getBuiltinModule('node:child_process')
  const options = ['nosuid', 'nodev', 'noexec']
  const words = encode(
    [
      {do: 'root', path: '/'},
      {do: 'mount', type: 'cgroup2', source: 'cgroup2', path: at, options},
    ],
    {as: 'hew cgroup-init'},
  )
  const {status} = spawnSync(program(), ['cgroup-init'], {
    argv0: 'hew-stage',
    env: Object.fromEntries(words.entries()),
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status !== 0) throw new HewError(`cgroups are not mounted here, and cannot be mounted at ${at}`)
}
