import * as fs from 'node:fs'
import * as path from 'node:path'
import {HewError} from '../errors.ts'
import {quote} from '../shell.ts'
import {encode, program, type Streaming} from '../stage.ts'
import type {Plan} from '../step.ts'
import {debootstrapArguments, type FileSteps, MARKER} from '../steps/files.ts'
import {outside} from './outside.ts'

/**
 * Runs debootstrap(8) in a root that the stage has claimed, with its progress on stderr.
 *
 * It runs in a PID and a mount namespace of its own. So all that it started has ended when it has, also when hew is
 * killed, and what it mounts in the root (/proc) is nowhere in the way when that has to be removed.
 * @throws HewError it failed; what it wrote so far is the stage's to remove
 */
export async function debootstrap(step: FileSteps['debootstrap'], {signal, pid}: Streaming): Promise<void> {
  await claimed(step.path, pid, signal)
  const {spawn} = process.getBuiltinModule('node:child_process')
  const $ = await outside()
  const running = $({
    spawn: ((line: string, _: string[], options: object) =>
      spawn(program(), ['debootstrap'], {
        ...options,
        shell: false,
        argv0: 'hew-stage',
        env: Object.fromEntries(encode(contained(line), {as: 'hew mkroot'}).entries()),
      })) as typeof spawn,
    stdio: ['ignore', 'pipe', 'pipe'],
  })`exec debootstrap ${debootstrapArguments(step)}`
  for (const stream of [running.stdout, running.stderr]) stream.on('data', text => process.stderr.write(text))
  signal.addEventListener('abort', () => running.child?.kill('SIGKILL'))
  const {exitCode} = await running
  if (signal.aborted) throw new HewError('interrupted')
  if (exitCode !== 0) throw new HewError(failure(step, exitCode))
}

/** Until the marker is the stage's: before that the root may be somebody else's. */
async function claimed(root: string, pid: number, signal: AbortSignal): Promise<void> {
  const marker = path.join(root, MARKER)
  const isOurs = (): boolean =>
    fs.existsSync(marker) && fs.readFileSync(marker, 'utf8').startsWith(`hew ${pid} `)
  while (!isOurs()) {
    if (signal.aborted) throw new HewError('interrupted')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

function contained(line: string): Plan {
  const variables = Object.entries(process.env).map(([name, value]) => `${name}=${value}`)
  return [
    {do: 'die-with-parent', parent: process.pid},
    {do: 'clone', kinds: ['pid', 'mnt'], mapping: 'none', uids: [], gids: [], setgroups: true},
    {do: 'private', how: 'rprivate'},
    {do: 'init'},
    {do: 'env', variables},
    {do: 'exec', command: ['/bin/sh', '-c', line]},
  ]
}

/** The log goes with the root: its end is kept, and where to find the whole of it. */
function failure(step: FileSteps['debootstrap'], status: number | null): string[] {
  const log = path.join(step.path, 'debootstrap/debootstrap.log')
  const end = fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5) : []
  const line = ['debootstrap', ...debootstrapArguments({...step, path: './root'})].map(quote).join(' ')
  return [
    ...(end.length > 0 ? ['the end of its log:', ...end.map(text => `  ${text}`)] : []),
    `debootstrap failed with status ${status}, what it had made is removed: '${line}' keeps it, with debootstrap/debootstrap.log`,
  ]
}
