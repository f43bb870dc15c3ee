import type {ActTable} from '../act.ts'
import type {Made} from '../container/plan.ts'
import {ownCgroups} from '../containers/cgroups.ts'
import {setFrozen} from '../containers/freeze.ts'
import {endNow, removeContainer} from '../containers/remove.ts'
import {KILL, signalAll} from '../containers/signal.ts'
import type {Container} from '../containers/state.ts'
import {discard, type Stale, sweepOne} from '../containers/sweep.ts'
import {quote} from '../shell.ts'
import {call, type Line} from './line.ts'

/** Steps on containers that live, or have lived. */
export interface LivingSteps {
  freeze: {container: Container; frozen: boolean}
  /** To every process in it: none escapes by forking meanwhile. */
  'signal-all': {container: Container; number: number; as: string}
  /** They end now, with all of their processes; until their supervisors have cleaned up. */
  'end-now': {containers: Container[]; as: string}
  /** What is kept of it goes; its root first, where that is `made` by mkroot. */
  'remove-container': {container: Container; made: Made | undefined; as: string}
  /** A container that died: what is left of it goes. */
  sweep: Stale
  /** A state that says nothing of a container. */
  discard: {states: string; id: string}
}

const cgroupsOf = ({cgroups}: Container): string[] => ownCgroups(cgroups)

/** A status that is not 0 is the command's: what it means has been said. */
function ended(status: number): undefined {
  process.exitCode = status || process.exitCode
}

/** What is in its cgroups, else its first process, whose end is that of its PID namespace. */
function killing(container: Container): ReturnType<typeof call> {
  const cgroups = cgroupsOf(container)
  const {pid} = container.first ?? container.supervisor
  return cgroups.length > 0 ? call('kill_all', ...cgroups) : call('kill_one', `${pid}`)
}

/** What is left of a container: its root, its cgroups, the inner ones first, and its state. */
function removing(root: Stale['root'], cgroups: string[], directory: string): Line[] {
  return [
    ...(root ? [call('remove_tree', root.path, `${root.made.dev}:${root.made.ino}`)] : []),
    ...[...new Set(cgroups)]
      .map(quote)
      .map(at => `[ ! -d ${at} ] || find ${at} -depth -type d -exec rmdir {} \\;`),
    `rm -rf ${quote(directory)}`,
  ]
}

export const livingSteps: ActTable<LivingSteps> = {
  freeze: {
    because: 'All of its processes at once. cgroups(7), and the cgroup-v1/freezer-subsystem of the kernel',
    shell: s => call(s.frozen ? 'freeze' : 'thaw', ...cgroupsOf(s.container)),
    run: s => {
      setFrozen(s.container, s.frozen)
      return undefined
    },
  },
  'signal-all': {
    because: 'Every process in its cgroups. kill(1), cgroups(7)',
    shell: s =>
      s.number === KILL ? killing(s.container) : call('signal_all', `${s.number}`, ...cgroupsOf(s.container)),
    run: s => ended(signalAll(s.container, s.number, s.as)),
  },
  'end-now': {
    because: 'It ends, and then its supervisor, which cleans up. kill(1), cgroups(7)',
    shell: s => [
      ...s.containers.map(killing),
      ...s.containers.map(({supervisor}) => call('await_end', `${supervisor.pid}`)),
    ],
    run: s => {
      endNow(s.containers, s.as)
      return undefined
    },
  },
  'remove-container': {
    because:
      'What is kept of it: state, log, what is left of its cgroups; its root, if it is the same one still. rm(1)',
    shell: ({container: {cgroups, directory, root}, made}) =>
      removing(made && {path: root, made}, ownCgroups(cgroups), directory),
    run: s => ended(removeContainer(s.container, s.made, s.as)),
  },
  sweep: {
    because:
      'Its supervisor was killed: processes, cgroups, the root of mkroot --rm, its state. cgroups(7), rm(1)',
    shell: ({states, name, cgroups, root}) => [
      ...(cgroups.length > 0 ? [call('kill_all', ...cgroups)] : []),
      ...removing(root, cgroups, `${states}/${name}`),
    ],
    run: ({states, name}, {swept}) => {
      swept.push(...[sweepOne(states, name) ?? []].flat())
      return undefined
    },
  },
  discard: {
    because: 'A state that is broken. rm(1)',
    shell: s => `rm -rf ${quote(`${s.states}/${s.id}`)}`,
    run: s => {
      discard(s.states, s.id)
      return undefined
    },
  },
}
