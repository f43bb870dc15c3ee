import * as fs from 'node:fs'
import * as path from 'node:path'
import {caller, configurationFor} from '../document/defaults.ts'
import {type Configuration, type Finding, validate} from '../document/oci.ts'
import {NoDocument, readDocument} from '../document/read.ts'
import {HewError, reason, UsageError} from '../errors.ts'
import {typable} from '../shell.ts'
import {isNull} from '../stdio.ts'
import {MARKER} from '../steps/files.ts'
import {Sysroot} from '../sysroot.ts'
import {isTerminal} from './output.ts'

/** The document that a command works on, and where it came from. */
export interface Source {
  configuration: Configuration
  /** The root's absolute path, through no link. */
  root: string
  /** The document came through the pipe; else the root was named. */
  piped: boolean
  /** Fields of the document that hew does not honour. */
  passedOver: Finding[]
}

/**
 * The document in the pipe, or, for a root that is named, the default one.
 * @param named the operand or option that names a root: then nothing is read
 * @param as the command with its operands, in which a root may be that was meant
 * @throws HewError no document, one that hew must refuse, or no such root
 */
export function source(named: string | undefined, as: string[] = []): Source {
  if (named !== undefined) {
    const root = rootDirectory(named)
    return {configuration: configurationFor(root, caller()), root, piped: false, passedOver: []}
  }
  try {
    return sourceOf(piped())
  } catch (error) {
    const nothing = error instanceof UsageError || error instanceof NoDocument
    const meant = nothing ? as.slice(1).find(isDirectory) : undefined
    if (meant === undefined) throw error
    const line = [as[0]!, '-r', meant, ...as.slice(1).filter(word => word !== meant)].map(typable).join(' ')
    throw new UsageError(`${meant} is a directory: a root is named with -r, as in 'hew ${line}'`)
  }
}

function isDirectory(word: string): boolean {
  return fs.statSync(word, {throwIfNoEntry: false})?.isDirectory() ?? false
}

/**
 * The document in the pipe, whatever it is of.
 * @param instead what to do where nothing is piped in
 * @throws HewError there is none
 */
export function piped(
  instead = "no root: name it with -r ROOT, or pipe one in, as in 'hew mkroot | ...'",
): unknown {
  if (isTerminal(0) || isNull()) throw new UsageError(instead)
  return readDocument(0)
}

/**
 * A configuration as it came through the pipe.
 * @throws HewError it is none, one that hew must refuse, or there is no such root
 */
export function sourceOf(document: unknown): Source {
  const {configuration, passedOver, refused} = validate(document)
  if (refused.length > 0) throw new HewError(refused.map(({field, why}) => `refused: ${field}: ${why}`))
  if (!configuration.root)
    throw new HewError('the document has no root: it comes from mkroot, or from runc spec')
  return {configuration, root: rootDirectory(configuration.root.path), piped: true, passedOver}
}

/**
 * The absolute path of a root, through no link.
 * @throws HewError it is not there, no directory, or not finished
 */
function rootDirectory(named: string): string {
  if (named === '')
    throw new HewError("the document's root.path is empty: it comes from mkroot, or from runc spec")
  const given = path.resolve(named)
  let real: string
  try {
    real = fs.realpathSync.native(given)
    if (!fs.statSync(real).isDirectory()) throw new HewError(`the root ${given} is a file and no directory`)
    fs.accessSync(real, fs.constants.X_OK)
  } catch (error) {
    if (error instanceof HewError) throw error
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new HewError(`there is no root ${given}: make it with 'hew mkroot ${typable(given)}'`)
    throw new HewError(`the root ${given} cannot be entered: ${reason(error)}`)
  }
  if (new Sysroot(real).lstat(`/${MARKER}`).kind !== 'missing')
    throw new HewError(
      `the root ${given} is unfinished, mkroot was cut off: run 'hew mkroot ${typable(given)}' again`,
    )
  return real
}
