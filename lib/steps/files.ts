import * as fs from 'node:fs'
import {reason} from '../errors.ts'
import {inRoot, quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {Sysroot} from '../sysroot.ts'

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
  /** As mkdir, with mode, owner, times and attributes of a directory of the machine. */
  directory: {source: string; path: string}
  /** A file of the machine with its owner, mode, times, holes and attributes. */
  copy: {source: string; path: string; setuid?: boolean; force?: boolean}
  /** Everything in a directory of the machine. */
  'copy-tree': {source: string}
  /** The entries of a tar archive. hew reads them, and the stage makes them (lib/stage/archive.c). */
  unpack: {archive: string}
  /** From here on others write into a claimed root too: taking back means emptying it. */
  adopt: object
  /** Debian's own way to a root. It runs beside the stage, which holds the root meanwhile. */
  debootstrap: {suite: string; path: string; mirror?: string; variant?: string}
  symlink: {target: string; path: string}
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
const unchecked = (): undefined => undefined

export const fileSteps: Table<FileSteps> = {
  begin: {shell: () => 'set -eu', words: none, check: unchecked},
  keep: {shell: nothing, words: none, check: unchecked},
  root: {shell: s => `root=${quote(s.path)}`, words: s => [s.path], check: unchecked},
  'new-root': {
    shell: s => `root=${quote(s.path)}; mkdir -p "$root" && chmod ${octal(s.mode)} "$root"`,
    words: s => [octal(s.mode), s.path],
    check: s => notForNewRoot(s.path),
  },
  claim: {shell: nothing, words: s => [s.text], check: unchecked},
  release: {shell: nothing, words: none, check: unchecked},
  mkdir: {
    shell: s => `[ -d ${inRoot(s.path)} ] || mkdir -m ${octal(s.mode)} ${inRoot(s.path)}`,
    words: s => [octal(s.mode), s.path],
    check: unchecked,
  },
  directory: {
    shell: s =>
      `[ -d ${inRoot(s.path)} ] || cp -a --no-target-directory --attributes-only ${quote(s.source)} ${inRoot(s.path)}`,
    words: s => [s.source, s.path],
    check: unchecked,
  },
  copy: {
    shell: s =>
      [
        `cp -a${s.force ? ' --remove-destination' : ''} ${quote(s.source)} ${inRoot(s.path)}`,
        ...(s.setuid ? [] : [`chmod u-s,g-s ${inRoot(s.path)}`]),
      ].join(' && '),
    words: s => [`${s.setuid ? 's' : ''}${s.force ? 'f' : ''}` || '-', s.source, s.path],
    check: unchecked,
  },
  'copy-tree': {
    shell: s => `cp -a ${quote(s.source)}/. "$root"`,
    words: s => [s.source],
    check: s => unreadable(s.source, fs.constants.R_OK | fs.constants.X_OK),
  },
  unpack: {
    shell: s =>
      `tar -xpf ${quote(s.archive)} -C "$root" --numeric-owner --xattrs --xattrs-include='*' --same-owner`,
    words: none,
    check: s => unreadable(s.archive, fs.constants.R_OK),
  },
  adopt: {shell: nothing, words: none, check: unchecked},
  debootstrap: {
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
    shell: s => `ln -s ${quote(s.target)} ${inRoot(s.path)}`,
    words: s => [s.target, s.path],
    check: unchecked,
  },
  relink: {
    shell: s => `ln -sfn ${quote(s.target)} ${inRoot(s.path)}`,
    words: s => [s.target, s.path],
    check: unchecked,
  },
  write: {
    shell: s =>
      `printf %s ${quote(s.content)} > ${inRoot(s.path)} && chmod ${octal(s.mode)} ${inRoot(s.path)}`,
    words: s => [octal(s.mode), s.path, s.content],
    check: unchecked,
  },
  put: {
    shell: s =>
      `[ -e ${inRoot(s.path)} ] || { printf %s ${quote(s.content)} > ${inRoot(s.path)} && chmod ${octal(s.mode)} ${inRoot(s.path)}; }`,
    words: s => [octal(s.mode), s.path, s.content],
    check: unchecked,
  },
  'remove-tree': {
    shell: s => `rm -rf --one-file-system ${quote(s.path)}`,
    words: s => [s.path, `${s.dev}`, `${s.ino}`],
    check: unchecked,
  },
  print: {shell: s => `printf %s ${quote(s.text)}`, words: s => [s.text], check: unchecked},
  'print-identity': {shell: () => 'stat -c %d:%i "$root"', words: none, check: unchecked},
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
    return code === 'ENOTDIR' ? `${root} is not a directory` : undefined
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
