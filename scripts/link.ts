import * as fs from 'node:fs'
import * as path from 'node:path'
import {command} from '../lib/cli/command.ts'
import {write} from '../lib/cli/output.ts'
import {HewError, reason, UsageError} from '../lib/errors.ts'
import {packaged} from '../lib/launch.ts'

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
    options: {},
    examples: [['hew link /usr/local/bin', 'then: mkroot | enter']],
    run: ({operands: [directory, ...more]}) => {
      if (directory === undefined || more.length > 0) throw new UsageError('one DIR is needed: hew link DIR')
      if (!packaged) throw new HewError('only the built binary can be linked to: dist/hew link DIR')
      link(path.resolve(directory), process.execPath)
    },
  },
  import.meta,
)

function link(directory: string, binary: string): void {
  if (!fs.statSync(directory, {throwIfNoEntry: false})?.isDirectory())
    throw new HewError(`${directory} is not a directory: make it first, with 'mkdir -p ${directory}'`)
  const paths = LINKS.map(name => path.join(directory, name))
  const taken = paths.filter(at => fs.lstatSync(at, {throwIfNoEntry: false}) && !isLinkTo(at, binary))
  if (taken.length > 0)
    throw new HewError(
      `not overwritten, and no link made: ${taken.join(', ')} ${taken.length > 1 ? 'are' : 'is'} there already`,
    )
  const made: string[] = []
  try {
    for (const at of paths) {
      if (isLinkTo(at, binary)) continue
      fs.symlinkSync(binary, at)
      made.push(at)
    }
  } catch (error) {
    for (const at of made) fs.rmSync(at, {force: true})
    throw new HewError(`no links can be made in ${directory}: ${reason(error)}`)
  }
  write(1, paths.map(at => `${at} -> ${binary}\n`).join(''))
}

function isLinkTo(at: string, binary: string): boolean {
  try {
    return fs.readlinkSync(at) === binary
  } catch {
    return false
  }
}
