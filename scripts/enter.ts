import * as fs from 'node:fs'
import * as path from 'node:path'
import {hierarchies} from '../lib/cgroups/hierarchies.ts'
import {cgroupName, cgroupPlan} from '../lib/cgroups/plan.ts'
import {size} from '../lib/cgroups/values.ts'
import {CHANGES, command} from '../lib/cli/command.ts'
import {list, type Values} from '../lib/cli/options.ts'
import {isTerminal, write} from '../lib/cli/output.ts'
import {dryRun, explained} from '../lib/cli/perform.ts'
import {type Source, source} from '../lib/cli/source.ts'
import {type Machine, machine} from '../lib/container/machine.ts'
import {byHandPlan, containerPlan, type Run, removable} from '../lib/container/plan.ts'
import {idMappings, userOf} from '../lib/container/users.ts'
import {type Claim, checkId, claim, claimStep, idFor, release, withAbove} from '../lib/containers/claim.ts'
import {ownIdentity} from '../lib/containers/process.ts'
import {
  type Adjustments,
  adjust,
  bindMount,
  byHand,
  namespaceTypes,
  tmpfsMount,
} from '../lib/document/adjust.ts'
import {PATH} from '../lib/document/defaults.ts'
import type {Configuration} from '../lib/document/oci.ts'
import {HewError, UsageError} from '../lib/errors.ts'
import {callersFileLimit, packaged, VERDICT_FD} from '../lib/launch.ts'
import {type ExecProblem, explainExec} from '../lib/programs/explain.ts'
import {execProblemText} from '../lib/programs/problem.ts'
import {removeRoot} from '../lib/root/remove.ts'
import {typable} from '../lib/shell.ts'
import {become} from '../lib/stage.ts'
import {Ended} from '../lib/stdio.ts'
import type {Plan} from '../lib/step.ts'
import {Sysroot} from '../lib/sysroot.ts'

const options = {
  name: {value: 'ID', help: "what the container is called (default: the root's name)"},
  detach: {
    short: 'd',
    help: "in the background: prints the state as JSON once the command runs; what that writes goes to a log ('hew logs')",
  },
  'log-size': {
    value: 'SIZE',
    help: 'of --detach: when the log is begun anew, and the old one kept beside it (default 1M; max: never)',
  },
  target: {
    short: 't',
    value: 'NAME|PID',
    help: 'join this container, or any process of the machine: its namespaces, cgroup and root',
  },
  root: {short: 'r', value: 'ROOT', help: 'the root to enter; without it a document is read from the pipe'},
  bind: {
    short: 'b',
    value: 'SRC:DST[:ro]',
    many: true,
    help: 'a file or directory of the machine appears inside',
  },
  tmpfs: {value: 'DST[:SIZE]', many: true, help: 'a file system in memory, for example /scratch:64m'},
  'read-only': {help: 'nothing in the root can be changed'},
  env: {
    short: 'e',
    value: 'K=V',
    many: true,
    help: 'a variable of the environment; K alone takes over its value',
  },
  workdir: {short: 'w', value: 'DIR', help: 'the directory to start in (default /)'},
  user: {
    short: 'u',
    value: 'USER[:GROUP]',
    help: "who the command runs as, by the root's /etc/passwd or by id",
  },
  map: {
    value: 'WHO',
    choices: ['self', 'auto', 'all'],
    help: 'which ids exist inside: root alone, who is the caller outside (self); a range of subordinate ids beside it (auto); all of the machine (all; root only)',
  },
  share: {
    value: 'NAME,...',
    many: true,
    help: 'namespaces to share with the machine: mount uts ipc net pid cgroup user',
  },
  net: {
    value: 'MODE',
    choices: ['none', 'host'],
    help: "none: only loopback (default); host: the machine's network",
  },
  time: {help: 'a time namespace of its own, too'},
  hostname: {value: 'NAME', help: "the name inside (default: the root's)"},
  'cap-add': {value: 'CAP,...', many: true, help: "capabilities beyond Docker's default set; ALL for all"},
  'cap-drop': {value: 'CAP,...', many: true, help: 'capabilities to take away; ALL for all'},
  init: {help: 'a small init as PID 1, which reaps orphans'},
  'die-with-parent': {help: 'the container ends when the process that called hew ends'},
  verdict: {
    value: 'FILE|FD',
    help: 'how it ended goes there as JSON: status, what limits did, memory, CPU time',
  },
  plan: {
    value: 'FILE',
    help: "start nothing: write all that would be done to this new file, for 'hew replay FILE'",
  },
  explain: CHANGES.explain,
  'dry-run': CHANGES['dry-run'],
  'by-hand': {
    help: 'only what the line `unshare ... chroot ROOT bash` of the lesson does: nothing mounted, all capabilities',
  },
} as const

