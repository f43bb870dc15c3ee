import * as path from 'node:path'
import {type Closure, closure, type Item} from '../programs/closure.ts'
import {copyPlan} from '../programs/copy.ts'
import {World} from '../programs/world.ts'
import type {Hints, Plan} from '../step.ts'
import {NOT_EMPTY} from '../steps/files.ts'
import type {Sysroot} from '../sysroot.ts'
import * as essentials from './essentials.ts'

/** How the machine's own root is laid out: the links at its top, `/bin` to `usr/bin` where /usr is merged. */
export type Layout = Map<string, string>

/** What a root is made of; with the layout it determines the plan. */
export interface Contents {
  items: Item[]
  /** Files of hew's own in /etc, where there are none. */
  files: [path: string, content: string][]
  links: [path: string, target: string][]
}

/** The layout of a machine (or of a root). */
export function layoutOf(machine: Sysroot): Layout {
  const names = machine.list('/').filter(name => /^(bin|sbin|lib\w*)$/.test(name))
  const entries = names.map(name => machine.lstat(`/${name}`))
  return new Map(entries.flatMap(({path, target}) => (target === undefined ? [] : [[path, target] as const])))
}

/** The programs of the lesson, and what a machine does not have of them. */
export interface Programs {
  /** By the names they are called by. */
  found: string[]
  absent: string[]
  items: Item[]
}

/** What belongs to a root that a person can work in; programs that this machine cannot run are left out as absent. */
export function belongings(machine: Sysroot, search: string): Programs {
  const names = essentials.PROGRAMS
  const world = new World({path: search, sysroot: machine.root})
  const asked = (names: string[]): Closure => closure(names, world)
  const files = [...terminals(machine), ...locale(machine)]
  const all = asked([...names, ...files])
  const found = all.missing.length > 0 ? names.filter(name => asked([name]).missing.length === 0) : names
  const {items} = found.length < names.length ? asked([...found, ...files]) : all
  const services = nameServices(machine, items).filter(library => asked([library]).missing.length === 0)
  return {
    found,
    absent: names.filter(name => !found.includes(name)),
    items: services.length > 0 ? merged(items, asked(services).items) : items,
  }
}

function merged(items: Item[], more: Item[]): Item[] {
  const known = new Set(items.map(item => item.path))
  return [...items, ...more.filter(item => !known.has(item.path))]
}

function isFile(machine: Sysroot, path: string): boolean {
  return machine.resolve(path).kind === 'file'
}

/** terminfo(5): a directory for each first letter, in some systems called by its code. */
function terminals(machine: Sysroot): string[] {
  return essentials.TERMINALS.flatMap(name => {
    const letters = [name[0]!, name.charCodeAt(0).toString(16)]
    const paths = essentials.TERMINFO.flatMap(directory => letters.map(l => `${directory}/${l}/${name}`))
    return paths.find(path => isFile(machine, path)) ?? []
  })
}

function locale(machine: Sysroot): string[] {
  const directory = essentials.LOCALES.find(path => machine.resolve(path).kind === 'directory')
  return directory === undefined ? [] : filesIn(machine, directory)
}

function filesIn(machine: Sysroot, directory: string): string[] {
  return machine.list(directory).flatMap(name => {
    const path = `${directory}/${name}`
    const {kind} = machine.resolve(path)
    return kind === 'directory' ? filesIn(machine, path) : kind === 'file' ? [path] : []
  })
}

/** They are beside the libc that opens them. */
function nameServices(machine: Sysroot, items: Item[]): string[] {
  return items
    .filter(item => path.basename(item.path) === 'libc.so.6')
    .flatMap(libc => essentials.NAME_SERVICES.map(name => `${path.dirname(libc.path)}/${name}`))
    .filter(library => isFile(machine, library))
}

/** Where a program that was asked for by name is, links and all. */
function programs(items: Item[]): Map<string, string> {
  const asked = items.filter(({because}) =>
    because.some(({by, rule}) => by === 'command line' && rule === 'PATH'),
  )
  return new Map(asked.map(({path: name}) => [path.basename(name), name]))
}

/** The shell for /etc/passwd, as it is called inside; undefined when there is none. */
export function shellOf(items: Item[], layout: Layout): string | undefined {
  const found = programs(items)
  const shell = found.get('bash') ?? found.get('sh')
  // Where /usr is merged, /bin/bash is what everybody writes.
  return shell?.startsWith('/usr/bin/') && layout.get('/bin') === 'usr/bin'
    ? shell.slice('/usr'.length)
    : shell
}

/** Links for programs that are in no directory of the root's PATH, as in /nix/store or somebody's home. */
export function linksIntoPath(items: Item[], search: string): [path: string, target: string][] {
  const directories = search.split(':')
  return [...programs(items)]
    .filter(([, target]) => !directories.includes(path.dirname(target)))
    .map(([name, target]) => [`/usr/local/bin/${name}`, target])
}

/** The directories of a normal system, in the machine's own layout. */
export function skeleton(layout: Layout): Plan {
  const targets = [...layout].map(([link, target]) => path.resolve(path.dirname(link), target))
  const directories = new Map(essentials.DIRECTORIES.map(([path, mode]) => [path, mode ?? 0o755]))
  for (const target of targets)
    for (const parent of ancestry(target)) directories.set(parent, directories.get(parent) ?? 0o755)
  for (const link of layout.keys()) directories.delete(link)
  return [
    ...[...directories].map(([path, mode]) => ({do: 'mkdir', path, mode}) as const),
    ...[...layout].map(
      ([path, target]) => ({do: 'symlink', target, path, why: 'as on this machine'}) as const,
    ),
  ]
}

/** A directory's parents and itself, from the top. */
function ancestry(directory: string): string[] {
  const names = directory.split('/').slice(1)
  return names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`)
}

/** A populated root, beginning with its directories. */
export function populated(layout: Layout, {items, files, links}: Contents): Plan {
  const base = skeleton(layout)
  const there = new Set(base.flatMap(step => ('path' in step ? [step.path] : [])))
  return [
    ...base,
    ...copyPlan(
      items.filter(item => !there.has(item.path)),
      {setuid: false, force: false, link: false},
    ),
    ...links.map(([path, target]) => ({do: 'symlink', target, path}) as const),
    ...files.map(([path, content]) => ({do: 'put', mode: 0o644, path, content}) as const),
  ]
}

/**
 * A finished root from nothing: all of it, or nothing.
 * @param hints what a person can do where it cannot be made
 */
export function transaction(
  root: string,
  adding: boolean,
  steps: Plan,
  afterwards: Plan,
  hints: Hints = {},
): Plan {
  return [
    {do: 'begin'},
    adding
      ? {do: 'root', path: root}
      : {do: 'new-root', path: root, mode: 0o755, hints: {...hints, ENOTEMPTY: NOT_EMPTY}},
    {do: 'claim', text: adding ? 'into' : 'owned', hints: {ENOTEMPTY: NOT_EMPTY}},
    ...steps,
    {do: 'release'},
    ...afterwards,
    {do: 'keep'},
  ]
}
