import {STATE} from '../containers/state.ts'
import {OCI_VERSION} from '../document/oci.ts'
import {quote} from '../shell.ts'
import type {Table} from '../step.ts'
import {before, type Line, type Reasoned, unchecked} from './line.ts'

/** Steps before `clone` by which other commands come to know of a container. */
export interface StateSteps {
  /** The rest is done by a process of its own; the caller's prints the state when the command runs, and ends. */
  detach: {id: string; script?: InScript}
  /**
   * From here on the stage writes state.json. `head`: its text up to when it was created; `where`: the PID namespace and the boot
   * that the supervisor's PID counts in; `keep`: it stays when the container has ended.
   */
  state: {directory: string; head: string; where: string; keep: boolean}
}

/** What a script says of a container in the background. */
interface InScript {
  root: string
  /** A descriptor that is free. */
  fd: number
}

const SAYS = 'It runs: its PID as it is counted here, through a pipe. proc_pid_stat(5)'

/** An annotation: the file with what it has written. */
const LOG = 'dev.hew.log'

/** The rest is done by a shell of its own, until the container has ended; this one waits for its PID. */
function detached(id: string, {root, fd}: InScript): (Line | Reasoned)[] {
  const text = (value: string): string => JSON.stringify(value).replace(/[\\%]/g, '$&$&')
  const state = `{"ociVersion":${text(OCI_VERSION)},"id":${text(id)},"annotations":{"${STATE.rootfs}":${text(root)},"${STATE.detached}":"true","${LOG}":"%s"},"status":"running","pid":%s}`
  return [
    {
      whole: `log=$(mktemp ${quote(`/tmp/${id}.XXXXXX`)})
not_begun() {
    cat "$log" >&2
    rm "$log"
    exit 125
}
setsid --fork`,
      behind: ` ${fd}>&1 </dev/null >>"$log" 2>&1 | {
    read -r pid || not_begun
    printf ${quote(`${state}\\n`)} "$log" "$pid"
}`,
    },
    {
      line: before(
        'own',
        `sh -c 'read -r pid _ </proc/self/stat && echo "$pid" >&${fd} && exec "$@" ${fd}>&-' sh`,
      ),
      because: SAYS,
    },
    {
      cannot:
        'begin its log anew when that is full, or know that the command cannot be executed: the log says so',
    },
    {cannot: 'keep its state, by which kill, wait, logs and rm know it', asked: true},
  ]
}

export const stateSteps: Table<StateSteps> = {
  detach: {
    because: 'It runs on when the terminal is gone, and what it writes goes to a file. setsid(1), mktemp(1)',
    shell: s => (s.script ? detached(s.id, s.script) : ''),
    told: () => 'setsid',
    words: () => [],
    check: unchecked,
  },
  state: {
    because: '',
    shell: () => '',
    words: s => [s.directory, s.head, s.where, s.keep ? 'keep' : 'remove'],
    check: unchecked,
  },
}
