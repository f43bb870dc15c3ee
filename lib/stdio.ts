import * as fs from 'node:fs'

/*
 * Where commands read and write: the process's own stdin and stdout, or in `hew -c` their neighbours' in memory. The commands of
 * such a pipe run one after the other, so there is one pair of ends at a time.
 */

interface Ends {
  /** What the command before has printed, and nobody has read yet; undefined: the process's own stdin. */
  input: Buffer | undefined
  /** What is printed for the command behind; undefined: the process's own stdout. */
  output: Buffer[] | undefined
}

let ends: Ends = {input: undefined, output: undefined}

/** The ends of the command that runs. */
export const connected = (): Ends => ends

/** Connects the command that runs from now on. */
export function connect(input: Buffer | undefined, output: Buffer[] | undefined): void {
  ends = {input, output}
}

/** True where stdin is a pipe. */
export function readsPipe(): boolean {
  return ends.input !== undefined || fs.fstatSync(0).isFIFO()
}

/** /dev/null of <linux/major.h>, as makedev(3) encodes it. */
const NULL_DEVICE = 0x103

/** True where stdin is /dev/null, as scripts and services have it. */
export function isNull(): boolean {
  if (ends.input) return false
  const file = fs.fstatSync(0)
  return file.isCharacterDevice() && file.rdev === NULL_DEVICE
}

/** The command is at its end, with this exit status: lib/cli/main.ts goes on. */
export class Ended extends Error {
  constructor(readonly status: number) {
    super(`ended with ${status}`)
  }
}

/** Ends the command, and not more than that. */
export function end(status: number): never {
  throw new Ended(status)
}