type Given = Values<typeof options>

export default command(
  {
    name: 'enter',
    summary: 'run a command, or a shell, in a container made of a root',
    usage: '[-r ROOT] [OPTIONS] [COMMAND [ARG...]]',
    description: [
      "Makes new mount, uts, ipc, net, pid, cgroup and user namespaces, puts the root in place of the machine's own, and runs COMMAND in it as PID 1; without one, the root's bash, else its sh. Root inside is the caller outside.",
      "Exit status: the command's own; 128+n when signal n killed it; 125 when hew failed, 126 when the command cannot be executed, 127 when it is not there, 2 for a wrong command line.",
    ],
    options,
    stopEarly: true,
    examples: [
      ['hew mkroot | hew enter', 'a shell in a fresh root'],
      ['hew enter -r /my-new-root -- ls -l /', 'one command in a root that is there already'],
      ['hew enter -d --name web -r /my-new-root sleep 60', 'in the background, with a name'],
      ['hew enter -t web', 'a shell in a container that runs'],
      [
        'hew enter -r /my-new-root --plan box.plan -- true; hew replay box.plan',
        'planned once, run many times',
      ],
      ['hew enter -r / --read-only --bind /src:/src:ro make -C /src', "the machine's own root, read-only"],
    ],
    run: async ({options: given, operands}) => {
      if (given.target !== undefined) return join(given.target, given, operands)
      if (given['by-hand']) nothingElse(given)
      if (given['dry-run']) onlyShell(given)
      if (given.name !== undefined) checkId(given.name)
      if (given.detach && given['die-with-parent'])
        throw new UsageError(
          '--detach lets the container outlive the process that called hew: leave --die-with-parent out',
        )
      const logSize = logSizeOf(given)
      const from = source(given.root, ['enter', ...operands])
      try {
        await enter(given, operands, from, logSize)
      } catch (error) {
        if (!given['dry-run'] && !(error instanceof Ended)) removeUnentered(from)
        throw error
      }
    },
  },
  import.meta,
)

async function enter(
  given: Given,
  operands: string[],
  from: Source,
  logSize: number | undefined,
): Promise<void> {
  for (const {field, why} of from.passedOver) notHonoured(field, why)
  const here = machine()
  const asked = adjust(from.configuration, adjustments(given, operands, new Sysroot(from.root), here))
  const document = entered(given['by-hand'] ? byHand(asked, here, callersEnvironment()) : asked, from.root)
  const claimed =
    given['dry-run'] || given.plan !== undefined ? undefined : claimFor(given, from.root, document)
  try {
    const limits = limitSteps(document, claimed?.id ?? given.name ?? cgroupName(from.root), given, here)
    const run: Run = {
      root: from.root,
      command: document.process?.args ?? [],
      fileLimit: given.plan === undefined ? callersFileLimit : undefined,
      umask: process.umask(),
      init: given.init,
      dieWithParent: given['die-with-parent'] ? (given.plan === undefined ? process.ppid : 0) : undefined,
      terminal: given['dry-run'] ? 'none' : terminalFor(given, from),
      state: stateFor(given, from.root, document, claimed, limits, logSize),
      limits,
    }
    const {plan, passedOver} = given['by-hand']
      ? {plan: byHandPlan(run, here, document.process?.env ?? []), passedOver: []}
      : containerPlan(document, run, here)
    for (const {field, why} of passedOver) notHonoured(field, why)
    const title = `enter ${from.root}`
    if (given['dry-run']) return await dry(plan, from.root, given)
    become(given.plan === undefined ? plan : await keptAs(given.plan, plan, document, given, from, here), {
      as: 'hew enter',
      title,
      explain: explained(given),
    })
  } catch (error) {
    if (claimed && !(error instanceof Ended)) release(claimed)
    throw error
  }
}

