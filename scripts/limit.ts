import {resources, type Wishes} from '../lib/cgroups/limits.ts'
import {limitRunning, targetOf, useText} from '../lib/cgroups/running.ts'
import {limitsText} from '../lib/cgroups/text.ts'
import {assignment, bandwidth, count, cpuset, deviceLimits, memory, size} from '../lib/cgroups/values.ts'
import {command, OUTPUT} from '../lib/cli/command.ts'
import type {Values} from '../lib/cli/options.ts'
import {describe, write} from '../lib/cli/output.ts'
import {source} from '../lib/cli/source.ts'
import type {Configuration} from '../lib/document/oci.ts'
import {UsageError} from '../lib/errors.ts'

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
  ...OUTPUT,
} as const

type Given = Values<typeof options>

export default command(
  {
    name: 'limit',
    summary: 'limit what a container, or any process, uses: memory, CPU, processes',
    usage: '[OPTIONS] [PID|NAME...]',
    description: [
      'In a pipe it adds limits to the document, and enter makes a cgroup with them. With a PID, or the NAME of a cgroup that enter made, it acts at once: a process that has no cgroup of its own gets one, with those that it started. Without options it shows limits and use.',
      'The value max lifts a limit. Several limits are set all or none.',
    ],
    options,
    examples: [
      [
        'hew mkroot | hew limit --memory 80M --cpu 5% --pids 3 | hew enter',
        'a shell that cannot hurt the machine',
      ],
      ['hew limit --cpu 50% 1234', 'a process that runs already, with its children'],
      ['hew limit 1234', 'what it may use, and what it does'],
    ],
    run: ({options: given, operands}) => {
      const wishes = wishesOf(given)
      if (operands.length > 0) return running(operands, wishes, given)
      const {configuration, root} = source(undefined)
      const document = limited(configuration, wishes)
      const text = limitsText(document.linux?.resources ?? {})
      write(1, describe(document, [['root', root], ...text], given))
    },
  },
  import.meta,
)

function running(words: string[], wishes: Wishes | undefined, given: Given): void {
  const targets = words.map(targetOf)
  if (wishes) for (const target of targets) limitRunning(target, wishes)
  if (!given.quiet) write(1, targets.map(target => useText(target, given.json)).join(given.json ? '' : '\n'))
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
