import type {Act} from '../lib/act.ts'
import {CHANGES, command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {write} from '../lib/cli/output.ts'
import {counted, done, type Given} from '../lib/cli/perform.ts'
import {stateDirectory} from '../lib/containers/directory.ts'
import {rootOf} from '../lib/containers/remove.ts'
import {containers} from '../lib/containers/state.ts'
import {stale} from '../lib/containers/sweep.ts'
import {HewError, UsageError} from '../lib/errors.ts'

export default command(
  {
    name: 'rm',
    summary: 'remove containers: state, cgroup, log, and the root if asked to',
    usage: '[-f] [--root] NAME|PID... | --stale',
    description: [
      'Removes what is kept of containers that have ended: state and log, and what is left of their cgroups. One that runs is refused without --force.',
      '--root removes the root directory as well, if mkroot made it, and nothing else: never what is mounted in it, never through a link. What must stay is named, and then the state stays, too.',
      'A container whose supervisor was killed needs no rm: every command that asks for containers cleans up after those. --stale does only that, and says what it found.',
    ],
    options: {
      force: {
        short: 'f',
        help: 'one that runs is killed first, with all of its processes; a broken state goes, too',
      },
      root: {help: 'the root directory goes, too'},
      stale: {help: 'clean up after containers that died, and say which'},
      ...CHANGES,
    },
    examples: [
      ['hew rm web', 'web has ended'],
      ['hew rm -f --root web', 'it runs: nothing is left of it'],
    ],
    run: async ({options: {force, root, stale: dead, ...given}, operands}) => {
      if (dead) return cleanUp(operands, given)
      const broken = force ? brokenAmong(operands) : []
      const names = operands.filter(word => !broken.includes(word))
      const all = names.length === 0 && broken.length > 0 ? [] : named(names)
      const others = root ? containers().containers.filter(({id}) => !all.some(one => one.id === id)) : []
      const targets = all.map(container => ({container, made: root ? rootOf(container, others) : undefined}))
      for (const {id, life} of all) if (!force) hasEnded(id, life)
      const as = 'hew rm'
      const alive = all.filter(({life}) => life === 'alive')
      const acts: Act[] = [
        ...broken.map(id => ({do: 'discard', states: stateDirectory(), id}) as const),
        // All of them before the first root goes: they may share it.
        ...(alive.length > 0 ? [{do: 'end-now', containers: alive, as} as const] : []),
        ...targets.map(target => ({do: 'remove-container', ...target, as}) as const),
      ]
      await done(acts, ['hew rm', ...broken, ...all.map(({id}) => id)].join(' '), given)
    },
  },
  import.meta,
)

function hasEnded(id: string, life: string): void {
  if (life === 'alive') throw new HewError(`${id} runs: end it with 'hew kill ${id}', or say -f`)
  if (life === 'foreign')
    throw new HewError(
      `${id} is a container of another PID namespace, and may run: -f removes its state alone`,
    )
}

function brokenAmong(words: string[]): string[] {
  const {broken} = containers()
  return broken.map(({id}) => id).filter(id => words.includes(id))
}

async function cleanUp(operands: string[], given: Given): Promise<void> {
  if (operands.length > 0) throw new UsageError('--stale finds by itself what has died: name none')
  const acts = stale().map(one => ({do: 'sweep', ...one}) as const)
  const swept = (await counted(acts, 'hew rm --stale', given))?.swept ?? []
  write(1, swept.map(({id, left}) => `${left.length > 0 ? 'not removed' : 'removed'} ${id}\n`).join(''))
  const left = swept.flatMap(({id, left}) => left.map(why => `${id}: ${why}`))
  if (left.length > 0) throw new HewError(left)
}
