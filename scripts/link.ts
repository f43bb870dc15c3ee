import * as fs from 'node:fs'
import * as path from 'node:path'
import {CHANGES, command} from '../lib/cli/command.ts'
import {dryRun, explained} from '../lib/cli/perform.ts'
import {HewError, UsageError} from '../lib/errors.ts'
import {packaged} from '../lib/launch.ts'
import {typable} from '../lib/shell.ts'
import {become} from '../lib/stage.ts'
import type {Plan} from '../lib/step.ts'

/** The commands that get a link; others are reached as `hew NAME`, since systems have programs of these names. */
export const LINKS = ['mkroot', 'copy-deps', 'cgroup-init', 'limit', 'enter']

export default command(
  {
    name: 'link',
    summary: 'make links named after the commands, so that `mkroot | enter` works as it stands',
    usage: 'DIR',
    description: [
      `Makes symbolic links in DIR (for example /usr/local/bin) from ${LINKS.join(', ')} to this binary, which answers to the name that it is called by.`,
      'Nothing is overwritten: when one of the names is taken, no link is made.',
    ],
    options: CHANGES,
    examples: [['hew link /usr/local/bin', 'then: mkroot | enter']],
    run: async ({options: given, operands: [directory, ...more]}) => {
      if (directory === undefined || more.length > 0) throw new UsageError('one DIR is needed: hew link DIR')
      if (!packaged) throw new HewError('only the built binary can be linked to: dist/hew link DIR')
      const at = path.resolve(directory)
      const plan = linkPlan(at, process.execPath)
      if (await dryRun(plan, () => `hew link ${typable(at)}`, given)) return
      become(plan, {as: 'hew link', title: `link ${at}`, explain: explained(given)})
    },
  },
  import.meta,
)

function linkPlan(directory: string, binary: string): Plan {
  const found = fs.statSync(directory, {throwIfNoEntry: false})
  if (!found)
    throw new HewError(
      `there is no directory ${directory}: make it first, with 'mkdir -p ${typable(directory)}'`,
    )
  if (!found.isDirectory()) throw new HewError(`${directory} is not a directory`)
  const paths = LINKS.map(name => path.join(directory, name))
  const taken = paths.filter(at => fs.lstatSync(at, {throwIfNoEntry: false}) && !isLinkTo(at, binary))
  if (taken.length > 0)
    throw new HewError(
      `not overwritten, and no link made: ${taken.join(', ')} ${taken.length > 1 ? 'are' : 'is'} there already`,
    )
  return [
    {do: 'begin'},
    {do: 'root', path: directory},
    ...LINKS.map(
      name =>
        ({
          do: 'symlink',
          target: binary,
          path: `/${name}`,
          why: 'Commands by their own names. ln(1)',
        }) as const,
    ),
    {do: 'print', text: paths.map(at => `${at} -> ${binary}\n`).join(''), why: 'What was made'},
    {do: 'keep'},
  ]
}

function isLinkTo(at: string, binary: string): boolean {
  try {
    return fs.readlinkSync(at) === binary
  } catch {
    return false
  }
}
