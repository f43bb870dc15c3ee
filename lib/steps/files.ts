import {inRoot, quote} from '../shell.ts'
import type {Table} from '../step.ts'

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
  symlink: {target: string; path: string; force?: boolean}
  /** A new file. */
  write: {path: string; mode: number; content: string}
  /** The same, unless there is one already. */
  put: {path: string; mode: number; content: string}
  /** A directory tree of the machine goes, if it still is the one with this device and inode. */
  'remove-tree': {path: string; dev: number | bigint; ino: number | bigint}
  /** Text on stdout. */
  print: {text: string}
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
    check: unchecked,
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
  'copy-tree': {shell: s => `cp -a ${quote(s.source)}/. "$root"`, words: s => [s.source], check: unchecked},
  symlink: {
    shell: s => `ln -s ${quote(s.target)} ${inRoot(s.path)}`,
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
}
