import {type Act, perform} from '../lib/act.ts'
import {type Hierarchy, hierarchies} from '../lib/cgroups/hierarchies.ts'
import {resources, type Wishes} from '../lib/cgroups/limits.ts'
import {limitActs, type Target, targetOf, useText} from '../lib/cgroups/running.ts'
import {limitsText} from '../lib/cgroups/text.ts'
import {assignment, bandwidth, count, cpuset, deviceLimits, memory, size} from '../lib/cgroups/values.ts'
import {CHANGES, command, OUTPUT} from '../lib/cli/command.ts'
import type {Values} from '../lib/cli/options.ts'
import {describe, isTerminal, write} from '../lib/cli/output.ts'
import {dryActs, telling} from '../lib/cli/perform.ts'
import {piped, sourceOf} from '../lib/cli/source.ts'
import {containerOf, findIds, isState, running} from '../lib/containers/find.ts'
import type {State} from '../lib/containers/state.ts'
import {containerTarget} from '../lib/containers/target.ts'
import type {Configuration} from '../lib/document/oci.ts'
import {HewError, UsageError} from '../lib/errors.ts'

const options = {
  memory: {
    short: 'm',
    value: 'SIZE',
    help: 'the most memory, as in 80M (K M G T, each 1024 of the one before); swap is 0 then',
  },
  swap: {value: 'SIZE', help: 'this much swap on top of --memory'},
  'memory-high': {value: 'SIZE', help: 'from here on the kernel slows it down and takes memory back (v2)'},
  cpu: {short: 'c', value: 'CPU', help: 'the most CPU time: 5% of one CPU, or 1.5 CPUs'},
  'cpu-weight': {value: 'N', help: 'its share where CPUs are contended, 1 to 10000; 100 is usual'},
  pids: {short: 'p', value: 'N', help: 'the most processes and threads, all of the container together'},
  cpuset: {value: 'LIST', help: 'the CPUs that it may use, as in 0-2,4'},
  io: {
    value: 'DEV:KEY=RATE,...',
    many: true,
    help: 'rbps, wbps, riops, wiops of a block device, as in /dev/sda:wbps=1M',
  },
  set: {value: 'FILE=VALUE', many: true, help: 'any other file of the cgroup, as in memory.low=20M'},
  ...CHANGES,
  ...OUTPUT,
} as const

type Given = Values<typeof options>

export default command(
  {
    name: 'limit',
    summary: 'limit what a container, or any process, uses: memory, CPU, processes',
    usage: '[OPTIONS] [PID|NAME...]',
    description: [
      'In a pipe it adds limits to the document, and enter makes a cgroup with them. With the NAME of a container, the PID of a process, or behind `enter --detach |`, it acts at once: what has no cgroup of its own gets one, with all that it started. Without options it shows limits and use.',
      'The value max lifts a limit. Several limits are set all or none.',
    ],
    options,
    examples: [
      [
        'hew mkroot | hew limit --memory 80M --cpu 5% --pids 3 | hew enter',
        'a shell that cannot hurt the machine',
      ],
      ['hew limit --cpu 50% 1234', 'a process that runs already, with its children'],
      ['hew limit --memory 1G web', 'a container that runs'],
      ['hew limit 1234', 'what it may use, and what it does'],
    ],
    run: ({options: given, operands}) => {
      const wishes = wishesOf(given)
      if (operands.length > 0) return act(targetsNamed(operands), wishes, given)
      const document = piped(
        "nothing to limit: name a container or a PID, or pipe a root in, as in 'hew mkroot | hew limit --pids 3 | hew enter'",
      )
      if (isState(document)) return pass(document, wishes, given)
      const {configuration, root} = sourceOf(document)
      const after = limited(configuration, wishes)
      const text = limitsText(after.linux?.resources ?? {})
      write(
        1,
        describe(after, () => [['root', root], ...text], given),
      )
    },
  },
  import.meta,
)

/** Containers with these ids; else processes, or cgroups that something else has made. */
function targetsNamed(words: string[]): Target[] {
  const containers = findIds(words)
  return words.map((word, i) => {
    const container = containers[i]!
    if (typeof container === 'object') return containerTarget(running(container))
    const target = targetOf(word)
    if (!target) throw new HewError(container)
    return target
  })
}

function act(targets: Target[], wishes: Wishes | undefined, given: Given): void | Promise<void> {
  const found = hierarchies()
  if (given['dry-run']) return dryActs(actsOf(targets, wishes, found), 'hew limit')
  limit(targets, wishes, given, found)
  const text = (target: Target): string => useText(target, given.json, found)
  if (!given.quiet) write(1, targets.map(text).join(given.json ? '' : '\n'))
}

function actsOf(targets: Target[], wishes: Wishes | undefined, found: Hierarchy[]): Act[] {
  return wishes ? targets.flatMap(target => limitActs(target, wishes, found)) : []
}

function limit(targets: Target[], wishes: Wishes | undefined, given: Given, found: Hierarchy[]): void {
  for (const target of targets) perform(actsOf([target], wishes, found), telling('hew limit', given))
}

/** A container of the pipe is limited at once, and the document goes on to the next command. */
function pass(document: State, wishes: Wishes | undefined, given: Given): void | Promise<void> {
  const container = running(containerOf(document))
  const target = containerTarget(container)
  const text = `${JSON.stringify(document)}\n`
  const found = hierarchies()
  if (given['dry-run']) return dryActs(actsOf([target], wishes, found), 'hew limit', text)
  limit([target], wishes, given, found)
  const passedOn = given.json || !isTerminal(1) ? text : useText(target, false, found)
  write(1, given.quiet ? `${container.root}\n` : passedOn)
}

function limited(configuration: Configuration, wishes: Wishes | undefined): Configuration {
  if (!wishes) return configuration
  const {linux} = configuration
  const before = linux?.resources ?? {}
  if (wishes.swap !== undefined && wishes.memory === undefined && before.memory?.limit === undefined)
    throw new UsageError('--swap is on top of --memory: say both')
  return {...configuration, linux: {...linux, resources: resources(before, wishes)}}
}

/** `max` lifts: null, since undefined is what nobody asked for. */
function orLifted<T>(word: string | undefined, read: (word: string) => T | undefined): T | null | undefined {
  return word === undefined ? undefined : (read(word) ?? null)
}

/** The options as numbers, or undefined when there are none. */
function wishesOf(given: Given): Wishes | undefined {
  const wishes: Wishes = {
    memory: orLifted(given.memory, word => memory('--memory', word)),
    swap: orLifted(given.swap, word => size('--swap', word)),
    memoryHigh: orLifted(given['memory-high'], word => memory('--memory-high', word)),
    cpu: orLifted(given.cpu, bandwidth),
    cpuWeight:
      given['cpu-weight'] === undefined ? undefined : count('--cpu-weight', given['cpu-weight'], 1, 10_000),
    pids: orLifted(given.pids, word => (word === 'max' ? undefined : count('--pids', word, 1, 4_194_304))),
    cpus: given.cpuset === undefined ? undefined : cpuset(given.cpuset),
    devices: given.io.flatMap(deviceLimits),
    files: given.set.map(assignment),
  }
  if (wishes.memory === null && wishes.swap)
    throw new UsageError('--swap is on top of --memory, and that has no limit')
  const asked = Object.values(wishes).some(
    wish => wish !== undefined && !(Array.isArray(wish) && wish.length === 0),
  )
  return asked ? wishes : undefined
}
