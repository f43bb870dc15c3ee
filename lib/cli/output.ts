import * as fs from 'node:fs'
import type {Configuration} from '../document/oci.ts'
import {HewError, reason} from '../errors.ts'
import {pause} from '../pause.ts'
import {visible} from '../shell.ts'
import {connected} from '../stdio.ts'
import {wrap} from './help.ts'

/** The majors of Linux' terminals: consoles, /dev/tty, serial lines, ptys (Documentation/admin-guide/devices.txt). */
const TERMINALS = [4, 5, 204, 229, ...Array.from({length: 8}, (_, i) => 136 + i)]

/** isatty(3) for a few microseconds: node:tty takes 2 ms to load. */
export function isTerminal(fd: number): boolean {
  const {input, output} = connected()
  if ((fd === 0 && input) || (fd === 1 && output)) return false
  try {
    const file = fs.fstatSync(fd)
    return file.isCharacterDevice() && TERMINALS.includes(major(file.rdev))
  } catch {
    return false
  }
}

/** makedev(3)'s encoding. */
function major(rdev: number): number {
  return (rdev >>> 8) & 0xfff
}

/** Who reads stdout. */
export interface Reader {
  json: boolean
  quiet: boolean
}

/** Rows that people copy: a terminal breaks them, and takes them back in one piece. */
const COPIED = ['root', 'next']

/** What a command prints about a document: a summary for a person (only then is it made), the document for the next command. */
export function describe(
  configuration: Configuration,
  summary: () => [term: string, text: string][],
  {json, quiet}: Reader,
): string {
  if (quiet) return `${configuration.root?.path}\n`
  if (json || !isTerminal(1)) return `${JSON.stringify(configuration)}\n`
  const rows = summary()
  const width = Math.max(...rows.map(([term]) => term.length))
  const indent = ' '.repeat(width + 2)
  const broken = (term: string, text: string): string =>
    COPIED.includes(term) ? text : wrap(text, indent).trimStart()
  return rows.map(([term, text]) => `${term.padEnd(width)}  ${broken(term, visible(text))}\n`).join('')
}

const STREAMS = ['stdin', 'stdout', 'stderr']

/** The other end of the pipe is closed. */
export class NobodyReads extends HewError {}

/**
 * Writes all of a text, whatever a pipe takes at once.
 * @throws NobodyReads; HewError the disk is full
 */
export function write(fd: number, text: string | Uint8Array): void {
  let rest = Buffer.from(text as Uint8Array)
  const {output} = connected()
  if (fd === 1 && output) {
    output.push(rest)
    return
  }
  while (rest.length > 0) {
    try {
      rest = rest.subarray(fs.writeSync(fd, rest))
    } catch (error) {
      const {code} = error as NodeJS.ErrnoException
      if (code === 'EPIPE')
        throw new NobodyReads('nobody reads what comes out of the pipe: the next command has ended')
      if (code !== 'EAGAIN') throw new HewError(`cannot write to ${STREAMS[fd] ?? fd}: ${reason(error)}`)
      pause(2)
    }
  }
}
