import type {Entry} from '../sysroot.ts'
import type {Elf} from './elf.ts'
import {type Lack, type Need, RELATIVE} from './ldso.ts'
import type {Shebang} from './script.ts'
import {envProgram, notAFile, World, type WorldOptions} from './world.ts'

/** Why a file is needed. */
export interface Because {
  /** The file that needs it, or 'command line'. */
  by: string
  /** How it was found: `PATH`, `DT_NEEDED libc.so.6 (ld.so.cache)`, `#!`, ... */
  rule: string
}

/** One thing to make in the new root. */
export interface Item {
  /** The same inside as outside, through no link. */
  path: string
  kind: 'directory' | 'link' | 'file'
  /** The text of a link. */
  target?: string
  because: Because[]
}

/** Something that is needed and not there. */
export interface Missing extends Lack {
  kind: 'program' | 'interpreter' | 'library'
}

/** All that programs need. */
export interface Closure {
  /** In an order in which they can be made: a directory comes before what is in it. */
  items: Item[]
  missing: Missing[]
  /** What a program would open with dlopen(3) and can do without. */
  absent: Missing[]
}

const COMMAND_LINE = 'command line'

/**
 * Finds everything that programs need to run: interpreters, libraries, the links and directories on the way. Nothing
 * is executed. What only shows at run time is not found: plain dlopen(3) calls (NSS, gconv; libgcc_s for
 * pthread_cancel(3)), programs that a program starts, files that it reads.
 * @param where for several that are asked for one after the other, a world that remembers
 */
export function closure(programs: string[], where: WorldOptions | World = {}): Closure {
  const gathering = new Gathering(where instanceof World ? where : new World(where))
  for (const program of programs) gathering.program(program, {by: COMMAND_LINE, rule: ''})
  return gathering.result()
}

class Gathering {
  readonly #items = new Map<string, Item>()
  readonly #reasons = new Set<string>()
  readonly #traced = new Map<string, Item>()
  /** Directories as they were asked for, with what they are. */
  readonly #directories = new Map<string, Entry>()
  readonly #needs = new Set<Need>()
  readonly #examined = new Set<string>()
  readonly #missing: Missing[] = []
  readonly #absent: Missing[] = []

  constructor(readonly world: World) {}

  result(): Closure {
    return {items: [...this.#items.values()], missing: this.#missing, absent: this.#absent}
  }

  /** A program by name or path, with everything it needs. */
  program(name: string, {by, rule}: Because, path?: string): void {
    const located = this.world.locate(name, path)
    if (located.path !== undefined) {
      this.#file(located.path, 'program', {by, rule: [rule, located.rule].filter(Boolean).join(' ')})
      return
    }
    const {searched, unfit} = located.lack
    const why = unfit[0] && `${unfit[0]} is not executable`
    this.#missing.push({kind: 'program', what: name, by, searched, ...(why && {why})})
  }

  #file(path: string, kind: Missing['kind'], because: Because): void {
    const {sysroot, inspector} = this.world
    const entry = sysroot.resolve(path)
    const why = path.startsWith('/') ? notAFile(entry) : `its path is ${RELATIVE}`
    const lack = (why: string) => this.#missing.push({kind, what: path, by: because.by, searched: [], why})
    if (why) {
      lack(why)
      return
    }
    this.#add(path, because)
    if (this.#examined.has(entry.path)) return
    this.#examined.add(entry.path)
    const inspected = inspector.inspect(entry.path)
    if (inspected.is === 'elf') this.#elf(entry.path, inspected.elf)
    else if (inspected.is === 'script') this.#script(entry.path, inspected.shebang)
    else if (inspected.is !== 'data') lack(inspected.why)
  }

  #script(by: string, shebang: Shebang): void {
    this.#file(shebang.interpreter, 'interpreter', {by, rule: '#!'})
    const command = envProgram(shebang)
    if (command) this.program(command.program, {by, rule: '#! env'}, command.path)
  }

  #elf(path: string, elf: Elf): void {
    if (elf.interp !== undefined) {
      const why = this.world.whyNotLoader(elf.interp, elf)
      if (why) this.#missing.push({kind: 'interpreter', what: elf.interp, by: path, searched: [], why})
      else this.#add(elf.interp, {by: path, rule: 'interpreter'})
    }
    const {needs, lacks, absent} = this.world.load(path, elf)
    for (const need of needs) {
      if (this.#needs.has(need)) continue
      this.#needs.add(need)
      this.#add(need.path, {by: need.by, rule: need.rule})
    }
    for (const lack of lacks) this.#lack(this.#missing, lack)
    for (const lack of absent) this.#lack(this.#absent, lack)
  }

  /** Programs share libraries, and their troubles. */
  #lack(list: Missing[], lack: Lack): void {
    if (list.some(({what, by}) => what === lack.what && by === lack.by)) return
    list.push({kind: 'library', ...lack})
  }

  /** Takes a file, every link that leads to it, and every directory that these are in. */
  #add(path: string, because: Because): void {
    const known = this.#traced.get(path)
    if (known) {
      this.#reason(known, because)
      return
    }
    const {sysroot} = this.world
    let [name, why] = [path, because]
    for (;;) {
      const slash = name.lastIndexOf('/')
      const directory = this.#directory(name.slice(0, slash) || '/', path)
      const entry = sysroot.lstat(`${directory.path === '/' ? '' : directory.path}${name.slice(slash)}`)
      const item = this.#item(entry)
      this.#reason(item, why)
      if (name === path) this.#traced.set(path, item)
      if (entry.kind !== 'link') return
      why = {by: entry.path, rule: 'link'}
      const {target} = entry as {target: string}
      name = target.startsWith('/') ? target : `${directory.path === '/' ? '' : directory.path}/${target}`
    }
  }

  /** Takes a directory, with what leads to it. */
  #directory(name: string, by: string): Entry {
    let directory = this.#directories.get(name)
    if (!directory) {
      directory = this.world.sysroot.trace(name, entry => {
        const rule = entry.kind === 'link' ? 'link' : 'parent directory'
        if (!this.#items.has(entry.path)) this.#reason(this.#item(entry), {by, rule})
      })
      this.#directories.set(name, directory)
    }
    return directory
  }

  #item({path, kind, target}: Entry): Item {
    let item = this.#items.get(path)
    if (!item) {
      item = {path, kind: kind as Item['kind'], ...(target !== undefined && {target}), because: []}
      this.#items.set(path, item)
    }
    return item
  }

  #reason(item: Item, because: Because): void {
    const key = `${item.path}\n${because.by}\n${because.rule}`
    if (this.#reasons.has(key)) return
    this.#reasons.add(key)
    item.because.push(because)
  }
}
