import {quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {before, call, setting, typed, unchecked} from './line.ts'

/** Where a container's cgroup goes: below this one, in this kind of hierarchy. */
export interface Above {
  version: 1 | 2
  path: string
  /** Where it cannot be made the container does without: nothing is limited in it. */
  optional: boolean
}

/** Steps before `clone` that give the container a cgroup of its own, which goes when it has ended. */
export interface CgroupSteps {
  /** One cgroup of this name in each place. Where the name is taken, the PID is added to it. */
  cgroup: {name: string; above: Above[]}
  /** `cgroup`: its index in `above`, and its path; `optional`: where the kernel has no such file there is nothing to limit. */
  'cgroup-set': {cgroup: number; path: string; file: string; value: string; optional?: boolean}
  /** The container starts in them: nothing of it is counted elsewhere. `outside`: nobody in there may join. */
  'cgroup-join': {paths: string[]; outside?: boolean}
  /** The process starts in this one, which is another's; `optional`: where it may not, it stays where it is. */
  'cgroup-into': {path: string; optional: boolean}
  /** Locks an open cgroup, as who makes one does for as long as it lives; prints the descriptor of one that nobody else has. */
  'cgroup-lock': {fd: number}
  /** How it ended is written there, as JSON; `paths`: where that is counted. */
  verdict: {to: string | number; paths: string[]}
}

export const cgroupSteps: Table<CgroupSteps> = {
  cgroup: {
    because: 'A cgroup for the container, which goes at the end. cgroups(7)',
    shell: s => {
      const paths = s.above.map(({path}) => quote(`${path}/${s.name}`))
      return [...paths.map(path => `mkdir ${path}`), {atEnd: `rmdir ${paths.join(' ')}`}]
    },
    told: s => `mkdir ${s.above.map(({path}) => quote(`${path}/${s.name}`)).join(' ')}`,
    words: s => [
      s.name,
      s.above.length,
      ...s.above.flatMap(({version, optional, path}) => [version, optional ? 'may' : 'must', path]),
    ],
    check: unchecked,
  },
  'cgroup-set': {
    because: 'Its limits, before anything runs in it. cgroups(7)',
    shell: s => setting(`${s.path}/${s.file}`, s.value, s.optional),
    words: s => [s.cgroup, s.file, s.value, s.optional ? 'if-there' : 'must'],
    check: unchecked,
  },
  'cgroup-join': {
    because: 'What is started from here on is counted there. cgroups(7)',
    shell: s => {
      const joins = s.paths.map(path => `echo $$ >${quote(`${path}/cgroup.procs`)} && `).join('')
      return before(s.outside ? 'around' : 'within', `sh -c ${quote(`${joins}exec "$@"`)} sh`)
    },
    words: () => [],
    check: unchecked,
  },
  'cgroup-into': {
    because: 'Where it is limited and counted. cgroups(7)',
    // 0 is whoever writes it, also where PIDs are counted in another way.
    shell: s => {
      const procs = quote(`${s.path}/cgroup.procs`)
      return before(
        'within',
        `sh -c ${quote(`echo 0 >${procs} || ${s.optional ? ':' : 'exit 125'}; exec "$@"`)} sh`,
      )
    },
    told: s => `echo $$ >${quote(`${s.path}/cgroup.procs`)}`,
    words: s => [s.path, s.optional ? 'may' : 'must'],
    check: unchecked,
  },
  'cgroup-lock': {because: '', shell: () => '', words: s => [s.fd], check: unchecked},
  verdict: {
    because: 'How it ended: what is counted in its cgroup goes with that. cgroups(7)',
    shell: s => {
      const to = typeof s.to === 'number' ? s.to : 9
      return [
        ...(typeof s.to === 'number' ? [] : [`exec ${to}>${quote(s.to)}`]),
        'read -r started _ </proc/uptime',
        {atEnd: `${typed(call('verdict', ...s.paths))} >&${to}`, name: 'verdict'},
        before('around', `${to}>&-`),
      ]
    },
    told: () => '',
    words: s => (typeof s.to === 'number' ? ['fd', s.to] : ['file', s.to]),
    check: unchecked,
  },
}
