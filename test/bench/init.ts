import {existsSync} from 'node:fs'
import {resolve} from 'node:path'
import {type Bench, notInstalled, output, type Peer, type Setting, takesRoot} from './frame.ts'

const FRESH = resolve(import.meta.dirname, '../guest/fresh')

/**
 * In a fresh container, with so many processes in its topmost cgroup: how long "$2" takes there, to 10 ms (/proc/uptime);
 * and then all of them have to be in other-procs, but for "$3" = stay.
 */
const LINE = `
cd /sys/fs/cgroup
now() { read -r up rest </proc/uptime; echo "\${up%.*}\${up#*.}"; }
i=0; while [ $i -lt "$1" ]; do sleep 600 & i=$((i + 1)); done
begin=$(now); eval "$2" >/dev/null || exit; end=$(now)
in=cgroup.procs; [ "$3" = stay ] || in=other-procs/$in
there=$(grep -c . $in)
[ "$there" -gt "$1" ] || { echo "$there of $1 processes in $in" >&2; exit 1; }
echo $((10 * (end - begin)))`

/** What a shell can do without another process: an open, a write and a close each. What has ended meanwhile is refused. */
const WRITES =
  'mkdir other-procs; for pid in $(cat cgroup.procs); do echo $pid >other-procs/cgroup.procs; done 2>/dev/null; true'

async function milliseconds(count: number, line: string, then: string): Promise<number> {
  return Number(await output([FRESH, 'busybox', '/bin/sh', '-c', LINE, 'sh', `${count}`, line, then]))
}

const onlyV2 = (): string | undefined =>
  existsSync('/sys/fs/cgroup/cgroup.controllers')
    ? undefined
    : 'takes cgroup v2 as the only hierarchy, as the test kernel has it: make guest'

/** The processes of a fresh container, moved out of the way of its limits. */
export function init({quick}: Setting): Iterable<Bench> {
  const count = quick ? 20 : 2000
  const lacking = takesRoot() ?? onlyV2() ?? notInstalled('busybox')
  const peer = (name: string, line: string, then = 'move'): Peer => ({
    name,
    lacking,
    // With few: what is measured is checked as well.
    check: async () => void (await milliseconds(20, line, then)),
    measure: () => milliseconds(count, line, then),
  })
  return [
    {
      name: 'init',
      title: `Moving ${count} processes into another cgroup`,
      unit: 'ms',
      rounds: 3,
      peers: [
        peer('a write each, by sh', WRITES),
        peer('hew cgroup-init', 'hew cgroup-init'),
        peer('hew --version', 'hew --version', 'stay'),
      ],
      targets: [
        {
          peer: 'hew cgroup-init',
          words: 'at most the start and the writes',
          atMost: median => median('hew --version') + median('a write each, by sh'),
        },
      ],
    },
  ]
}
