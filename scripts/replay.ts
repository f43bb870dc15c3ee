import * as path from 'node:path'
import {command} from '../lib/cli/command.ts'
import {UsageError} from '../lib/errors.ts'
import {callersFileLimit} from '../lib/launch.ts'
import {program} from '../lib/stage.ts'

// The launcher recognises `hew replay PLAN` and does it without Node (lib/stage/replay.c): what comes here is the help, or hew
// under a name of somebody's own.
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
    options: {},
    stopEarly: true,
    examples: [
      ['hew enter -r /my-new-root --plan box.plan -- true', 'plan it once'],
      ['hew replay box.plan', 'run it'],
      ['hew replay box.plan -- ls -l /', 'the same container, another command'],
    ],
    run: ({operands: [plan, ...rest]}) => {
      if (plan === undefined) throw new UsageError("no plan: 'hew enter --plan FILE ...' writes one")
      const limit = callersFileLimit === undefined ? {} : {HEW_LAUNCH: `nofile=${callersFileLimit}`}
      process.execve!(program(), ['replay', path.resolve(plan), ...rest], limit)
    },
  },
  import.meta,
)