/** The document as it is run: with the command that was found, and the umask that is in force. */
function entered(document: Configuration, root: string): Configuration {
  const {process: described, ...rest} = document
  const user = described?.user ?? {uid: 0, gid: 0}
  return {
    ...rest,
    process: {
      cwd: '/',
      ...described,
      args: runnable(document, root),
      user: {...user, umask: user.umask ?? process.umask()},
    },
  }
}

/** A name of its own; a container that nobody has named, and whose state cannot be written anywhere, goes without. */
function claimFor(given: Given, root: string, document: Configuration): Claim | undefined {
  try {
    return claim(given.name, root, document, {detached: given.detach})
  } catch (error) {
    nameless(given, error)
    return undefined
  }
}

function nameless(given: Given, error: unknown): [] {
  if (given.name !== undefined || given.detach || !(error instanceof HewError)) throw error
  return []
}

/** With --plan the terminal is that of whoever replays, whose stdin no document has used up. */
function terminalFor(given: Given, from: Source): Run['terminal'] {
  if (given.detach) return 'none'
  return given.plan === undefined && from.piped && isTerminal(1) ? 'take' : 'keep'
}

/** The finished plan as a step that writes it down. */
async function keptAs(
  file: string,
  plan: Plan,
  document: Configuration,
  given: Given,
  {root}: Source,
  here: Machine,
): Promise<Plan> {
  if (removable(document))
    throw new HewError(
      `the root ${root} goes when its container has ended (mkroot --rm): no plan can be replayed with it`,
    )
  const {factsOf, kept} = await import('../lib/container/replay.ts')
  return kept(plan, file, factsOf(document, root, here, given.user !== undefined))
}

/** @param limits the steps of its cgroup; @param limit of its log, for a container in the background */
function stateFor(
  given: Given,
  root: string,
  document: Configuration,
  claimed: Claim | undefined,
  limits: Plan,
  limit: number | undefined,
): Plan {
  const above = limits.flatMap(step => (step.do === 'cgroup' ? step.above.map(({path}) => path) : []))
  if (given['dry-run']) return given.detach ? [{do: 'detach', id: given.name ?? idFor(root)}] : []
  if (given.plan === undefined) return claimed ? stateSteps(claimed, above, limit) : []
  try {
    const claim = claimStep(given.name, root, document, {detached: given.detach, above})
    if (limit === undefined) return [claim]
    return [{do: 'detach', id: given.name ?? idFor(root)}, claim, {do: 'log', directory: '', limit}]
  } catch (error) {
    return nameless(given, error)
  }
}

/** @param above where its cgroups are made; @param limit of its log, for a container in the background */
function stateSteps(claim: Claim, above: string[], limit: number | undefined): Plan {
  const {id, directory} = claim
  const {namespace, boot} = ownIdentity()
  const state = {
    do: 'state',
    directory,
    head: withAbove(claim, above),
    where: `${namespace} ${boot}`,
    keep: limit !== undefined,
  } as const
  return limit === undefined ? [state] : [{do: 'detach', id}, state, {do: 'log', directory, limit}]
}

const LOG_SIZE = '1M'

/** @returns undefined without --detach */
function logSizeOf(given: Given): number | undefined {
  const word = given['log-size']
  if (!given.detach) {
    if (word === undefined) return undefined
    throw new UsageError('--log-size is of the log that --detach writes')
  }
  const bytes = size('--log-size', word ?? LOG_SIZE) ?? Number.MAX_SAFE_INTEGER
  if (bytes === 0) throw new UsageError('--log-size 0: a log of 0 bytes holds nothing')
  return bytes
}

