import {readSync} from 'node:fs'
import {reason} from '../errors.ts'
import type {Sysroot} from '../sysroot.ts'
import {type Elf, ElfError, isElf, type Pread, parseElf} from './elf.ts'
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
        const head = HEAD.subarray(0, readSync(fd, HEAD, 0, HEAD.length, 0))
        const pread: Pread = (into, position) => readSync(fd, into, 0, into.length, position)
        if (isElf(head)) return {is: 'elf', elf: parseElf(pread, size, head)}
        const shebang = parseShebang(head.subarray(0, HEAD_SIZE))
        return shebang ? {is: 'script', shebang} : {is: 'data'}
      })
    } catch (error) {
      if (error instanceof ElfError) return {is: 'damaged', why: error.message}
      return {is: 'unreadable', why: reason(error)}
    }
  }
}

/** How a file begins, one at a time: the header, and in most programs the names as well. A read more takes longer than these bytes. */
const HEAD = Buffer.allocUnsafeSlow(16384)
