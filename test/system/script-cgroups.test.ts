import {mkdirSync, readFileSync, statfsSync} from 'node:fs'
import {dirname} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {inFreshContainer, type Kind} from '../guest/fresh.ts'
import {HEW, type Outcome, requires, run, scratch, shellcheck} from '../support.ts'

/** `--dry-run` of what works on cgroups: its script and the command leave the same tree, each in a fresh container. */

const V2 = statfsSync('/sys/fs/cgroup').type === 0x63677270
const onV2 = requires(test, 'root', 'cgroup2')

/** dash with coreutils, and BusyBox. */
const KINDS: Kind[] = ['debian', 'busybox']

const REPORT = `
  cd /sys/fs/cgroup
  find . -type d | sort
  for file in $(find . -name cgroup.type -o -name cgroup.subtree_control -o -name '*.max' | sort); do
    echo "$file: $(cat "$file" 2>&1)"; done
  for group in $(find . -type d | sort); do
    echo "$group: $(for pid in $(cat "$group/cgroup.procs"); do cat "/proc/$pid/comm"; done 2>/dev/null | grep -cx sleep)"
  done`

const inside = (kind: Kind, script: string): Outcome => inFreshContainer(kind, ['/bin/sh', '-c', script])

/** What the command leaves, and what its script does; the dry run itself leaves everything as it was. */
function same(kind: Kind, command: string, before = ''): {script: string; report: string} {
  const [done, dry] = [
    inside(kind, `${before}\n${command} >/dev/null; echo "status $?"; ${REPORT}`),
    inside(
      kind,
      `${before}
      (${REPORT}) >/tmp/one
      ${command} --dry-run >/tmp/script || exit 99
      (${REPORT}) >/tmp/two
      cmp /tmp/one /tmp/two || exit 98
      sh /tmp/script >/dev/null; echo "status $?"; ${REPORT}
      echo SCRIPT; cat /tmp/script`,
    ),
  ]
  const [report = '', script = ''] = dry.stdout.split('SCRIPT\n')
  assert.is(report, done.stdout, dry.stderr + done.stderr)
  assert.match(report, /^status 0\n/)
  return {script, report}
}

