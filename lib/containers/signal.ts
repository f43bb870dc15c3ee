import {processesIn} from '../cgroups/members.ts'
import {HewError, UsageError} from '../errors.ts'
import {writeValue} from '../kernel.ts'
import {nearest} from '../nearest.ts'
import {AT_ONCE, carryOut} from '../stage.ts'
import type {Plan, Step} from '../step.ts'
import {ownCgroups, patiently} from './cgroups.ts'
import {thaw, whileFrozen} from './freeze.ts'
import {startOf} from './process.ts'
import {type Container, configurationOf} from './state.ts'

const [RTMIN, RTMAX] = [34, 64]

/**
 * A signal as kill(1) takes it: `TERM`, `SIGTERM`, `15`, `RTMIN+1`; 0 only asks whether it could be sent.
 * @throws UsageError there is no such signal
 */
export function signalNumber(word: string): number {
  if (/^\d{1,2}$/.test(word) && Number(word) <= RTMAX) return Number(word)
  const name = word.toUpperCase().replace(/^SIG/, '')
  const {signals} = process.getBuiltinModule('node:os').constants
  const [, base, offset = '0'] = /^(RTMIN|RTMAX)([+-]\d{1,2})?$/.exec(name) ?? []
  const number = base
    ? (base === 'RTMIN' ? RTMIN : RTMAX) + Number(offset)
    : signals[`SIG${name}` as NodeJS.Signals]
  if (number !== undefined && number <= RTMAX && (!base || number >= RTMIN)) return number
  const meant = nearest(
    name,
    Object.keys(signals).map(known => known.slice(3)),
  )
  throw new UsageError(
    `--signal ${word}: there is no such signal${meant ? `: did you mean ${meant}?` : ": 'kill -l' lists them"}`,
  )
}

/** These do to the supervisor what is meant for the container. */
export const KILL = 9
const [STOP, TSTP, TTIN, TTOU] = [19, 20, 21, 22]
const NOT_PASSED_ON = [KILL, STOP, TSTP, TTIN, TTOU]

/**
 * Sends a signal to the container's command. Its supervisor passes it on, as it does with Ctrl-C: as PID 1 of a PID namespace
 * the command is deaf to what it does not handle (pid_namespaces(7)), and the supervisor helps.
 */
export function signalStep({id, supervisor, first}: Container, number: number): Step {
  const {pid, start} = NOT_PASSED_ON.includes(number) && first ? first : supervisor
  return {do: 'signal', pid, start, number, whose: id}
}

/**
 * Sends a signal to every process in a container: none escapes by forking meanwhile.
 * @returns the exit status
 * @throws HewError nothing holds its processes together, or they do not end
 */
export function signalAll(container: Container, number: number, as: string): number {
  const {id} = container
  const cgroups = ownCgroups(container.cgroups)
  if (cgroups.length > 0) {
    if (number !== KILL) return whileFrozen(container, () => signalEach(cgroups, number, as))
    if (killCgroups(cgroups)) return 0
    throw unending(id)
  }
  // The end of a PID namespace's first process is the end of all of it.
  if (number === KILL && hasPidNamespace(container))
    return carryOut([signalStep(container, number)], {as, title: `signal ${id}`})
  throw new HewError(
    `${id} has no cgroup that holds its processes together: without --all the signal goes to its command`,
  )
}

export function unending(id: string): HewError {
  return new HewError(`${id} does not end: one of its processes waits in the kernel`)
}

function hasPidNamespace(container: Container): boolean {
  const {linux} = configurationOf(container)
  return linux?.namespaces?.some(({type, path}) => type === 'pid' && !path) ?? false
}

/** Ends whatever is in these cgroups of one container. False: something is still there. */
export function killCgroups(cgroups: string[]): boolean {
  return patiently(() => {
    const left = processesIn(cgroups)
    if (left.length > 0) killNow(cgroups)
    return left.length === 0
  })
}

/** cgroup.kill ends all of a cgroup of v2 at once, forks or not; the kernel has it since 5.14. */
export function killNow(cgroups: string[]): void {
  try {
    writeValue(`${cgroups[0]}/cgroup.kill`, '1')
  } catch {
    whileFrozen({id: cgroups[0]!, cgroups}, () => signalEach(cgroups, KILL, 'hew'))
    thaw(cgroups)
  }
}

function signalEach(cgroups: string[], number: number, as: string): number {
  const started = processesIn(cgroups).map(pid => ({pid, start: startOf(pid)}))
  // A PID that is listed before and after its start was read is not another's meanwhile.
  const still = new Set(processesIn(cgroups))
  const plan = started.flatMap(
    ({pid, start}): Plan =>
      start !== undefined && still.has(pid) ? [{do: 'signal', pid, start, number, whose: ''}] : [],
  )
  return send(plan, number, as)
}

/** Sends a signal by as many steps. @returns the exit status */
export function send(plan: Plan, number: number, as: string): number {
  let status = 0
  for (let at = 0; at < plan.length; at += AT_ONCE)
    status ||= carryOut(plan.slice(at, at + AT_ONCE), {as, title: `signal ${number}`})
  return status
}
