import {readSync} from 'node:fs'
import {reason} from '../errors.ts'
import type {Sysroot} from '../sysroot.ts'
import {type Elf, ElfError, isElf, parseElf} from './elf.ts'
import {MEMORY, type Pread, readHead} from './parts.ts'
import {HEAD_SIZE, parseShebang, type Shebang} from './script.ts'

/** What a regular file is to the kernel that is asked to execute it. */
export type Inspected =
  | {is: 'elf'; elf: Elf}
  | {is: 'script'; shebang: Shebang}
  /** Neither: execve(2) gives ENOEXEC. A shell takes it for a script of its own. */
  | {is: 'data'}
  | {is: 'damaged'; why: string}
  | {is: 'unreadable'; why: string}

/** Looks into the files of a tree, into each once. */
export class Inspector {
  readonly #known = new Map<string, Inspected>()

  constructor(readonly sysroot: Sysroot) {}

  /** @param path of a regular file, as Sysroot.resolve gives it */
  inspect(path: string): Inspected {
    let known = this.#known.get(path)
    if (!known) {
      known = this.#inspect(path)
      this.#known.set(path, known)
    }
    return known
  }

  #inspect(path: string): Inspected {
    try {
      return this.sysroot.open(this.sysroot.lstat(path), (fd, size) => {
        const pread: Pread = (into, position) => readSync(fd, into, 0, into.length, position)
        const have = readHead(pread)
        if (have >= 4 && isElf(MEMORY)) return {is: 'elf', elf: parseElf(pread, size, have)}
        const shebang = parseShebang(MEMORY.subarray(0, Math.min(have, HEAD_SIZE)))
        return shebang ? {is: 'script', shebang} : {is: 'data'}
      })
    } catch (error) {
      if (error instanceof ElfError) return {is: 'damaged', why: error.message}
      return {is: 'unreadable', why: reason(error)}
    }
  }
}
