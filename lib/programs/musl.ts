import {type Elf, sameAbi} from './elf.ts'
import {type Found, type Loaded, Loader, RELATIVE, Search, type Verdict} from './ldso.ts'

/** The names that musl's loader answers for itself, in whatever version. */
const RESERVED = /^lib(c|pthread|rt|m|dl|util|xnet)\./

/** The search of musl's ld.so: load_library in ldso/dynlink.c. */
export class MuslLoader extends Loader {
  readonly knowsSonames = false
  #system: {path: string; file: string | undefined} | undefined

  expand(name: string): string {
    return RESERVED.test(name) ? this.interpreter : name
  }

  isItself(name: string): boolean {
    return name === this.interpreter
  }

  protected searchKey(object: Loaded): string {
    const keys: string[] = []
    for (let o: Loaded | undefined = object; o; o = o.loader) {
      const path = o.elf.runpath ?? o.elf.rpath
      if (path) keys.push(o.path, path)
    }
    return keys.join('\n')
  }

  protected search(name: string, object: Loaded): Found {
    const search = new Search()
    if (name.includes('/')) {
      search.searched.push(name)
      search.try({path: name, rule: 'path'}, this.verify(name))
      return search.result()
    }
    const look = (rule: string, path: string, configuration?: string) => {
      for (const dir of path.split(/[:\n]/)) {
        if (search.over || dir === '') continue
        search.searched.push(dir.startsWith('/') ? `${dir} (${rule})` : `"${dir}" (${rule}: ${RELATIVE})`)
        if (!dir.startsWith('/')) continue
        search.try({path: `${dir}/${name}`, rule, configuration}, this.verify(`${dir}/${name}`))
      }
    }
    if (this.options.libraryPath) look('LD_LIBRARY_PATH', this.options.libraryPath)
    // Both kinds of path mean the same here, and both are inherited.
    for (let o: Loaded | undefined = object; o; o = o.loader) {
      const path = withOrigin(o.elf.runpath ?? o.elf.rpath, o.path)
      const tag = o.elf.runpath === undefined ? 'DT_RPATH' : 'DT_RUNPATH'
      if (path) look(o === object ? tag : `${tag} of ${o.real}`, path)
    }
    const {path, file} = this.#systemPath()
    look(file ?? 'default directory', path, file)
    return search.result()
  }

  /** It takes the first file that it can open, and fails when that is not the right one. */
  protected accept(elf: Elf): Verdict {
    return sameAbi(elf, this.abi) ? 'usable' : {fatal: 'for another kind of machine'}
  }

  /** The file is beside the loader: /etc for /lib/ld-musl-*, PREFIX/etc for PREFIX/lib/ld-musl-*. */
  #systemPath(): {path: string; file: string | undefined} {
    if (this.#system) return this.#system
    const named = /ld-musl-([^/]+)\.so\.1$/.exec(this.interpreter)?.[1]
    const arch = /\/etc\/ld-musl-([!-~]+)\.path\0/.exec(this.own.toString('latin1'))?.[1] ?? named
    const prefix = this.interpreter.split('/').slice(0, -2).join('/')
    const file = `${prefix}/etc/ld-musl-${arch}.path`
    const {kind, why} = this.inspector.sysroot.resolve(file)
    if (why === 'ENOENT') this.#system = {path: '/lib:/usr/local/lib:/usr/lib', file: undefined}
    else {
      const text = kind === 'file' ? this.inspector.sysroot.read(file)?.toString() : undefined
      this.#system = {path: text?.replace(/\0.*$/s, '') ?? '', file}
    }
    return this.#system
  }
}

/** A path with any token but $ORIGIN is not used at all. */
function withOrigin(path: string | undefined, object: string): string | undefined {
  const rest = path?.replace(/\$(?:\{ORIGIN\}|ORIGIN)/g, '')
  if (rest === undefined || rest.includes('$')) return undefined
  return path!.replace(/\$(?:\{ORIGIN\}|ORIGIN)/g, () => object.slice(0, object.lastIndexOf('/')))
}
