import {type Elf, EM, ET_DYN, ET_EXEC, type Priority} from './elf.ts'
import type {Inspector} from './inspect.ts'

/** A file that is needed, and why. */
export interface Need {
  /** As the loader opens it, links and all. */
  path: string
  /** The file that needs it. */
  by: string
  rule: string
}

/** A library that no rule finds. */
export interface Lack {
  what: string
  by: string
  /** Where it was looked for, in order. */
  searched: string[]
  /** Set when something was found at which the loader gives up. */
  why?: string
}

/** What a program and its libraries map. */
export interface Loading {
  needs: Need[]
  lacks: Lack[]
  /** What would be opened with dlopen(3) if it were there, and is not necessary. */
  absent: Lack[]
}

export interface LoaderOptions {
  /** LD_LIBRARY_PATH */
  libraryPath?: string | undefined
  /** Down to which priority the libraries that `.note.dlopen` names are loaded too; default: recommended. */
  dlopen?: Priority | 'none' | undefined
  /**
   * Whether ld.so.conf stands in for a missing ld.so.cache, as if ldconfig had just been run. ld.so itself does not
   * read it.
   */
  ldSoConf?: boolean | undefined
}

/** An object in the address space. */
export interface Loaded {
  /** As opened: its directory is $ORIGIN. */
  path: string
  real: string
  elf: Elf
  /** The object on whose behalf it was loaded first; the program has none. */
  loader: Loaded | undefined
}

export interface Candidate {
  path: string
  rule: string
  /** The file that makes the loader look there; it would not do so by itself. */
  configuration?: string | undefined
}

/** What became of one name: files (the first for any processor, the others for some), or why there is none. */
export type Found = {candidates: Candidate[]} | Failed

interface Failed {
  candidates?: undefined
  searched: string[]
  why: string | undefined
}

/** What the loader makes of a file that has the right name. */
export type Verdict = 'usable' | 'absent' | 'foreign' | {fatal: string}

/** The notes of one search. */
export class Search {
  base: Candidate | undefined
  readonly variants: Candidate[] = []
  readonly searched: string[] = []
  why: string | undefined

  get over(): boolean {
    return this.base !== undefined || this.why !== undefined
  }

  /** @returns whether the file can be loaded */
  try(candidate: Candidate, verdict: Verdict): boolean {
    if (verdict === 'usable') {
      if (this.base) this.variants.push(candidate)
      else this.base = candidate
    } else if (verdict === 'foreign') {
      this.searched.push(`${candidate.path} (for another kind of machine)`)
    } else if (verdict !== 'absent' && !this.base) {
      this.why = `${candidate.path}: ${verdict.fatal}`
    }
    return verdict === 'usable'
  }

  result(): Found {
    const candidates = this.base ? [this.base, ...this.variants] : this.variants
    if (candidates.length > 0 && this.why === undefined) return {candidates}
    return {searched: this.searched, why: this.why}
  }
}

/** How a file refers to a library. */
interface Reference {
  /** `DT_NEEDED`, ... */
  tag: string
  /** The rule says nothing of where it was found. */
  bare?: boolean
}

const NO_VALUE: Failed = {searched: [], why: 'a $TOKEN in its name has no value for this machine'}

const NEEDED: Reference = {tag: 'DT_NEEDED'}
const FILTER: Reference = {tag: 'DT_FILTER'}
const AUXILIARY: Reference = {tag: 'DT_AUXILIARY'}
const CONFIGURATION: Reference = {tag: 'tells the loader where to look', bare: true}

/** Finds libraries as a certain dynamic loader would, without executing it. */
export abstract class Loader {
  readonly #found = new Map<string, Found>()
  /** By the file that needs them, and the name by which it does. */
  readonly #needs = new Map<string, Map<string, {need: Need; tag: string; where: string}[]>>()
  #itself: {real: string; elf: Elf} | 'none' | undefined

  constructor(
    readonly inspector: Inspector,
    /** PT_INTERP */
    readonly interpreter: string,
    /** Any file that this loader loads. */
    readonly abi: Elf,
    readonly options: LoaderOptions,
    /** The bytes of the loader's own file: its directories are compiled in. */
    readonly own: Buffer,
  ) {}

  /** Whether a loaded library answers to its DT_SONAME. */
  abstract readonly knowsSonames: boolean
  /** The value of a DT_NEEDED; several when it depends on the processor, none when a $TOKEN has no value. */
  abstract expand(name: string, object: Loaded): string | string[]
  /** Whether the name means the loader itself, whatever is in the file system. */
  abstract isItself(name: string): boolean
  /** Everything of an object, and of those that loaded it, on which a search depends. */
  protected abstract searchKey(object: Loaded): string
  protected abstract search(name: string, object: Loaded): Found

