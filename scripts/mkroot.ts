import * as fs from 'node:fs'
import * as path from 'node:path'
import {CHANGES, command, OUTPUT} from '../lib/cli/command.ts'
import {list, type Values} from '../lib/cli/options.ts'
import {describe} from '../lib/cli/output.ts'
import {dryRun, explained} from '../lib/cli/perform.ts'
import {caller, configurationFor, PATH} from '../lib/document/defaults.ts'
import {ANNOTATION, type Configuration} from '../lib/document/oci.ts'
import {EXIT, HewError, series, UsageError} from '../lib/errors.ts'
import {closure, type Item} from '../lib/programs/closure.ts'
import {lackText} from '../lib/programs/lacks.ts'
import {configurationFiles, EXRC, LINKS} from '../lib/root/essentials.ts'
import {
  belongings,
  type Layout,
  layoutOf,
  linksIntoPath,
  populated,
  shellOf,
  skeleton,
  transaction,
} from '../lib/root/plan.ts'

import {freshRoot, rootsDirectory} from '../lib/root/roots.ts'
import {typable} from '../lib/shell.ts'
import {become} from '../lib/stage.ts'
import {end} from '../lib/stdio.ts'
import type {Hints, Plan, Step} from '../lib/step.ts'
import {Sysroot} from '../lib/sysroot.ts'

const options = {
  with: {
    value: 'PROGRAM,...',
    many: true,
    help: 'directories and just these programs, with what they need to run',
  },
  empty: {help: 'directories only'},
  from: {value: 'DIR|TAR', help: 'a copy of a directory, or of what is in an archive (tar; gz, xz, zstd)'},
  debootstrap: {value: 'SUITE', help: 'a Debian of this release, made by debootstrap'},
  mirror: {value: 'URL', help: 'where debootstrap downloads from'},
  variant: {value: 'NAME', help: "debootstrap's variant, for example minbase"},
  into: {help: 'add to a DIR that is not empty'},
  rm: {help: 'the root goes when the container that enters it has ended'},
  ...CHANGES,
  ...OUTPUT,
} as const

type Given = Values<typeof options>

/** Where nobody has named a DIR. */
const ELSEWHERE: Hints = {any: "name a directory of yours, as in 'hew mkroot DIR'"}

/** What goes into the root, and what there is to say of it. */
interface Making {
  steps: Plan
  summary: () => [term: string, text: string][]
  /** The command of the document; default: sh. */
  shell?: string | undefined
}

export default command(
  {
    name: 'mkroot',
    summary: 'make a root: the directory that is / in a container',
    usage: '[DIR] [--with PROGRAM,... | --empty | --from DIR|TAR | --debootstrap SUITE] [OPTIONS]',
    description: [
      'Without more, the root is made of this machine: its shell, the usual programs and all that they need to run, in directories as they are here. Without DIR it is a new directory under /var/lib/hew/roots, or, for an ordinary user, under ~/.local/share/hew/roots.',
      'A DIR that holds something already is refused, unless --into is given. When something fails, or at Ctrl-C, everything that was made goes again; after a kill -9 the next run on the same DIR starts over.',
    ],
    options,
    examples: [
      ['hew mkroot | hew enter', 'a shell in a new root'],
      ['hew mkroot /my-new-root --with bash,ls', "the lesson's first root"],
      ['hew mkroot --from rootfs.tar.gz --rm | hew enter', 'a look into an archive'],
      ['hew mkroot --debootstrap bookworm --variant minbase /srv/bookworm', 'a Debian'],
    ],
    run: async ({options: given, operands}) => {
      checkUsage(given, operands)
      const [named] = operands
      const root =
        named === undefined ? freshRoot(rootsDirectory(process.getuid!(), process.env)) : path.resolve(named)
      if (root === '/') throw new HewError("/ is this machine's own root: name another directory")
      const usual = configurationFor(root, caller())
      const adding = given.into && isFull(root)
      const {steps, summary, shell} = making(given, usual, adding)
      const configuration = documentFor(usual, given, shell)
      const text = describe(
        configuration,
        () => [['root', root], ...summary(), ['next', `hew enter -r ${typable(root)}`]],
        {
          quiet: given.quiet,
          json: given.json || given['dry-run'],
        },
      )
      const plan = transaction(root, adding, steps, printed(text), named === undefined ? ELSEWHERE : {})
      if (await dryRun(plan, () => `hew mkroot ${typable(root)}`, given)) return
      return carryOut(plan, root, explained(given))
    },
  },
  import.meta,
)

function checkUsage(given: Given, operands: string[]): void {
  if (operands.length > 1)
    throw new UsageError(`one root at a time: ${operands[1]} is one DIR too many (programs go behind --with)`)
  const ways = [
    given.with.length > 0 && '--with',
    given.empty && '--empty',
    given.from !== undefined && '--from',
    given.debootstrap !== undefined && '--debootstrap',
  ].filter(way => way !== false)
  if (ways.length > 1) throw new UsageError(`${series(ways)} exclude each other`)
  for (const name of ['mirror', 'variant'] as const)
    if (given[name] !== undefined && given.debootstrap === undefined)
      throw new UsageError(`--${name} goes with --debootstrap SUITE`)
  if (given.into && operands.length === 0) throw new UsageError('--into needs the DIR that it is about')
  if (given.into && given.rm)
    throw new UsageError('--rm removes only what mkroot made, and --into adds to what is there')
  if (given.into && given.debootstrap !== undefined)
    throw new UsageError('debootstrap wants a new DIR, without --into')
}

function isFull(root: string): boolean {
  return new Sysroot(root).list('/').length > 0
}

