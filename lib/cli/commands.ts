import type {Command} from './command.ts'

/** Every command, by the name of its file, in the order of the lesson; only the one that is asked for is loaded. */
// biome-ignore lint/suspicious/noExplicitAny: each command has a table of its own type
const commands: Record<string, () => Promise<{default: Command<any>}>> = {
  check: () => import('../../scripts/check.ts'),
  mkroot: () => import('../../scripts/mkroot.ts'),
  'copy-deps': () => import('../../scripts/copy-deps.ts'),
  enter: () => import('../../scripts/enter.ts'),
  replay: () => import('../../scripts/replay.ts'),
  'cgroup-init': () => import('../../scripts/cgroup-init.ts'),
  limit: () => import('../../scripts/limit.ts'),
  ps: () => import('../../scripts/ps.ts'),
  kill: () => import('../../scripts/kill.ts'),
  freeze: () => import('../../scripts/freeze.ts'),
  thaw: () => import('../../scripts/thaw.ts'),
  wait: () => import('../../scripts/wait.ts'),
  logs: () => import('../../scripts/logs.ts'),
  rm: () => import('../../scripts/rm.ts'),
  link: () => import('../../scripts/link.ts'),
  completion: () => import('../../scripts/completion.ts'),
  demo: () => import('../../scripts/demo.ts'),
}

/** Their names, which links to the binary may have. */
export const names = Object.keys(commands)

/** A command by its name, or undefined. */
export async function load(name: string): Promise<Command | undefined> {
  return Object.hasOwn(commands, name) ? (await commands[name]!()).default : undefined
}

/** All of them: for what is said about hew as a whole. */
export async function loadAll(): Promise<Command[]> {
  return Promise.all(names.map(async name => (await load(name))!))
}