  find(name: string, object: Loaded): Found {
    const context = this.searchKey(object)
    const key = context === '' ? name : `${name}\n${context}`
    let found = this.#found.get(key)
    if (!found) {
      found = this.search(name, object)
      this.#found.set(key, found)
    }
    return found
  }

  /**
   * A need, the very same one each time: programs share their libraries, and so hundreds of them have it.
   * @param where the rule by which the path was found
   */
  need(by: string, {tag, bare}: Reference, name: string, where: string, path: string): Need {
    let ofFile = this.#needs.get(by)
    if (!ofFile) {
      ofFile = new Map()
      this.#needs.set(by, ofFile)
    }
    let ofName = ofFile.get(name)
    if (!ofName) {
      ofName = []
      ofFile.set(name, ofName)
    }
    for (const known of ofName)
      if (known.where === where && known.tag === tag && known.need.path === path) return known.need
    const need = {path, by, rule: bare ? tag : `${tag} ${name} (${where})`}
    ofName.push({need, tag, where})
    return need
  }

  /** The loader as it is loaded itself, with a program: it needs nothing. */
  get itself(): {real: string; elf: Elf} | undefined {
    if (!this.#itself) {
      const {kind, path} = this.inspector.sysroot.resolve(this.interpreter)
      const inspected = kind === 'file' ? this.inspector.inspect(path) : undefined
      this.#itself =
        inspected?.is === 'elf' && this.interpreter.startsWith('/')
          ? {real: path, elf: {...inspected.elf, needed: [], filters: [], dlopen: []}}
          : 'none'
    }
    return this.#itself === 'none' ? undefined : this.#itself
  }

  /** Follows everything that a program (or a library) needs, as the loader would map it. */
  load(program: {path: string; elf: Elf}): Loading {
    return new AddressSpace(this, program).fill()
  }

  /** Whether it would map such a library. */
  protected abstract accept(elf: Elf): Verdict

  /** What it makes of the file at a path. */
  protected verify(path: string): Verdict {
    if (!path.startsWith('/')) return {fatal: RELATIVE}
    const {kind, path: real} = this.inspector.sysroot.resolve(path)
    if (kind === 'missing') return 'absent'
    if (kind !== 'file') return {fatal: 'not a regular file'}
    const inspected = this.inspector.inspect(real)
    if (inspected.is === 'unreadable') return 'absent'
    if (inspected.is === 'damaged') return {fatal: inspected.why}
    if (inspected.is !== 'elf') return {fatal: 'not an ELF file'}
    const verdict = this.accept(inspected.elf)
    const {type} = inspected.elf
    if (verdict !== 'usable' || type === ET_DYN || type === ET_EXEC) return verdict
    return {fatal: 'neither a library nor a program'}
  }
}

/** Why a path is not searched that the loader would search. */
export const RELATIVE = 'relative to whatever directory the program is started in'

const PRIORITIES = ['none', 'required', 'recommended', 'suggested']

/** The objects of one program, in the order in which they are loaded: breadth first. */
class AddressSpace {
  readonly #loading: Loading = {needs: [], lacks: [], absent: []}
  readonly #objects: Loaded[] = []
  readonly #byName = new Map<string, Loaded>()
  readonly #byReal = new Map<string, Loaded>()

  constructor(
    readonly loader: Loader,
    program: {path: string; elf: Elf},
  ) {
    const main = {...program, real: program.path, loader: undefined}
    this.#name(main.elf.soname, this.#add(main))
    this.#addInterpreter(main)
  }

  fill(): Loading {
    const {lacks, absent} = this.#loading
    const threshold = PRIORITIES.indexOf(this.loader.options.dlopen ?? 'recommended')
    const later: (() => void)[] = []
    for (let i = 0; i < this.#objects.length || later.length > 0; ) {
      const object = this.#objects[i]
      if (!object) {
        later.shift()!()
        continue
      }
      i++
      const {filters, needed, dlopen} = object.elf
      for (const {name, required} of filters) {
        const lack = this.#open(name, object, required ? FILTER : AUXILIARY)
        if (lack && required) lacks.push(lack)
      }
      for (let j = 0; j < needed.length; j++) {
        const lack = this.#open(needed[j]!, object, NEEDED)
        if (lack) lacks.push(lack)
      }
      for (const {sonames, feature, priority} of dlopen) {
        if (PRIORITIES.indexOf(priority) > threshold) continue
        later.push(() => {
          const reference = {tag: `dlopen ${priority}${feature && `: ${feature}`}`, bare: true}
          let lack: Lack | undefined
          for (const name of sonames) {
            const failed = this.#open(name, object, reference)
            if (!failed) return
            lack ??= failed
          }
          ;(priority === 'required' ? lacks : absent).push({...lack!, what: sonames.join(' or ')})
        })
      }
    }
    return this.#loading
  }

