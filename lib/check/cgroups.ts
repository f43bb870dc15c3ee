import * as fs from 'node:fs'
import {cgroupOf, type Hierarchy, isKernelsRoot, systemdRuns, topmost} from '../cgroups/hierarchies.ts'
import {delegation} from '../cgroups/plan.ts'
import type {Resources} from '../document/oci.ts'
import {reason} from '../errors.ts'
import {type Finding, fine, limited, missing, without} from './check.ts'
import type {Facts} from './facts.ts'
import {hasFile, LIMITS, tried} from './limits.ts'

/** What is said of cgroups: id, title, and how it is found out. */
export const CGROUPS: [id: string, title: string, find: (facts: Facts) => Finding][] = [
  ['cgroups', 'hierarchies', mounted],
  ['controllers', 'controllers', controllers],
  ['delegation', 'a cgroup of ours', delegated],
  ...LIMITS.map(({controller, option, resources}): [string, string, (facts: Facts) => Finding] => [
    controller,
    controller,
    facts => limit(controller, resources(), option, facts),
  ]),
  ['cgroup-kill', 'cgroup.kill', kill],
]

const UNIFIED = 'boot the kernel with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all'
const PRIVILEGED = "'docker run --privileged' for the container around this"

function mounted({hierarchies, machine: {uid}}: Facts): Finding {
  const v1 = hierarchies.filter(({version}) => version === 1)
  const v2 = hierarchies.find(({version}) => version === 2)
  const readOnly = hierarchies.find(h => h.readOnly)
  if (hierarchies.length === 0)
    return missing(
      'none are mounted',
      "no 'hew limit'",
      uid === 0 ? "'hew cgroup-init' mounts them" : "as root: 'hew cgroup-init' mounts them",
    )
  if (readOnly) return missing(`${readOnly.mount} is read-only`, "no 'hew limit'", PRIVILEGED)
  if (v2 && v1.length === 0) return fine(`v2 at ${v2.mount}`)
  return limited(
    `v1${v2 ? `, and a bare v2 at ${v2.mount}` : ''}`,
    "no 'hew limit --memory-high', and no limits for ordinary users",
    UNIFIED,
  )
}

/** What the usual options of `hew limit` take. */
const USUAL = ['memory', 'cpu', 'pids']

function controllers({hierarchies}: Facts): Finding {
  if (hierarchies.length === 0) return without('hierarchies')
  const there = hierarchies.flatMap(h => h.controllers)
  const lacking = USUAL.filter(name => !there.includes(name))
  const found = there.join(', ') || 'none'
  if (lacking.length === 0) return fine(found)
  const means = `no 'hew limit ${lacking.map(name => `--${name}`).join(', ')}'`
  const say = lacking.length === USUAL.length ? missing : limited
  return say(found, means, enabling(lacking))
}

/** Where a controller can come from that a cgroup has not. */
function enabling(names: string[]): string {
  const all = names.map(name => `+${name}`).join(' ')
  return systemdRuns()
    ? `'${delegation()} sh', and hew in there`
    : `whoever has the cgroup above writes ${all} into its cgroup.subtree_control; the kernel's own root has what the kernel was built with`
}

/** The cgroup below which ours are made. */
function delegated({hierarchies, machine: {uid}}: Facts): Finding {
  const means = "no 'hew limit'"
  const h = hierarchies.find(({controllers}) => controllers.includes('memory')) ?? hierarchies[0]
  if (!h) return without('hierarchies')
  const own = cgroupOf('self', h)
  if (own === undefined)
    return missing(
      `ours cannot be seen below ${h.mount}`,
      means,
      `mount it anew: 'mount -t cgroup2 cgroup2 ${h.mount}'`,
    )
  const top = h.version === 1 ? own : topmost(h, own)
  try {
    fs.accessSync(top, fs.constants.W_OK)
    return fine(h.version === 2 && isKernelsRoot(top) ? `${top}, the kernel's own root` : top)
  } catch (error) {
    return missing(`${top}: ${reason(error)}`, means, delegating(h, top, uid))
  }
}

/** cgroups(7), "Delegation". */
function delegating({version}: Hierarchy, top: string, uid: number): string {
  if (uid === 0) return PRIVILEGED
  if (version === 1) return `with cgroup v1 only root may: ${UNIFIED}`
  if (systemdRuns()) return `'${delegation()} sh', and hew in there`
  const given = `${top}/user-${uid}`
  return `as root: 'hew cgroup-init; mkdir ${given}; chown -R ${uid} ${given}', and this shell's PID into its cgroup.procs`
}

function limit(controller: string, resources: Resources, option: string, facts: Facts): Finding {
  const why = tried(resources, facts.hierarchies)
  if (why === undefined) return fine(`'hew limit ${option}' works`)
  if (delegated(facts).status === 'missing') return without('a cgroup of ours')
  const means = `no 'hew limit ${option}'`
  if (why.includes("'hew cgroup-init'"))
    return limited(why.replace(/: run 'hew cgroup-init'.*/, ''), `${means} yet`, "'hew cgroup-init'")
  const there = facts.hierarchies.some(({controllers}) => controllers.includes(controller))
  return there
    ? missing(why, means, 'start hew in another cgroup: see cgroups(7)')
    : missing('no such controller', means, enabling([controller]))
}

function kill({hierarchies}: Facts): Finding {
  const means = 'the processes of a container are frozen first, and then killed one by one'
  const v2 = hierarchies.find(({version}) => version === 2)
  if (!v2) return limited('cgroup v1', means, `only v2 has it: ${UNIFIED}`)
  const has = hasFile(v2, 'cgroup.kill')
  if (has === undefined) return without('a cgroup of ours')
  return has ? fine('works') : limited('not there', means, 'it takes Linux 5.14 or newer')
}
