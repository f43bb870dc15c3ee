import {DF_1_NODEFLIB, type Elf, EM, sameAbi} from './elf.ts'
import {type LdCache, ldSoConfDirectories, parseLdCache} from './ldcache.ts'
import {type Candidate, type Found, type Loaded, Loader, RELATIVE, Search, type Verdict} from './ldso.ts'

/** The search of glibc's ld.so: ld.so(8), and _dl_map_object in elf/dl-load.c. */
export class GlibcLoader extends Loader {
  readonly knowsSonames = true
  /** What the distribution compiled into its ld.so. */
  #compiledIn: {directories: string[]; lib: string; cache: string} | undefined
  #libraries: LdCache | 'no cache' | undefined
  #confDirectories: string[] | undefined

  expand(name: string, object: Loaded): string | string[] {
    return name.includes('$') ? this.#substitute(name, object) : name
  }

  isItself(): boolean {
    // By its path and its DT_SONAME, as any other object.
    return false
  }

  protected searchKey(object: Loaded): string {
    const {runpath, flags1} = object.elf
    let key = flags1 & DF_1_NODEFLIB ? 'no default' : ''
    if (runpath !== undefined) key += `\n${directory(object.path)}\n${runpath}`
    else
      for (let o: Loaded | undefined = object; o; o = o.loader)
        if (hasRpath(o))
          key += o === object ? `\n${directory(o.path)}\n${o.elf.rpath}` : `\nof ${o.path}\n${o.elf.rpath}`
    if (this.options.libraryPath) key += `\n${directory(program(object).path)}`
    return key
  }

  protected search(name: string, object: Loaded): Found {
    const search = new Search()
    if (name.includes('/')) {
      search.searched.push(name)
      search.try({path: name, rule: 'path'}, this.verify(name))
      return search.result()
    }
    const look = (rule: string, path: string, separator: RegExp, owner: Loaded) => {
      for (const element of path.split(separator)) {
        if (search.over) return
        const alternatives = this.#substitute(element, owner)
        if (alternatives.every(dir => dir.startsWith('/'))) this.#lookIn(alternatives, name, rule, search)
        else search.searched.push(`"${element}" (${rule}: ${RELATIVE})`)
      }
    }
    const {runpath, flags1} = object.elf
    if (runpath === undefined) {
      for (let o: Loaded | undefined = object; o; o = o.loader)
        if (hasRpath(o)) look(o === object ? 'DT_RPATH' : `DT_RPATH of ${o.real}`, o.elf.rpath!, /:/, o)
    }
    if (this.options.libraryPath) look('LD_LIBRARY_PATH', this.options.libraryPath, /[:;]/, program(object))
    if (runpath) look('DT_RUNPATH', runpath, /:/, object)
    const noDefault = (flags1 & DF_1_NODEFLIB) !== 0
    if (!search.over) this.#lookInCache(name, noDefault, search)
    for (const dir of noDefault ? [] : this.#own().directories) {
      if (!search.over) this.#lookIn([dir], name, 'default directory', search)
    }
    return search.result()
  }

