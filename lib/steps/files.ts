import * as fs from 'node:fs'
import {reason} from '../errors.ts'
import {inRoot, quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {Sysroot} from '../sysroot.ts'
import {call, unchecked} from './line.ts'

/** File steps: paths are inside the root that `root` or `new-root` opened, sources are the machine's own. */
export interface FileSteps {
  /** A signal from now on undoes what was created, and so does a failure. */
  begin: object
  /** What was created stays. */
  keep: object
  /** The root of the following steps. */
  root: {path: string}
  /** The same, made with its parents; it may be there when it is empty. */
  'new-root': {path: string; mode: number}
  /** Marks the root as unfinished, and holds it for this process alone. */
  claim: {text: string}
  /** The root is complete. */
  release: object
  mkdir: {path: string; mode: number}
  /** As mkdir, with mode, owner, times and attributes of the machine's directory of that path. */
  directory: {path: string}
  /** The machine's file of that path with its owner, mode, times, holes and attributes; `link`: that file itself, where that can be. */
  copy: {path: string; setuid?: boolean; force?: boolean; link?: boolean}
  /** Everything in a directory of the machine. */
  'copy-tree': {source: string}
  /** The entries of a tar archive. hew reads them, and the stage makes them (lib/stage/archive.c). */
  unpack: {archive: string}
  /** From here on others write into a claimed root too: taking back means emptying it. */
  adopt: object
  /** Debian's own way to a root. It runs beside the stage, which holds the root meanwhile. */
  debootstrap: {suite: string; path: string; mirror?: string; variant?: string}
  /** `fresh`: in a directory of hew's own, as was seen when the script was printed. */
  symlink: {target: string; path: string; fresh?: boolean}
  /** The same, in place of whatever is there; only a directory stays. */
  relink: {target: string; path: string}
  /** A new file. */
  write: {path: string; mode: number; content: string}
  /** The same, unless there is one already. */
  put: {path: string; mode: number; content: string}
  /** A directory tree of the machine goes, if it still is the one with this device and inode. */
  'remove-tree': {path: string; dev: number | bigint; ino: number | bigint}
  /** Text on stdout. */
  print: {text: string}
  /** "dev:ino" of the root, on stdout. */
  'print-identity': object
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0')
const none = (): never[] => []
const nothing = (): string => ''
/** Switches before the operands of a script's function. */
const when = (wanted: boolean | undefined, flag: string): string[] => (wanted ? [flag] : [])

const TAKE_BACK = 'take back what is done here: when a line fails, or somebody interrupts, it stays'

export const fileSteps: Table<FileSteps> = {
  begin: {because: '', shell: () => ({cannot: TAKE_BACK}), words: none, check: unchecked},
  keep: {because: '', shell: nothing, words: none, check: unchecked},
  root: {
    because: 'The root: a directory, so far',
    shell: s => `root=${quote(s.path)}`,
    words: s => [s.path],
    check: unchecked,
  },
  'new-root': {
    because: 'The root: a directory, so far. mkdir(1)',
    shell: s => call('new_root', s.path),
    words: s => [octal(s.mode), s.path],
    check: s => notForNewRoot(s.path),
  },
  claim: {because: '', shell: nothing, words: s => [s.text], check: unchecked},
  release: {because: '', shell: nothing, words: none, check: unchecked},
  mkdir: {
    because: 'Directories as every system has them: hier(7), mkdir(1)',
    shell: s => call('directory', octal(s.mode), s.path),
    words: s => [octal(s.mode), s.path],
    check: unchecked,
  },
  directory: {
    because: 'Directories as on this machine: owner, mode, times, attributes. mkdir(1), xattr(7)',
    shell: s => call('directory_like', s.path),
    finish: s => call('finish', s.path),
    words: s => [s.path, s.path],
    check: unchecked,
  },
  copy: {
    because: 'Files as on this machine: owner, mode, times, attributes. cp(1), ln(1), xattr(7)',
    shell: s => call('copy', ...when(s.setuid, '-s'), ...when(s.force, '-f'), ...when(s.link, '-l'), s.path),
    words: s => [`${s.setuid ? 's' : ''}${s.force ? 'f' : ''}${s.link ? 'l' : ''}` || '-', s.path, s.path],
    check: unchecked,
  },
  'copy-tree': {
    because: 'All that is in a directory of this machine. cp(1)',
    shell: s => call('copy_tree', s.source),
    words: s => [s.source],
    check: s => unreadable(s.source, fs.constants.R_OK | fs.constants.X_OK),
  },
  unpack: {
    because: 'All that is in an archive. tar(1)',
    shell: s => call('unpack', s.archive),
    words: none,
    check: s => unreadable(s.archive, fs.constants.R_OK),
  },
  adopt: {because: '', shell: nothing, words: none, check: unchecked},
  debootstrap: {
    because: "Debian's own way to a root. debootstrap(8)",
    shell: s => ['debootstrap', ...debootstrapArguments(s).map(quote)].join(' '),
    words: none,
    check: () => {
      if (process.getuid!() !== 0) return 'debootstrap works for root alone: type the same line behind sudo'
      return installed('debootstrap')
        ? undefined
        : 'debootstrap is not installed: apt-get install debootstrap'
    },
  },
  symlink: {
    because: 'Links. ln(1), symlink(7)',
    shell: s => (s.fresh ? `ln -s ${quote(s.target)} ${inRoot(s.path)}` : call('symlink', s.target, s.path)),
    words: s => [s.target, s.path],
    check: unchecked,
  },
  relink: {
    because: 'Links. ln(1), symlink(7)',
    shell: s => call('symlink', '-f', s.target, s.path),
    words: s => [s.target, s.path],
    check: unchecked,
  },
  write: {
    because: "Files of hew's own",
    shell: s => call('write', octal(s.mode), s.path, s.content),
    words: s => [octal(s.mode), s.path, s.content],
    check: unchecked,
  },
  put: {
    because:
      "Files of hew's own: the machine's users and addresses stay outside. passwd(5), nsswitch.conf(5)",
    shell: s => call('put', octal(s.mode), s.path, s.content),
    words: s => [octal(s.mode), s.path, s.content],
    check: unchecked,
  },
  'remove-tree': {
    because: 'The root goes, if it is the same one still. rm(1)',
    shell: s => call('remove_tree', s.path, `${s.dev}:${s.ino}`),
    words: s => [s.path, `${s.dev}`, `${s.ino}`],
    check: unchecked,
  },
  print: {
    because: 'The document for the next command: config.md of the OCI runtime specification',
    shell: s => `printf %s ${quote(s.text)}`,
    words: s => [s.text],
    check: unchecked,
  },
  'print-identity': {
    because: 'The root by device and inode, so that no other is removed: stat(1)',
    shell: () => `printf %s "$(stat -c %d:%i "$root")"`,
    words: none,
    check: unchecked,
  },
}

/** The file that says that a root is not finished, as `claim` makes it. */
export const MARKER = '.hew-unfinished'

/** What a user can do about a root that holds something. */
export const NOT_EMPTY = 'name another directory, or say --into to add to it'

function notForNewRoot(root: string): string | undefined {
  let names: string[]
  try {
    names = fs.readdirSync(root)
  } catch (error) {
    const {code} = error as NodeJS.ErrnoException
    if (code !== 'ENOTDIR') return undefined
    return fs.existsSync(root)
      ? `${root} is not a directory`
      : `${root}: a part of its path is not a directory`
  }
  if (!names.includes(MARKER)) return names.length > 0 ? `${root} is not empty: ${NOT_EMPTY}` : undefined
  // The stage decides whose it is; what it finds cut off and its own, it clears and makes anew.
  return new Sysroot(root).read(`/${MARKER}`)?.toString().endsWith(' into\n')
    ? `${root} is not finished, adding to it was cut off: say --into to do it again`
    : undefined
}

function unreadable(file: string, mode: number): string | undefined {
  try {
    fs.accessSync(file, mode)
    return undefined
  } catch (error) {
    return `cannot read ${file}: ${reason(error)}`
  }
}

function installed(program: string): boolean {
  const directories = (process.env.PATH ?? '').split(':').filter(directory => directory.startsWith('/'))
  return directories.some(directory => fs.existsSync(`${directory}/${program}`))
}

/** debootstrap(8). */
export function debootstrapArguments({suite, path, mirror, variant}: FileSteps['debootstrap']): string[] {
  return [...(variant ? [`--variant=${variant}`] : []), suite, path, ...(mirror ? [mirror] : [])]
}