  #open(name: string, by: Loaded, reference: Reference): Lack | undefined {
    const values = this.loader.expand(name, by)
    let failed: Failed | undefined = NO_VALUE
    if (typeof values === 'string') failed = this.#openAs(values, name, by, reference)
    else
      for (let i = 0; failed && i < values.length; i++) failed = this.#openAs(values[i]!, name, by, reference)
    if (!failed) return undefined
    const {searched, why} = failed
    return {what: name, by: by.real, searched, ...(why !== undefined && {why})}
  }

  #openAs(expanded: string, name: string, by: Loaded, reference: Reference): Failed | undefined {
    const {loader} = this
    const known = this.#byName.get(expanded)
    if (known) {
      this.#loading.needs.push(loader.need(by.real, reference, name, 'loaded already', known.path))
      return undefined
    }
    if (loader.isItself(expanded)) return {searched: [], why: `the loader ${loader.interpreter} is not there`}
    const found = loader.find(expanded, by)
    if (!found.candidates) return found
    this.#map(name, expanded, by, found.candidates, reference)
    return undefined
  }

  #map(name: string, expanded: string, by: Loaded, candidates: Candidate[], reference: Reference): void {
    const {loader} = this
    const {needs} = this.#loading
    const {inspector, knowsSonames} = loader
    for (let i = 0; i < candidates.length; i++) {
      const {path, rule, configuration} = candidates[i]!
      const real = inspector.sysroot.resolve(path).path
      needs.push(loader.need(by.real, i === 0 ? reference : {tag: rule, bare: true}, name, rule, path))
      if (configuration) needs.push(loader.need(real, CONFIGURATION, '', '', configuration))
      const inspected = inspector.inspect(real)
      if (inspected.is !== 'elf') continue
      const {elf} = inspected
      const object = this.#add({path, real, elf, loader: by})
      // What is for some processors only is not what later names mean.
      if (i > 0) continue
      this.#name(expanded, object)
      this.#name(path, object)
      if (knowsSonames) this.#name(elf.soname, object)
    }
  }

  /** @returns the one that is there already, where it is one and the same file */
  #add(object: Loaded): Loaded {
    const known = this.#byReal.get(object.real)
    if (known) return known
    this.#byReal.set(object.real, object)
    this.#objects.push(object)
    return object
  }

  #name(name: string | undefined, object: Loaded): void {
    if (name !== undefined && !this.#byName.has(name)) this.#byName.set(name, object)
  }

  /** The kernel has mapped it already, and it needs nothing. */
  #addInterpreter(main: Loaded): void {
    const {itself, interpreter: path, knowsSonames} = this.loader
    if (!itself) return
    const object = this.#add({path, ...itself, loader: main})
    this.#name(path, object)
    if (knowsSonames) this.#name(itself.elf.soname, object)
  }
}

/**
 * The loader that would load a library for which no program is at hand. From the names that glibc and musl give their
 * own (sysdeps/.../ldsodefs.h, shlib-versions; musl's configure).
 */
export function usualInterpreter(elf: Elf): string {
  const musl = elf.needed.some(name => /^libc\.(so|musl-.*)$/.test(name))
  const {machine, flags} = elf
  const hard = machine === EM.ARM && (flags & 0x400) !== 0
  const endian = (big: string, little: string) => (elf.littleEndian ? little : big)
  switch (machine) {
    case EM.X86_64:
      if (musl) return elf.class === 64 ? '/lib/ld-musl-x86_64.so.1' : '/lib/ld-musl-x32.so.1'
      return elf.class === 64 ? '/lib64/ld-linux-x86-64.so.2' : '/libx32/ld-linux-x32.so.2'
    case EM[386]:
      return musl ? '/lib/ld-musl-i386.so.1' : '/lib/ld-linux.so.2'
    case EM.AARCH64:
      return musl ? '/lib/ld-musl-aarch64.so.1' : '/lib/ld-linux-aarch64.so.1'
    case EM.ARM:
      if (musl) return hard ? '/lib/ld-musl-armhf.so.1' : '/lib/ld-musl-arm.so.1'
      return hard ? '/lib/ld-linux-armhf.so.3' : '/lib/ld-linux.so.3'
    case EM.PPC64:
      return musl
        ? `/lib/ld-musl-powerpc64${endian('', 'le')}.so.1`
        : endian('/lib64/ld64.so.1', '/lib64/ld64.so.2')
    case EM.S390:
      return musl ? '/lib/ld-musl-s390x.so.1' : '/lib/ld64.so.1'
    case EM.RISCV:
      return musl ? `/lib/ld-musl-riscv${elf.class}.so.1` : `/lib/ld-linux-riscv${elf.class}-lp64d.so.1`
    case EM.LOONGARCH:
      return musl ? '/lib/ld-musl-loongarch64.so.1' : '/lib64/ld-linux-loongarch-lp64d.so.1'
    default:
      return '/lib/ld.so.1'
  }
}
