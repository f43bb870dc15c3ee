import * as fs from 'node:fs'
import * as path from 'node:path'
import {CHANGES, command, OUTPUT} from '../lib/cli/command.ts'
import {describe, write} from '../lib/cli/output.ts'
import {dryRun, explained} from '../lib/cli/perform.ts'
import {source} from '../lib/cli/source.ts'
import type {Configuration} from '../lib/document/oci.ts'
import {EXIT, HewError, UsageError} from '../lib/errors.ts'
import {type Closure, closure, type Item, type Missing} from '../lib/programs/closure.ts'
import {copyPlan} from '../lib/programs/copy.ts'
import {lackText} from '../lib/programs/lacks.ts'
import {typable, visible} from '../lib/shell.ts'
import {become} from '../lib/stage.ts'
import type {Plan} from '../lib/step.ts'
import {Sysroot} from '../lib/sysroot.ts'

const options = {
  root: {
    short: 'r',
    value: 'ROOT',
    help: 'the root to copy into; without it a document is read from the pipe',
  },
  list: {short: 'l', help: 'copy nothing: print what would be copied, from where and why'},
  force: {short: 'f', help: 'replace files that are there already and differ'},
  'keep-setuid': {help: 'keep the setuid and setgid bits of files'},
  hardlink: {
    help: "hard links to this machine's files in place of copies, where the root is on the same file system: who writes into one writes into both",
  },
  'library-path': {value: 'DIR:...', help: 'look for libraries here first, as LD_LIBRARY_PATH does'},
  dlopen: {
    value: 'PRIORITY',
    choices: ['required', 'recommended', 'suggested', 'none'],
    help: 'of the libraries that a program opens by itself (.note.dlopen), those from this priority on (default recommended)',
  },
  ...CHANGES,
  ...OUTPUT,
} as const

export default command(
  {
    name: 'copy-deps',
    summary: 'copy programs into a root, with everything that they need to run',
    usage: '[-r ROOT] [OPTIONS] PROGRAM...',
    description: [
      'A PROGRAM is a name (looked up in PATH) or a path. Its libraries are found as the loader would find them, a script brings its interpreter; links stay links. Nothing of what is copied is ever executed, and nothing is written outside ROOT, whatever links it holds.',
      "With --hardlink the root takes no space, and its programs are this machine's own: root in a container could change them, so the document says that the root is read-only, and with -r it is for you to say: 'hew enter --read-only -r ROOT'. What cannot be linked is copied: what is on another file system, what an ordinary user does not own (fs.protected_hardlinks), and setuid files, unless --keep-setuid is given.",
      'What is there already and the same is not copied again.',
      'Exit status: 1 when something that a program needs is nowhere to be found; then nothing has been copied.',
    ],
    options,
    examples: [
      ['hew mkroot --empty | hew copy-deps bash ls | hew enter', "the lesson's first root"],
      ['hew copy-deps --list bash', 'what bash needs, and how it is found'],
      ['hew copy-deps -r /my-new-root ./program', 'a program of your own, at the same path inside'],
    ],
    run: async ({options: given, operands}) => {
      if (operands.length === 0)
        throw new UsageError('no program: name at least one, as in `hew copy-deps bash ls`')
      const programs = operands.map(name => (name.includes('/') ? path.resolve(name) : name))
      const from = given.list ? undefined : source(given.root, ['copy-deps', ...operands])
      const needed = closure(programs, {
        path: process.env.PATH,
        libraryPath: given['library-path'],
        dlopen: given.dlopen as 'required' | 'recommended' | 'suggested' | 'none' | undefined,
      })
      if (needed.missing.length > 0) throw new HewError(missingText(needed.missing), EXIT.missing)
      if (!from) return write(1, given.json ? `${JSON.stringify(needed.items)}\n` : listing(needed))
      const {items} = needed
      const shelled = withShell(from.configuration, items, from.root)
      const document = given.hardlink ? {...shelled, root: {...shelled.root!, readonly: true}} : shelled
      const text = describe(document, () => summary(from.root, operands, items, given.hardlink), {
        quiet: given.quiet,
        json: given.json || given['dry-run'],
      })
      const copies = copyPlan(items, {setuid: given['keep-setuid'], force: given.force, link: given.hardlink})
      const plan: Plan = [
        {do: 'begin'},
        {do: 'root', path: from.root},
        ...copies,
        {do: 'print', text},
        {do: 'keep'},
      ]
      if (
        await dryRun(
          plan,
          () => `hew copy-deps -r ${typable(from.root)} ${operands.map(typable).join(' ')}`,
          given,
        )
      )
        return
      become(plan, {as: 'hew copy-deps', title: `copy-deps ${from.root}`, explain: explained(given)})
    },
  },
  import.meta,
)