for (const kind of KINDS) {
  onV2(`cgroup-init: ${kind}`, () => {
    const {script, report} = same(kind, 'hew cgroup-init')
    assert.match(report, /^\.\/cgroup\.subtree_control: cpu io memory pids$/m)
    assert.match(report, /^\.\/other-procs: 3$/m)
    assert.match(script, /^# A cgroup with processes in it .*cgroups\(7\)\nevacuate \/sys\/fs\/cgroup /m)
    same(kind, 'hew cgroup-init --controllers pids,memory --evacuate-to elsewhere')
    same(kind, 'hew cgroup-init', 'hew cgroup-init >/dev/null')
  })

  onV2(`cgroup-init of a tree that others made threaded, and where none is mounted: ${kind}`, () => {
    same(kind, 'hew cgroup-init', 'echo +pids >/sys/fs/cgroup/cgroup.subtree_control')
    same(kind, 'hew cgroup-init', 'umount /sys/fs/cgroup')
  })
}

onV2('cgroup-init in a pipe: the script passes the document on; --explain says each line', () => {
  const {stdout, stderr} = inside(
    'debian',
    `hew mkroot --empty /r >/tmp/doc
    hew cgroup-init --dry-run </tmp/doc >/tmp/script
    sh /tmp/script | cmp - /tmp/doc; echo $?
    hew cgroup-init --explain </tmp/doc | cmp - /tmp/doc; echo $?
    `,
  )
  assert.is(stdout, '0\n0\n', stderr)
  assert.match(
    stderr,
    /^hew cgroup-init: evacuate \/sys\/fs\/cgroup \/sys\/fs\/cgroup\/other-procs {2}# ok$/m,
  )
  const threaded = inside(
    'busybox',
    `echo +pids >/sys/fs/cgroup/cgroup.subtree_control
    mkdir /sys/fs/cgroup/t; echo threaded >/sys/fs/cgroup/t/cgroup.type
    hew cgroup-init --dry-run >/tmp/script; sh /tmp/script; echo $?
    hew cgroup-init --explain; echo $?`,
  )
  assert.is(threaded.stdout, '125\n125\n')
  assert.match(threaded.stderr, /^the cgroup \/sys\/fs\/cgroup is "domain threaded"$/m)
  assert.match(
    threaded.stderr,
    /^hew cgroup-init: repair_cgroup \/sys\/fs\/cgroup {2}# the cgroup .* is "threaded"/m,
  )
})

/** Two sleepers with a parent, limited and limited again: by the command, and by its script. */
const LIMITS = `
  limits() { # of the process $1, as v1 or v2 has them
    for group in $(find /sys/fs/cgroup -type d -name "*-$1" 2>/dev/null | sort); do
      echo "$group: $(stat -c %a "$group") $(wc -l <"$group/cgroup.procs")" | sed "s/-$1/-PID/"
      for file in memory.max memory.swap.max memory.limit_in_bytes memory.memsw.limit_in_bytes memory.low cpu.max cpu.cfs_quota_us \\
        cpu.cfs_period_us pids.max cpuset.cpus; do
        if [ -e "$group/$file" ]; then echo "$file $(cat "$group/$file")"; fi; done
    done
  }
  by() { # HOW OPTION...: with the options of hew limit
    how=$1; shift
    case $how in
      command) hew limit --quiet "$@" $p ;;
      *) before=$(limits $p)
        hew limit --dry-run "$@" $p >"$here/script" || exit 99
        [ "$before" = "$(limits $p)" ] || exit 98
        $how "$here/script" ;;
    esac || echo "status $?"
  }
  for how in command $shells; do
    sh -c 'sleep 300 & sleep 300 & wait' & p=$!
    until [ "$(cat /proc/$p/task/$p/children | wc -w)" = 2 ]; do :; done
    echo "== $how" | sed 's/ [^ ]*$//'
    by $how --memory 80M --cpu 5% --pids 30
    limits $p
    by $how --pids 20 --memory 90M
    by $how --cpu max
    limits $p
    kill $(cat /proc/$p/task/$p/children)
    wait $p
    find /sys/fs/cgroup -type d -name "*-$p" -exec rmdir {} + 2>/dev/null || :
  done`

/** Each part as the first, which is the command's. */
function allTheSame({stdout, stderr}: Outcome, shells: number): void {
  const [none, first, ...others] = stdout.split('==\n')
  assert.is(none, '', stderr)
  assert.match(first!, /^pids\.max 30$.*^pids\.max 20$/ms)
  assert.is(others.length, shells, stdout + stderr)
  for (const other of others) assert.is(other, first, stderr)
}

for (const kind of KINDS)
  onV2(`limit on what runs already: ${kind}`, () => {
    allTheSame(inside(kind, `here=/tmp; shells=sh; hew cgroup-init >/dev/null; ${LIMITS}`), 1)
  })

if (!V2)
  requires(
    test,
    'root',
    'busybox',
  )('limit on what runs already, v1', () => {
    const here = scratch()
    const script = `here=${here}; shells="dash ${here}/applets/sh"; ${LIMITS}`
    mkdirSync(`${here}/applets`)
    run('busybox', ['--install', '-s', `${here}/applets`])
    allTheSame(run('/bin/bash', ['-c', script], {env: {PATH: `${dirname(HEW)}:${process.env.PATH}`}}), 2)
    run('/bin/sh', [
      '-c',
      `sleep 60 & "$1" limit --dry-run --memory 80M $! >${here}/moves; kill $!`,
      'sh',
      HEW,
    ])
    const moves = readFileSync(`${here}/moves`, 'utf8')
    assert.match(moves, /^gather /m)
    assert.is(shellcheck(moves), '')
  })

if (!V2)
  test('a script for what is so already says that there is nothing to do', () => {
    const {stdout, stderr, status} = run(HEW, ['cgroup-init', '--dry-run'])
    assert.equal([stderr, status], ['', 0])
    assert.match(stdout, /^set -eu\n\n# There is nothing to do\.\n$/m)
    assert.is(shellcheck(stdout), '')
  })

test.run()
