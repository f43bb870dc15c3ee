import * as fs from 'node:fs'
import * as path from 'node:path'
import {hierarchies} from '../cgroups/hierarchies.ts'
import {parts} from '../cgroups/plan.ts'
import {CONTROLLERS, prepare} from '../cgroups/prepare.ts'
import {HewError} from '../errors.ts'
import {words} from '../kernel.ts'

/** The version that has the controllers of this machine: v1 where any of them is in a tree of its own. */
export function version(): 1 | 2 {
  return hierarchies().some(h => h.version === 1 && h.controllers.includes('memory')) ? 1 : 2
}

const LIMITED = ['memory', 'cpu', 'pids'] as const

/** The cgroups in which those with limits are made: with v2 one and the same, with v1 one of each tree. */
export type Above = Record<(typeof LIMITED)[number], string>

/**
 * Where cgroups with limits can be made, once `cgroup-init` has done its part.
 * @throws HewError nowhere
 */
export function above(): Above {
  const settings = LIMITED.map(controller => ({controller, file: '', value: ''}))
  const all = parts(settings, hierarchies())
  const [memory, cpu, pids] = settings.map(
    setting => all.find(part => part.settings.includes(setting))!.above,
  )
  return {memory: memory!, cpu: cpu!, pids: pids!}
}

function may(file: string, mode: number): boolean {
  try {
    fs.accessSync(file, mode)
    return true
  } catch {
    return false
  }
}

/** The cgroup of v2 that is to be prepared for limits. */
export interface Topmost {
  directory: string
  /** Those that can be enabled for the cgroups in it. */
  controllers: string[]
  /** It is not the kernel's own root: processes in it are in the way. */
  evacuate: boolean
  /** There are some, and nothing can be enabled before they are gone. */
  busy: boolean
}

/**
 * What has to be prepared; undefined with v1, which takes no preparation.
 * @throws HewError it is not ours to rearrange
 */
export function topmost(): Topmost | undefined {
  if (version() === 1) return undefined
  const {cgroup, acts} = prepare({evacuateTo: 'other-procs'})
  if (cgroup === undefined) return undefined
  const there = words(`${cgroup}/cgroup.controllers`)
  const evacuate = acts.some(act => act.do === 'evacuate-cgroup')
  return {
    directory: cgroup,
    controllers: CONTROLLERS.filter(name => there.includes(name)),
    evacuate,
    busy: evacuate && words(`${cgroup}/cgroup.procs`).length > 0,
  }
}

/** Why this machine lacks what steps of the lesson take; undefined where it is there. */
export type Lacking = (need: string) => string | undefined

/** The outside programs that are typed by hand, and those that are copied. */
const PROGRAMS = 'bash chroot debootstrap find grep head ldd mount readlink script sed tr umount unshare yes'

/** @param fast what takes a minute is left out */
export async function lacking(fast: boolean): Promise<Lacking> {
  const programs = PROGRAMS.split(' ').filter(name => !isThere(name))
  const limits = whyNoLimits()
  const mirror = fast ? 'it takes a minute: not with DEMO=fast' : await whyNoMirror()
  const known = new Map([
    ...programs.map(name => [name, `there is no ${name} here`] as const),
    ...(process.getuid!() === 0 ? [] : ([['root', 'this takes root']] as const)),
    ...(limits === undefined ? [] : ['limits', 'cgroups'].map(name => [name, limits] as const)),
    ...(mirror === undefined ? [] : ([['mirror', mirror]] as const)),
  ])
  // Only after cgroup-init there may be any, and lines that say "$memory/memory.max" mean no file of / where there is none.
  return need => known.get(need) ?? (need === 'cgroups' ? whyNot(above) : undefined)
}

function isThere(program: string): boolean {
  const directories = (process.env.PATH ?? '').split(':')
  return directories.some(directory => may(path.join(directory, program), fs.constants.X_OK))
}

function whyNoLimits(): string | undefined {
  if (process.getuid!() !== 0) return 'this takes root'
  return whyNot(() => topmost() ?? above())
}

function whyNot(attempt: () => unknown): string | undefined {
  try {
    attempt()
    return undefined
  } catch (error) {
    if (error instanceof HewError) return error.message
    throw error
  }
}

export const MIRROR = 'http://deb.debian.org/debian'

/** Whether Debian can be had here is found out by asking for a small file. */
async function whyNoMirror(): Promise<string | undefined> {
  try {
    const asked = {method: 'HEAD', signal: AbortSignal.timeout(3000)}
    const {ok, status} = await fetch(`${MIRROR}/dists/bookworm/Release`, asked)
    return ok ? undefined : `${MIRROR} answers with ${status}`
  } catch {
    return `${MIRROR} cannot be reached from here`
  }
}
