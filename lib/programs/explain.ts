import {readdirSync, readFileSync} from 'node:fs'
import {readAt} from '../sysroot.ts'
import type {Missing} from './closure.ts'
import {EM} from './elf.ts'
import {RELATIVE} from './ldso.ts'
import {envProgram, notAFile, World, type WorldOptions} from './world.ts'

/** Why a command in a root cannot be executed. */
export interface ExecProblem {
  reason:
    | 'not found'
    | 'directory'
    /** A device, a pipe, a socket. */
    | 'not a file'
    | 'not executable'
    /** Neither an ELF file nor a script with `#!`: ENOEXEC. */
    | 'not a program'
    /** An ELF file that the kernel or the loader cannot use. */
    | 'damaged'
    /** For a processor that this one is not, nor can play. */
    | 'architecture'
    /** Something in `missing` is not there, or is no interpreter. */
    | 'interpreter'
    | 'libraries'
    /** Scripts whose interpreters are scripts, deeper than the kernel follows. */
    | 'interpreter loop'
  /** The file it is about; the command's name, when there is none. */
  path: string
  /** In words, where the reason alone does not say it. */
  why?: string
  /** The interpreter (of a script, or PT_INTERP), what `#!/usr/bin/env` asks for, or all libraries. */
  missing: Missing[]
}

/** The kernel follows so many `#!` lines (bprm recursion in fs/exec.c). */
const SCRIPTS_MAX = 5

/**
 * Finds out why a command would not start in a root, as execve(2) and the loader there would find out; undefined when
 * they would find nothing. The answer is for an error message: the root may change meanwhile.
 */
export function explainExec(command: string, options: WorldOptions = {}): ExecProblem | undefined {
  const world = new World({...options, dlopen: 'none', ldSoConf: false})
  const located = world.locate(command)
  if (located.path !== undefined) return explain(world, located.path, 0)
  const [unfit] = located.lack.unfit
  if (unfit) return {reason: 'not executable', path: unfit, missing: []}
  const {searched} = located.lack
  return {reason: 'not found', path: command, missing: [{kind: 'program', what: command, by: '', searched}]}
}

function explain(world: World, path: string, scripts: number): ExecProblem | undefined {
  const problem = (reason: ExecProblem['reason'], why?: string, missing: Missing[] = []): ExecProblem => ({
    reason,
    path,
    ...(why !== undefined && {why}),
    missing,
  })
  const entry = world.sysroot.resolve(path)
  if (entry.kind === 'missing') return problem('not found', notAFile(entry))
  if (entry.kind === 'directory') return problem('directory')
  if (entry.kind !== 'file') return problem('not a file', notAFile(entry))
  if ((entry.mode & 0o111) === 0) return problem('not executable')
  const inspected = world.inspector.inspect(entry.path)
  if (inspected.is === 'damaged') return problem('damaged', inspected.why)
  // One that may be executed and not read tells nothing.
  if (inspected.is === 'unreadable') return undefined
  if (inspected.is === 'data') return emulated(world, entry.path) ? undefined : problem('not a program')
  if (inspected.is === 'elf') {
    const {elf} = inspected
    if (!nativeMachines().includes(elf.machine)) {
      return emulated(world, entry.path) ? undefined : problem('architecture')
    }
    const why = elf.interp === undefined ? undefined : world.whyNotLoader(elf.interp, elf)
    if (why) return problem('interpreter', why, [lack('interpreter', elf.interp!, path, why)])
    const {lacks} = world.load(entry.path, elf)
    return lacks.length > 0
      ? problem(
          'libraries',
          undefined,
          lacks.map(l => ({kind: 'library', ...l})),
        )
      : undefined
  }
  if (scripts === SCRIPTS_MAX) return problem('interpreter loop')
  const {interpreter} = inspected.shebang
  if (!interpreter.startsWith('/')) {
    const why = `its path is ${RELATIVE}`
    return problem('interpreter', why, [lack('interpreter', interpreter, path, why)])
  }
  const deeper = explain(world, interpreter, scripts + 1)
  if (deeper?.reason === 'not found') {
    return problem('interpreter', deeper.why, [lack('interpreter', interpreter, path, deeper.why)])
  }
  if (deeper) return deeper
  const wanted = envProgram(inspected.shebang)
  const located = wanted && world.locate(wanted.program, wanted.path)
  if (!located) return undefined
  if (located.path !== undefined) return explain(world, located.path, scripts + 1)
  const {searched} = located.lack
  return problem('interpreter', undefined, [{kind: 'program', what: wanted.program, by: path, searched}])
}

function lack(kind: Missing['kind'], what: string, by: string, why: string | undefined): Missing {
  return {kind, what, by, searched: [], ...(why !== undefined && {why})}
}

/** e_machine of what the processor executes itself. */
function nativeMachines(): number[] {
  const machines: Partial<Record<NodeJS.Architecture, number[]>> = {
    x64: [EM.X86_64, EM[386]],
    ia32: [EM[386]],
    arm64: [EM.AARCH64, EM.ARM],
    arm: [EM.ARM],
    ppc64: [EM.PPC64, EM.PPC],
    s390x: [EM.S390],
    riscv64: [EM.RISCV],
    loong64: [EM.LOONGARCH],
  }
  return machines[process.arch] ?? []
}

/** Whether the kernel was told of an emulator for such files: binfmt_misc, in admin-guide/binfmt-misc.rst. */
function emulated(world: World, path: string): boolean {
  const head = world.sysroot.open(world.sysroot.lstat(path), fd => readAt(fd, 0, 256))
  const formats = '/proc/sys/fs/binfmt_misc'
  try {
    if (readFileSync(`${formats}/status`, 'latin1').trim() !== 'enabled') return false
    const names = readdirSync(formats).filter(name => name !== 'status' && name !== 'register')
    return names.some(name => isFormat(readFileSync(`${formats}/${name}`, 'latin1'), head))
  } catch {
    return false
  }
}

function isFormat(text: string, head: Buffer): boolean {
  const field = (key: string) => new RegExp(`^${key} (\\w+)$`, 'm').exec(text)?.[1] ?? ''
  const [magic, mask] = [Buffer.from(field('magic'), 'hex'), Buffer.from(field('mask'), 'hex')]
  if (!text.startsWith('enabled') || magic.length === 0) return false
  const offset = Number(field('offset'))
  return magic.every((byte, i) => (((head[offset + i] ?? 0) ^ byte) & (mask[i] ?? 0xff)) === 0)
}