function listing({items, absent}: Closure): string {
  const shown = items.filter(({kind}) => kind !== 'directory')
  const names = shown.map(item =>
    visible(item.kind === 'link' ? `${item.path} -> ${item.target}` : item.path),
  )
  const width = Math.min(60, Math.max(...names.map(name => name.length)))
  const why = ({because: [first]}: Item): string =>
    first!.by === 'command line' ? first!.rule : `${first!.rule}, of ${first!.by}`
  const optional = absent.map(
    ({what, by}) => `# not there, and ${visible(by)} can do without: ${visible(what)}\n`,
  )
  return [...shown.map((item, i) => `${names[i]!.padEnd(width)}  ${visible(why(item))}\n`), ...optional].join(
    '',
  )
}

function missingText(missing: Missing[]): string[] {
  return [
    missing.length === 1
      ? 'nothing was copied, since this is missing:'
      : `nothing was copied, since ${missing.length} things are missing:`,
    ...missing.map(lack => `  ${misunderstood(lack) ?? lackText(lack)}`),
  ]
}

/** What people give where a program should be. */
function misunderstood({kind, what, by}: Missing): string | undefined {
  if (kind !== 'program' || by !== 'command line') return undefined
  if (fs.statSync(what, {throwIfNoEntry: false})?.isDirectory())
    return `${what} is a directory: name the programs in it`
  const names = what.split(/[, ]+/).filter(name => name !== '')
  if (names.length > 1) return `${what}: each program is a word of its own: ${names.map(typable).join(' ')}`
  return BUILTINS.includes(what) ? `${what}: it is no program, the shell does it itself` : undefined
}

/** Of sh(1), and never to be found as programs. */
const BUILTINS = 'cd alias exit export fg bg jobs history source type ulimit umask unset wait'.split(' ')

const SHELLS = ['bash', 'sh', 'dash', 'ash', 'zsh', 'ksh', 'fish']

/** A document that would start `sh` in a root that gets another shell starts that one. */
function withShell(configuration: Configuration, items: Item[], root: string): Configuration {
  const args = configuration.process?.args
  if (args?.join(' ') !== 'sh') return configuration
  const inside = new Sysroot(root)
  const copied = new Set(items.map(item => item.path))
  const has = (name: string): boolean =>
    [`/bin/${name}`, `/usr/bin/${name}`].some(
      file => copied.has(file) || inside.resolve(file).kind === 'file',
    )
  if (has('sh')) return configuration
  const shell = SHELLS.find(has)
  return shell === undefined
    ? configuration
    : {...configuration, process: {...configuration.process!, args: [shell]}}
}

function summary(root: string, programs: string[], items: Item[], linked: boolean): [string, string][] {
  const files = items.filter(({kind}) => kind === 'file')
  const bytes = files.reduce((sum, item) => sum + fs.statSync(item.path).size, 0)
  return [
    ['root', root],
    ['programs', programs.join(' ')],
    ['files', `${files.length}, ${(bytes / 1e6).toFixed(1)} MB`],
    ['next', `hew enter ${linked ? '--read-only ' : ''}-r ${typable(root)}`],
  ]
}
