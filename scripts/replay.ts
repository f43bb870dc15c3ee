import * as path from 'node:path'
import {CHANGES, command} from '../lib/cli/command.ts'
import {dryRun, explained, type Given} from '../lib/cli/perform.ts'
import {fileLimit} from '../lib/container/plan.ts'
import {UsageError} from '../lib/errors.ts'
import {callersFileLimit} from '../lib/launch.ts'
import {typable} from '../lib/shell.ts'
import {become, carryOut, program} from '../lib/stage.ts'
import {end} from '../lib/stdio.ts'

// The launcher recognises `hew replay PLAN` and does it without Node (lib/stage/replay.c): what comes here is an option, HEW_EXPLAIN,
// or hew under a name of somebody's own.
export default command(
  {
    name: 'replay',
    summary: 'run a container again by a plan that enter has kept, in a tenth of the time',
    usage: 'PLAN [[--] COMMAND [ARG...]]',
    description: [
      'Does the steps that `hew enter --plan PLAN ...` has written down, without planning anything: a container with a name, a cgroup, limits, a verdict and an end of its own each time, as many at once as one likes. COMMAND and its arguments take the place of those in the plan.',
      'From the plan come the root, mounts, namespaces, ids, capabilities, limits, environment, working directory and umask; from the caller the terminal, the descriptors 0 to 2 and the limit of open files. It is refused where it would mean something else by now: with another hew, after a boot, for another user, in other namespaces or another cgroup, when the root is another directory or unfinished, and when /etc/passwd or /etc/group in the root have changed and --user asked them. So is a file that others can write to.',
      'Exit status: as of enter; 125 also when the plan is refused.',
    ],
    options: CHANGES,
    stopEarly: true,
    examples: [
      ['hew enter -r /my-new-root --plan box.plan -- true', 'plan it once'],
      ['hew replay box.plan', 'run it'],
      ['hew replay box.plan -- ls -l /', 'the same container, another command'],
      ['hew replay --dry-run box.plan', 'all that it would do, as lines of a shell'],
    ],
    run: async ({options: given, operands: [word, ...rest]}) => {
      if (word === undefined) throw new UsageError("no plan: 'hew enter --plan FILE ...' writes one")
      const file = path.resolve(word)
      if (given['dry-run'] || explained(given))
        return said(file, rest[0] === '--' ? rest.slice(1) : rest, given)
      const limit = callersFileLimit === undefined ? {} : {HEW_LAUNCH: `nofile=${callersFileLimit}`}
      process.execve!(program(), ['replay', file, ...rest], limit)
    },
  },
  import.meta,
)

const AS = 'hew replay'

/** What the stage does alone, from the same plan: as a script, or with each step said. */
async function said(file: string, command: string[], given: Given): Promise<void> {
  const title = `replay ${file}`
  const status = carryOut([{do: 'plan-holds', file}], {as: AS, title})
  if (status !== 0) return end(status)
  const {planIn} = await import('../lib/container/replay.ts')
  const plan = planIn(file, command)
  if (given['dry-run']) {
    const {printable} = await import('../lib/container/located.ts')
    await dryRun(printable(plan), () => `hew replay ${typable(file)}`, given)
    return
  }
  const executed = plan.flatMap(step => (step.do === 'exec' ? step.command : []))
  become([...fileLimit(callersFileLimit), {do: 'replayed', command: executed}, ...plan], {
    as: AS,
    title,
    explain: true,
  })
}