/** The plan as a script. */
async function dry(plan: Plan, root: string, given: Given): Promise<void> {
  const {printable} = await import('../lib/container/located.ts')
  await dryRun(
    printable(plan),
    () => `hew enter ${given['by-hand'] ? '--by-hand ' : ''}-r ${typable(root)}`,
    given,
  )
}

/** What a shell cannot do, or the one line of the lesson has no place for. */
function onlyShell(given: Given): void {
  const names = ['plan', ...(given['by-hand'] ? (['init', 'name'] as const) : [])] as const
  const more = names.find(name => given[name])
  if (more) throw new UsageError(`--dry-run: a script has no --${more}: leave it out`)
  if (/^\d\d+$/.test(given.verdict ?? ''))
    throw new UsageError(`--dry-run: in a script a descriptor has one digit: not --verdict ${given.verdict}`)
}

const WITH_TARGET = ['target', 'env', 'workdir', 'user', 'explain', 'dry-run', 'help']

/** A command in a container that runs, or beside any other process, as nsenter(1) has it. */
async function join(word: string, given: Given, operands: string[]): Promise<void> {
  const other = others(given, WITH_TARGET)
  if (other !== undefined) throw new UsageError(`--target joins what is there already: leave --${other} out`)
  const {joinedBy, joinPlan, rootOf, seen} = await import('../lib/container/join.ts')
  const joined = joinedBy(word)
  const root = new Sysroot(rootOf(joined))
  const change = adjustments(given, operands, root, machine())
  const document = joined.container && adjust(joined.container.document, change)
  const environment = document?.process?.env ?? [...callersEnvironment(), ...change.environment]
  const plan = joinPlan(joined, {
    ...change,
    document,
    environment,
    command: operands.length > 0 ? operands : [shellIn(root.root, environment)],
    fileLimit: callersFileLimit,
    umask: process.umask(),
  })
  const title = `enter -t ${word}`
  if (given['dry-run']) {
    const printed = seen(plan, joined, process.getuid!())
    const {needsSetpriv} = await import('../lib/container/located.ts')
    needsSetpriv(printed, root.root)
    await dryRun(printed, () => `hew ${title}`, given)
    return
  }
  become(plan, {as: 'hew enter', title, explain: explained(given)})
}

/** bash where it can be executed, else sh. */
function shellIn(root: string, environment: string[]): string {
  const path = environment.findLast(entry => entry.startsWith('PATH='))?.slice('PATH='.length) ?? PATH
  return explainExec('bash', {sysroot: root, path}) ? 'sh' : 'bash'
}

/** An option that was given, and is none of these. */
function others(given: Given, own: string[]): string | undefined {
  return Object.entries(given).find(([name, value]) => !own.includes(name) && isGiven(value))?.[0]
}

/** --by-hand is one line of the lesson, and that has no other options. */
function nothingElse(given: Given): void {
  const own = [
    'name',
    'detach',
    'log-size',
    'root',
    'by-hand',
    'init',
    'die-with-parent',
    'verdict',
    'explain',
    'dry-run',
    'help',
  ]
  const other = others(given, own)
  if (other !== undefined)
    throw new UsageError(`--by-hand does only what the line of the lesson does: leave --${other} out`)
}

function isGiven(value: string | string[] | boolean | undefined): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false
}

/** A root of mkroot --rm that no container came to use: nobody else will ever remove it. */
function removeUnentered({configuration, root}: Source): void {
  const made = removable(configuration)
  if (made) removeRoot(root, made, 'hew enter')
}

/** The cgroup of the container, called by its name, with its limits. */
function limitSteps(document: Configuration, name: string, given: Given, here: Machine): Plan {
  const {verdict} = given
  const steps = cgroupPlan(
    document.linux?.resources ?? {},
    name,
    hierarchies(here.mounts),
    verdict !== undefined,
  )
  if (verdict === undefined) return steps
  const paths = steps.flatMap(step => (step.do === 'cgroup-join' ? step.paths : []))
  const to = verdictTo(verdict, given.plan !== undefined || given['dry-run'])
  return [...steps, {do: 'verdict', to, paths}]
}