function making(given: Given, {root, hostname}: Configuration, adding: boolean): Making {
  const at = root!.path
  const machine = new Sysroot('/')
  const layout = layoutOf(machine)
  if (given.empty) return {steps: skeleton(layout), summary: () => [['holds', 'directories only']]}
  if (given.with.length > 0) return withPrograms(given.with.flatMap(list), layout)
  if (given.from !== undefined) return imported(path.resolve(given.from), at)
  if (given.debootstrap !== undefined) return bootstrapped(given, at)
  return ofThisMachine(machine, layout, hostname!, adding ? new Sysroot(at) : undefined)
}

/** The caller's PATH, and behind it the usual one: an ordinary user's often has no sbin. */
const search = (): string => [...new Set(`${process.env.PATH ?? ''}:${PATH}`.split(':'))].join(':')

/** @param there a root that is added to */
function ofThisMachine(machine: Sysroot, layout: Layout, hostname: string, there?: Sysroot): Making {
  const {found, absent, items} = belongings(machine, search())
  const shell = shellOf(items, layout)
  if (shell === undefined)
    throw new HewError(
      'this machine has no shell to put into a root: take a root from elsewhere with --from DIR|TAR, or name programs of this machine with --with PROGRAM,...',
    )
  const isVim = items.some(({path: file}) => /\/vim(\.\w+)?$/.test(file))
  const files = [...configurationFiles(hostname, shell), ...(isVim ? [EXRC] : [])]
  const usual = LINKS.filter(([path]) => !there || there.lstat(path).kind === 'missing')
  return {
    steps: populated(layout, {items, files, links: [...usual, ...linksIntoPath(items, PATH)]}),
    summary: () => [
      ['programs', found.join(' ')],
      ...(absent.length > 0 ? [['not here', absent.join(' ')] as [string, string]] : []),
      ['files', sizeOf(items)],
    ],
  }
}

function withPrograms(programs: string[], layout: Layout): Making {
  if (programs.length === 0) throw new UsageError('--with names no program: --with bash,ls')
  const names = programs.map(name => (name.includes('/') ? path.resolve(name) : name))
  const {items, missing} = closure(names, {path: search()})
  if (missing.length > 0)
    throw new HewError(
      ['nothing was made, since this is missing:', ...missing.map(lack => `  ${lackText(lack)}`)],
      EXIT.missing,
    )
  const basenames = names.map(name => path.basename(name))
  return {
    steps: populated(layout, {items, files: [], links: linksIntoPath(items, PATH)}),
    summary: () => [
      ['programs', basenames.join(' ')],
      ['files', sizeOf(items)],
    ],
    shell: ['sh', 'bash', 'dash', 'ash', 'zsh', 'ksh', 'fish'].find(name => basenames.includes(name)),
  }
}

function imported(source: string, root: string): Making {
  const stat = fs.statSync(source, {throwIfNoEntry: false})
  if (!stat) throw new HewError(`there is no ${source} to make a root from`)
  const summary = (): [string, string][] => [['from', source]]
  if (!stat.isDirectory()) return {steps: [{do: 'unpack', archive: source}], summary}
  const inside = path.relative(fs.realpathSync(source), realpath(root))
  if (!inside.startsWith('../'))
    throw new HewError(`${root} is in ${source}, and would be copied into itself: name a directory elsewhere`)
  return {steps: [{do: 'copy-tree', source}], summary}
}

/** Of a path that may not be there yet. */
function realpath(name: string): string {
  return fs.existsSync(name)
    ? fs.realpathSync(name)
    : path.join(realpath(path.dirname(name)), path.basename(name))
}

function bootstrapped({debootstrap, mirror, variant}: Given, root: string): Making {
  const suite = debootstrap!
  if (!/^[a-z0-9][\w.+/-]*$/i.test(suite))
    throw new UsageError(`--debootstrap ${suite}: it is the name of a release`)
  return {
    steps: [
      {do: 'adopt'},
      {do: 'debootstrap', suite, path: root, ...(mirror && {mirror}), ...(variant && {variant})},
    ],
    summary: () => [['Debian', suite]],
  }
}

function sizeOf(items: Item[]): string {
  const files = items.filter(({kind}) => kind === 'file')
  const bytes = files.reduce((sum, item) => sum + fs.statSync(item.path).size, 0)
  return `${files.length}, ${(bytes / 1e6).toFixed(1)} MB`
}

/** What mkroot has made says so: it alone is ever removed with a container. */
function documentFor(usual: Configuration, {rm, into}: Given, shell = 'sh'): Configuration {
  const annotations = {
    ...usual.annotations,
    ...(rm && {[ANNOTATION.remove]: 'true'}),
    ...(!into && {[ANNOTATION.root]: IDENTITY}),
  }
  return {...usual, process: {...usual.process!, args: [shell]}, annotations}
}

/** Stands in the document for "dev:ino", which nobody knows before the root is made; no path has a NUL in it. */
const IDENTITY = '\0'

function printed(text: string): Step[] {
  const parts = text.split(`:${JSON.stringify(IDENTITY)}`)
  return parts.flatMap((part, i): Step[] =>
    i === 0
      ? [{do: 'print', text: i < parts.length - 1 ? `${part}:"` : part}]
      : [{do: 'print-identity'}, {do: 'print', text: `"${part}`}],
  )
}

/** The stage does it alone, but for what has to be read or run by hew beside it. */
async function carryOut(plan: Plan, root: string, explain: boolean): Promise<void> {
  const manner = {as: 'hew mkroot', title: `mkroot ${root}`, explain}
  if (!plan.some(step => step.do === 'unpack' || step.do === 'debootstrap')) become(plan, manner)
  const {carryOutBeside} = await import('../lib/root/beside.ts')
  end(await carryOutBeside(plan, manner))
}