  /** In a directory, and in those below it for processors that can do more: the root may run on any. */
  #lookIn(alternatives: string[], name: string, rule: string, search: Search): void {
    const {sysroot} = this.inspector
    for (const [i, dir] of alternatives.entries()) {
      search.searched.push(`${dir} (${rule})`)
      if (sysroot.resolve(dir).kind !== 'directory') continue
      const path = join(dir, name)
      search.try({path, rule: search.base && i > 0 ? '$PLATFORM' : rule}, this.verify(path))
      for (const level of sysroot.list(join(dir, 'glibc-hwcaps'))) {
        const variant = join(dir, `glibc-hwcaps/${level}/${name}`)
        if (this.verify(variant) === 'usable')
          search.variants.push({path: variant, rule: `glibc-hwcaps ${level}`})
      }
    }
  }

  #lookInCache(name: string, noDefault: boolean, search: Search): void {
    const {cache} = this.#own()
    const libraries = this.#cached()
    if (libraries === 'no cache') {
      if (this.options.ldSoConf === false) return
      this.#confDirectories ??= ldSoConfDirectories(
        this.inspector.sysroot,
        join(directory(cache), 'ld.so.conf'),
      )
      for (const dir of this.#confDirectories) {
        if (!search.over && !(noDefault && this.#isDefault(dir)))
          this.#lookIn([dir], name, 'ld.so.conf', search)
      }
      return
    }
    search.searched.push(cache)
    const ids = cacheIds(this.abi)
    for (const {path, flags, hwcaps} of libraries(name)) {
      if ((ids && !ids.includes(flags)) || (noDefault && this.#isDefault(path))) continue
      const level = hwcaps && /\/glibc-hwcaps\/([^/]+)\/[^/]*$/.exec(path)?.[1]
      const candidate: Candidate = {path, rule: level ? `glibc-hwcaps ${level}` : 'ld.so.cache'}
      if (!this.#isSearchedAnyway(path)) candidate.configuration = cache
      if (!hwcaps && search.try(candidate, this.verify(path))) return
      // Of the entries for any processor ld.so knows the first only.
      if (!hwcaps && ids) return
      if (hwcaps && this.verify(path) === 'usable') search.variants.push(candidate)
    }
  }

  #cached(): LdCache | 'no cache' {
    if (!this.#libraries) {
      const file = this.inspector.sysroot.read(this.#own().cache)
      this.#libraries = (file && parseLdCache(file, this.abi.machine)) ?? 'no cache'
    }
    return this.#libraries
  }

  /** The test of DF_1_NODEFLIB: by the path's beginning. */
  #isDefault(path: string): boolean {
    return this.#own().directories.some(dir => path === dir || path.startsWith(`${dir}/`))
  }

  /** Whether a loader without the cache would come across it. */
  #isSearchedAnyway(path: string): boolean {
    const {sysroot} = this.inspector
    const holder = sysroot.resolve(directory(path).replace(/\/glibc-hwcaps\/[^/]+$/, '')).path
    return this.#own().directories.some(dir => sysroot.resolve(dir).path === holder)
  }

  /** As open_verify does: files for other machines are passed over, anything else ends the search. */
  protected accept(elf: Elf): Verdict {
    if (elf.class !== this.abi.class) return 'foreign'
    if (elf.littleEndian !== this.abi.littleEndian) return {fatal: 'of the other byte order'}
    return sameAbi(elf, this.abi) ? 'usable' : 'foreign'
  }

  /** Dynamic string tokens: "Dynamic string tokens" in ld.so(8). Empty when one has no value. */
  #substitute(text: string, object: Loaded): string[] {
    if (!text.includes('$')) return [text]
    const platforms = /\$(\{PLATFORM\}|PLATFORM(?!\w))/.test(text)
      ? (PLATFORMS[this.abi.machine] ?? [])
      : ['']
    return platforms.map(platform =>
      text.replace(/\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?!\w))/g, (_, braced, plain) => {
        const token = braced ?? plain
        return token === 'ORIGIN' ? directory(object.path) : token === 'LIB' ? this.#own().lib : platform
      }),
    )
  }

  /** Distributions and Nix differ here; the loader's file itself is the only one who knows. */
  #own(): {directories: string[]; lib: string; cache: string} {
    if (this.#compiledIn) return this.#compiledIn
    const lists = directoryLists(this.own)
      .map(list => list.filter(dir => /\/lib[^/]*(\/[^/]+)?\/$/.test(dir)))
      .sort((a, b) => b.length - a.length)
    const fallback = this.abi.class === 64 ? ['/lib64/', '/usr/lib64/'] : []
    const directories = lists[0]?.length ? lists[0] : [...fallback, '/lib/', '/usr/lib/']
    this.#compiledIn = {
      directories: directories.map(dir => dir.slice(0, -1)),
      lib: /\/(lib[^/]*(?:\/[^/]+-linux-[^/]+)?)\/$/.exec(directories[0]!)?.[1] ?? 'lib',
      cache: pathsEnding(this.own, '/ld.so.cache').next().value?.path ?? '/etc/ld.so.cache',
    }
    return this.#compiledIn
  }
}

/**
 * The paths in a program's bytes that end so, each ended by a NUL. Looking for the end first, and from there back, takes a
 * tenth of the time of one expression for the whole.
 */
function* pathsEnding(file: Buffer, end: string): Generator<{path: string; start: number; next: number}> {
  const tail = Buffer.from(`${end}\0`)
  for (let at = file.indexOf(tail); at >= 0; at = file.indexOf(tail, at + 1)) {
    const from = Math.max(file.lastIndexOf(0, at) + 1, at - PATH_MAX)
    const found = /\/[!-~]*$/.exec(file.toString('latin1', from, at))
    if (!found) continue
    yield {path: found[0] + end, start: from + found.index, next: at + tail.length}
  }
}

/** Directories that follow each other. */
function directoryLists(file: Buffer): string[][] {
  const lists: string[][] = []
  let next = -1
  for (const found of pathsEnding(file, '/')) {
    if (found.start === next) lists.at(-1)!.push(found.path)
    else lists.push([found.path])
    next = found.next
  }
  return lists
}

const PATH_MAX = 4096

/** AT_PLATFORM by machine, with what glibc 2.26 to 2.36 put in its place for processors that can do more. */
const PLATFORMS: Record<number, string[]> = {
  [EM.X86_64]: ['x86_64', 'haswell', 'xeon_phi'],
  [EM[386]]: ['i686', 'i586', 'i486', 'i386'],
  [EM.AARCH64]: ['aarch64'],
  [EM.ARM]: ['v7l', 'v6l', 'v8l'],
}

/** The flags of cache entries that a loader takes: _DL_CACHE_DEFAULT_ID and _dl_cache_check_flags. */
function cacheIds({machine, flags, class: bits}: Elf): number[] | undefined {
  switch (machine) {
    case EM.X86_64:
      return bits === 64 ? [0x303] : [0x803]
    case EM[386]:
      return [0x3, 0x1]
    case EM.AARCH64:
      return [0xa03]
    case EM.ARM:
      return (flags & 0x400) !== 0 ? [0x903, 0x3] : [0xb03, 0x3]
    case EM.PPC64:
      return [0x503]
    case EM.S390:
      return bits === 64 ? [0x403] : [0x3, 0x1]
    case EM.RISCV:
      return (flags & 0x6) === 0x4 ? [0x1003] : [0xf03]
    default:
      // The file's own header decides.
      return undefined
  }
}

/** Whether an object's DT_RPATH counts: a DT_RUNPATH puts it out of force. */
function hasRpath({elf}: Loaded): boolean {
  return Boolean(elf.rpath) && elf.runpath === undefined
}

function program(object: Loaded): Loaded {
  return object.loader ? program(object.loader) : object
}

function directory(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

function join(dir: string, name: string): string {
  return `${dir.replace(/\/+$/, '')}/${name}`
}
