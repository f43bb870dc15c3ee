import {reason} from '../errors.ts'
import {type Entry, Sysroot} from '../sysroot.ts'
import {type Elf, sameAbi} from './elf.ts'
import {GlibcLoader} from './glibc.ts'
import {Inspector} from './inspect.ts'
import {type Loader, type LoaderOptions, type Loading, RELATIVE, usualInterpreter} from './ldso.ts'
import {MuslLoader} from './musl.ts'
import {envCommand, type Shebang} from './script.ts'

export interface WorldOptions extends LoaderOptions {
  /** The tree in which everything is looked up; default: / */
  sysroot?: string | undefined
  /** PATH, for programs given by name. */
  path?: string | undefined
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** No loader has so many bytes. */
const LOADER_MAX = 1 << 23

/** Where a program is, or where it is not; `unfit` are files of that name that are not executable. */
export type Located =
  | {path: string; rule: string}
  | {path?: undefined; lack: {searched: string[]; unfit: string[]}}

/** A tree and the loaders in it. */
export class World {
  readonly sysroot: Sysroot
  readonly inspector: Inspector
  readonly #loaders = new Map<string, Loader>()

  constructor(readonly options: WorldOptions) {
    this.sysroot = new Sysroot(options.sysroot)
    this.inspector = new Inspector(this.sysroot)
  }

  /** Where a program is: execvp(3). */
  locate(name: string, path = this.options.path ?? DEFAULT_PATH): Located {
    if (name.includes('/')) {
      if (name.startsWith('/')) return {path: name, rule: 'path'}
      return {path: `${this.sysroot.root === '/' ? process.cwd() : ''}/${name}`, rule: 'path'}
    }
    // An empty element is the working directory; what is needed must not depend on it.
    const searched = [...new Set(path.split(':'))].filter(dir => dir.startsWith('/'))
    const unfit: string[] = []
    for (const dir of name === '' ? [] : searched) {
      const candidate = `${dir.replace(/\/+$/, '')}/${name}`
      const {kind, mode} = this.sysroot.resolve(candidate)
      if (kind !== 'file') continue
      if (mode & 0o111) return {path: candidate, rule: 'PATH'}
      unfit.push(candidate)
    }
    return {lack: {searched, unfit}}
  }

  /** Why the kernel cannot start a program with this as its loader. */
  whyNotLoader(path: string, program: Elf): string | undefined {
    if (!path.startsWith('/')) return `its path is ${RELATIVE}`
    const entry = this.sysroot.resolve(path)
    const why = notAFile(entry)
    if (why) return why
    const inspected = this.inspector.inspect(entry.path)
    if (inspected.is === 'damaged' || inspected.is === 'unreadable') return inspected.why
    if (inspected.is !== 'elf') return 'it is not an ELF file'
    return sameAbi(inspected.elf, program) ? undefined : 'it is for another kind of machine'
  }

  /** The libraries of a program, or of a library. */
  load(path: string, elf: Elf): Loading {
    const {needed, filters, dlopen} = elf
    if (needed.length + filters.length + dlopen.length === 0) return {needs: [], lacks: [], absent: []}
    const interpreter = elf.interp ?? usualInterpreter(elf)
    const key = [interpreter, elf.class, elf.machine, elf.flags, elf.littleEndian].join('\n')
    let loader = this.#loaders.get(key)
    if (!loader) {
      const own = this.#bytes(interpreter)
      const Kind = isMusl(interpreter, own) ? MuslLoader : GlibcLoader
      loader = new Kind(this.inspector, interpreter, elf, this.options, own)
      this.#loaders.set(key, loader)
    }
    return loader.load({path, elf})
  }

  #bytes(interpreter: string): Buffer {
    const {size} = this.sysroot.resolve(interpreter)
    return (size > LOADER_MAX ? undefined : this.sysroot.read(interpreter)) ?? Buffer.alloc(0)
  }
}

function isMusl(interpreter: string, bytes: Buffer): boolean {
  return /\/ld-musl-[^/]*$/.test(interpreter) || bytes.includes('/etc/ld-musl-')
}

/** Why something cannot be executed or loaded, by what it is. */
export function notAFile({kind, why}: Entry): string | undefined {
  if (kind === 'file') return undefined
  if (kind === 'directory') return 'it is a directory'
  if (kind !== 'missing') return 'it is a device, a pipe or a socket'
  if (why === 'ENOTDIR') return 'a part of its path is not a directory'
  return reason(Object.assign(new Error(why), {code: why}))
}

/** What a script is for that says `#!/usr/bin/env X`. */
export function envProgram({interpreter, argument}: Shebang): ReturnType<typeof envCommand> {
  return /(^|\/)env$/.test(interpreter) && argument !== undefined ? envCommand(argument) : undefined
}