function verdictTo(word: string, later: boolean): string | number {
  if (!/^\d+$/.test(word)) return path.resolve(word)
  if (later) return Number(word)
  const fd = packaged ? VERDICT_FD : Number(word)
  try {
    fs.fstatSync(fd)
  } catch {
    throw new UsageError(`--verdict ${word}: the descriptor ${word} is not open`)
  }
  return fd
}

function notHonoured(field: string, why: string): void {
  write(2, `hew enter: not honoured: ${field}: ${why}\n`)
}

function adjustments(given: Given, operands: string[], root: Sysroot, here: Machine): Adjustments {
  return {
    share: namespaceTypes([...given.share.flatMap(list), ...(given.net === 'host' ? ['net'] : [])]),
    time: given.time,
    map: idMappings(given.map, here),
    binds: [...given.bind.map(bindMount), ...given.tmpfs.map(tmpfsMount)],
    readOnly: given['read-only'],
    environment: given.env.flatMap(variable),
    workdir: given.workdir && absolute(given.workdir),
    user: given.user === undefined ? undefined : userOf(root, given.user),
    addCapabilities: given['cap-add'].flatMap(list),
    dropCapabilities: given['cap-drop'].flatMap(list),
    hostname: given.hostname === undefined ? undefined : hostname(given.hostname),
    args: operands.length > 0 ? operands : undefined,
  }
}

function hostname(name: string): string {
  if (name.length > 64)
    throw new UsageError(`--hostname: it has ${name.length} characters, and 64 at the most are possible`)
  return name
}

function absolute(directory: string): string {
  if (!directory.startsWith('/'))
    throw new UsageError(`--workdir ${directory}: it is an absolute path in the root`)
  return directory
}

/** `K=V` as it is; `K` alone with the caller's value, where there is one, as docker does. */
function variable(word: string): string[] {
  const name = word.split('=', 1)[0]!
  if (name === '') throw new UsageError(`--env ${word}: it is K=V`)
  if (word.includes('=')) return [word]
  if (/^(NODE|ZX|LD|UV|MALLOC|OPENSSL)_|^GLIBC_TUNABLES$/.test(name))
    throw new UsageError(
      `--env ${name}: hew itself does not see the caller's ${name}: write --env ${name}=VALUE`,
    )
  return process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`]
}

/** The caller's environment, for --by-hand; what the launcher took away stays away. */
function callersEnvironment(): string[] {
  return Object.entries(process.env).map(([name, value]) => `${name}=${value}`)
}

/**
 * The command, once it is sure that the root can execute it: execve(2) and the loader would only say that some file is
 * not there.
 * @throws HewError with the exit status 126 or 127
 */
function runnable(document: Configuration, root: string): string[] {
  const [name = 'sh', ...rest] = document.process?.args ?? []
  // `sh` alone is what hew's own documents have: a shell is wanted, and bash is the better one.
  const candidates = name === 'sh' && rest.length === 0 ? ['bash', 'sh'] : [name]
  const search = {sysroot: root, path: variableOf(document, 'PATH') ?? PATH}
  const problems: ExecProblem[] = []
  for (const candidate of candidates) {
    const problem = explainExec(candidate, search)
    if (!problem) return [candidate, ...rest]
    problems.push(problem)
  }
  // A bind mount may bring what the root does not have: the kernel will tell.
  if (document.mounts?.some(({type}) => type === 'bind')) return [name, ...rest]
  const {message, status} = execProblemText(problems[0]!, root, candidates[0]!)
  throw new HewError(message, status)
}

function variableOf(document: Configuration, name: string): string | undefined {
  return document.process?.env?.findLast(entry => entry.startsWith(`${name}=`))?.slice(name.length + 1)
}
