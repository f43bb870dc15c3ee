import type {ActTable} from '../act.ts'
import {gather, limit, make, note, sweepEnded} from '../cgroups/change.ts'
import {enable, evacuate, repair} from '../cgroups/evacuate.ts'
import type {Members} from '../cgroups/members.ts'
import {HewError} from '../errors.ts'
import {echo, quote} from '../shell.ts'
import {carryOut} from '../stage.ts'
import {call, setting} from './line.ts'

/** Steps on the machine's own cgroups. */
export interface ActSteps {
  /** The tree of v2, where none is mounted. */
  'mount-cgroups': {path: string}
  /** Undoes what has made a cgroup "domain threaded". */
  'repair-cgroup': {path: string}
  /** Every process moves, again and again until none is left. */
  'evacuate-cgroup': {path: string; to: string}
  /** Of the controllers those that there are; a process that comes in meanwhile (EBUSY) moves `to` there as well. */
  'enable-controllers': {path: string; controllers: string[]; to: string}
  /** Written down beside a container's state, so that its supervisor removes it. */
  'note-cgroup': {path: string; file: string}
  'make-cgroup': {path: string}
  /** Cgroups in there that were made for a process, and are left over, go. */
  'sweep-ended': {path: string}
  /** `optional`: where the kernel has no such file there is nothing to limit. */
  'limit-cgroup': {path: string; file: string; value: string; optional: boolean}
  /** What runs already moves, until none of it is left: a process with all that it started, and what is in `groups`. */
  gather: Members & {word: string; from: string; to: string}
}

export const actSteps: ActTable<ActSteps> = {
  'mount-cgroups': {
    because: 'The tree of cgroups. mount(8), cgroups(7)',
    shell: s => `mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 ${quote(s.path)}`,
    run: s => {
      mount(s.path)
      return undefined
    },
  },
  'repair-cgroup': {
    because:
      'Controllers were enabled beside processes: that made it a threaded one, in which nothing can be limited. cgroups(7)',
    shell: s => call('repair_cgroup', s.path),
    run: s => {
      repair(s.path)
      return undefined
    },
  },
  'evacuate-cgroup': {
    because: 'A cgroup with processes in it has no controllers to give to those below it. cgroups(7)',
    shell: s => call('evacuate', s.path, s.to),
    run: (s, {moved}) => {
      evacuate(s.path, s.to, moved)
      return undefined
    },
  },
  'enable-controllers': {
    because: 'What the cgroups below it can be limited by. cgroups(7)',
    shell: s => call('enable_controllers', s.path, s.to, ...s.controllers),
    run: (s, {moved}) => {
      enable(s.path, s.controllers, () => s.to && evacuate(s.path, s.to, moved))
      return undefined
    },
  },
  'note-cgroup': {
    because: "The container's supervisor removes it with its own",
    shell: s => `${echo(s.path)} >>${quote(s.file)}`,
    run: s => note(s.file, s.path),
  },
  'make-cgroup': {
    because: 'A cgroup of its own. cgroups(7)',
    shell: s => `mkdir ${quote(s.path)}`,
    run: s => make(s.path),
  },
  'sweep-ended': {
    because: '',
    shell: () => '',
    run: s => {
      sweepEnded(s.path)
      return undefined
    },
  },
  'limit-cgroup': {
    because: 'Its limits. cgroups(7)',
    shell: s => setting(`${s.path}/${s.file}`, s.value, s.optional),
    run: s => limit(`${s.path}/${s.file}`, s.value, s.optional),
  },
  gather: {
    because: 'What runs already moves there, with all that it started. cgroups(7), proc_pid_status(5)',
    shell: s => call('gather', s.from, s.to, s.pid === undefined ? '-' : `${s.pid}`, ...s.groups),
    run: s => gather(s, s.from, s.to),
  },
}

/** mount(2) is the stage's to call: a container of nothing but hew has no mount(8). */
function mount(path: string): void {
  const options = ['nosuid', 'nodev', 'noexec']
  const status = carryOut(
    [
      {do: 'root', path: '/'},
      {do: 'mount', type: 'cgroup2', source: 'cgroup2', path, options},
    ],
    {as: 'hew cgroup-init', title: 'cgroup-init'},
  )
  if (status !== 0) throw new HewError(`cgroups are not mounted here, and cannot be mounted at ${path}`)
}
