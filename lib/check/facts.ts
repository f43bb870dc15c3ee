import * as fs from 'node:fs'
import {constants, release} from 'node:os'
import {type Hierarchy, hierarchies} from '../cgroups/hierarchies.ts'
import {type Machine, machine} from '../container/machine.ts'
import {read} from '../kernel.ts'
import {printedBy} from '../stage.ts'
import {PROBES} from './probes.ts'
import {trial} from './trial.ts'

/** What was found out about the machine, before anything is said about it. */
export interface Facts {
  machine: Machine
  /** The distribution, by its own name. */
  system: string
  /** The kernel's release. */
  kernel: string
  /** In a container already: the PID or the user namespace is not the machine's first. */
  contained: boolean
  /** A seccomp filter looks at our system calls: proc_pid_status(5). */
  seccomp: boolean
  noNewPrivileges: boolean
  /** The AppArmor profile that confines us. */
  apparmor: string | undefined
  /** What came of each probe: undefined when it worked, else the name of the error or of the signal that ended it. */
  probes: Record<string, string | undefined>
  /** Why `enter` cannot make a container; undefined: it can. */
  enters: string | undefined
  hierarchies: Hierarchy[]
}

/** include/linux/proc_ns.h: the first namespaces of a machine have these inode numbers. */
const FIRST = {pid: 'pid:[4026531836]', user: 'user:[4026531837]'}

/** Finds it all out, by trying. Nothing of that stays. */
export function gather(): Facts {
  const here = machine()
  const status = read('/proc/self/status') ?? ''
  return {
    machine: here,
    system: /^PRETTY_NAME="?(.*?)"?$/m.exec(read('/etc/os-release') ?? '')?.[1] ?? 'a machine without a name',
    kernel: release(),
    contained: Object.entries(FIRST).some(
      ([kind, first]) => fs.readlinkSync(`/proc/self/ns/${kind}`) !== first,
    ),
    seccomp: /^Seccomp:\t2$/m.test(status),
    noNewPrivileges: /^NoNewPrivs:\t1$/m.test(status),
    apparmor: profile(),
    probes: probed(),
    enters: trial(here),
    hierarchies: hierarchies(here.mounts),
  }
}

function profile(): string | undefined {
  const current = read('/proc/self/attr/apparmor/current')
  return current === undefined || current === '' || current.startsWith('unconfined') ? undefined : current
}

function probed(): Facts['probes'] {
  const plan = PROBES.map(({id}) => ({do: 'probe' as const, name: id}))
  const lines = printedBy(plan, {as: 'hew check', title: 'check'}).stdout.trim().split('\n')
  return Object.fromEntries(
    lines.map(line => {
      const [name, result] = line.split(' ')
      return [name, nameOf(Number(result))]
    }),
  )
}

/** errno(3), or, negative, signal(7), by name. */
function nameOf(number: number): string | undefined {
  if (number === 0) return undefined
  const names = number > 0 ? constants.errno : constants.signals
  return Object.entries(names).find(([, value]) => value === Math.abs(number))?.[0] ?? `error ${number}`
}
