import * as fs from 'node:fs'
import {PATH} from '../document/defaults.ts'
import {HewError} from '../errors.ts'
import {explainExec} from '../programs/explain.ts'
import {typable} from '../shell.ts'
import {lines, type Plan, type Step} from '../step.ts'
import {type Entry, Sysroot} from '../sysroot.ts'

/** A mount of the plan, and what it has made in there. */
interface Mounted {
  at: string
  /** Where its files are now; undefined for a file system of its own. */
  source?: string
  /** It begins empty. */
  empty: boolean
}

const LINKS_MAX = 40

/** @throws HewError who the command is to be can only be set in the root, which has no program for that */
export function needsSetpriv(plan: Plan, root: string): void {
  const late = lines(plan).some(
    ({line}) => typeof line === 'object' && 'place' in line && line.place === 'inside',
  )
  if (late && explainExec('setpriv', {sysroot: root, path: PATH}))
    throw new HewError(
      `a script that leaves the command without CAP_SYS_CHROOT or CAP_SETUID, or a user with ambient capabilities, takes the root's own setpriv(1): hew copy-deps -r ${typable(root)} setpriv`,
    )
}

/** A plan of enter for a script: with a cgroup only where that limits or counts, and paths through no link. @throws HewError as needsSetpriv() */
export function printable(plan: Plan): Plan {
  const counted = plan.some(step => step.do === 'cgroup-set' || step.do === 'verdict')
  const [root = '/'] = plan.flatMap(step => (step.do === 'root' ? step.path : []))
  needsSetpriv(plan, root)
  // Descriptors of its own are 9, and one below.
  const fd = plan.some(step => step.do === 'verdict' && step.to === 8) ? 7 : 8
  const steps = counted ? plan : plan.filter(step => !/^cgroup/.test(step.do))
  const unbound = plan.some(step => step.do === 'identity' && step.uid !== 0)
  const one = (step: Step): Plan => {
    if (step.do === 'log') return []
    if (step.do === 'detach') return [{...step, script: {root, fd}}]
    return step.do === 'die-with-parent' ? [{...step, unbound}] : [step]
  }
  return located(steps.flatMap(one), root)
}

/**
 * The plan with the paths that its mounts have in the root as that is now, through no link, and what is missing there: for a
 * script, which has no openat2(2) to have them resolved beneath the root.
 */
function located(plan: Plan, root: string): Plan {
  const tree = new Sysroot(root)
  const mounts: Mounted[] = []
  const made = new Set<string>()
  const mountAt = (path: string): Mounted | undefined =>
    mounts.findLast(({at}) => path === at || path.startsWith(`${at}/`))
  const isThere = (path: string): boolean => {
    const mount = mountAt(path)
    if (!mount) return tree.lstat(path || '/').kind !== 'missing'
    if (mount.empty) return path === mount.at || made.has(path)
    return mount.source === undefined || fs.existsSync(mount.source + path.slice(mount.at.length))
  }
  const one = (step: Step): Step => {
    // Nothing is mounted on / itself: everybody would still be beneath it.
    if (step.do === 'root' && step.path === '/' && plan.some(one => one.do === 'pivot'))
      return {...step, path: '/mnt'}
    if (step.do === 'symlink') return {...step, fresh: mountAt(step.path)?.empty ?? false}
    if (step.do === 'mask' || step.do === 'read-only')
      return {...step, path: follow(tree, step.path, mountAt)}
    if (step.do !== 'mount') return step
    const path = follow(tree, step.path, mountAt)
    const bind = step.type === 'bind' || step.options.some(option => /^r?bind$/.test(option))
    const isFile = bind && !fs.statSync(step.source, {throwIfNoEntry: false})?.isDirectory()
    const lacks = isThere(path) ? undefined : isFile ? 'file' : 'directory'
    for (let at = path; lacks && at !== ''; at = at.slice(0, at.lastIndexOf('/'))) made.add(at)
    mounts.push({at: path, empty: step.type === 'tmpfs' && !bind, ...(bind && {source: step.source})})
    return {...step, path, lacks}
  }
  return plan.map(one)
}

/** Where a path leads in the tree; in what is mounted there later only its names count. */
function follow(tree: Sysroot, path: string, mountAt: (path: string) => unknown): string {
  let at = ''
  let links = 0
  for (const rest = path.split('/'); rest.length > 0; ) {
    const name = rest.shift()
    if (name === '' || name === '.') continue
    const next = name === '..' ? at.slice(0, at.lastIndexOf('/')) : `${at}/${name}`
    const entry: Entry | undefined = next === '' || mountAt(next) ? undefined : tree.lstat(next)
    if (entry?.kind === 'link' && ++links <= LINKS_MAX) {
      rest.unshift(...entry.target!.split('/'))
      if (entry.target!.startsWith('/')) at = ''
    } else at = next
  }
  return at
}
