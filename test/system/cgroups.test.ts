import {readFileSync, statfsSync} from 'node:fs'
import {availableParallelism} from 'node:os'
import {dirname} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {inFreshContainer, type Kind} from '../guest/fresh.ts'
import {HEW, type Outcome, requires, run} from '../support.ts'

/**
 * `cgroup-init`, `limit` and `enter` with limits. Where cgroup v2 is the only hierarchy each test has a fresh privileged container
 * for itself; elsewhere (v1, hybrid) it works on the machine's own hierarchies, below the cgroup that it is in.
 */

const V2 = statfsSync('/sys/fs/cgroup').type === 0x63677270
const IN_GUEST = /User Mode Linux/.test(readFileSync('/proc/cpuinfo', 'utf8'))
const asRoot = requires(test, 'root')
const onV2 = requires(test, 'root', 'cgroup2')

/** The root's name, and its cgroup's; on a machine that others use as well, one that nobody else has. */
const BOX = V2 ? 'box' : `box-${process.pid}`

/** A shell script in a place where limits can be had. `$here` is its directory, `$here/doc` the document of the root. */
function lab(script: string, timeout = 120_000): Outcome {
  const all = `
    set -u
    here=$(mktemp -d)
    trap 'rm -rf "$here"' EXIT
    ${V2 ? 'hew cgroup-init >/dev/null || exit 99' : ''}
    hew mkroot --with bash,sh,cat,yes,tr,head,tail,grep,sleep,true "$here/${BOX}" >"$here/doc" || exit 99
    supervised() { # PID of enter: waits until its container runs the command
      until child=$(cat "/proc/$1/task/$1/children") && [ -n "$child" ] && read -r comm <"/proc/\${child% }/comm" &&
        [ "$comm" = "$2" ]; do sleep 0.1; done
    }
    ${script}`
  if (V2) return inFreshContainer('debian', ['/bin/bash', '-c', all], {timeout})
  return run('/bin/bash', ['-c', all], {timeout, env: {PATH: `${dirname(HEW)}:${process.env.PATH}`}})
}

const fresh = (kind: Kind, script: string): Outcome => inFreshContainer(kind, ['/bin/sh', '-c', script])

/** Nothing of a container's cgroup is left. */
const NOTHING_LEFT = `find /sys/fs/cgroup -type d -name '${BOX}*' ! -path '*/unified/*' | sed 's/^/left: /'`

const HOG = 'yes | tr \\\\n x | head -c 1048576000 | grep n'

asRoot('exercise 1: 80 MB of memory, and not a page more', () => {
  const {stdout, stderr} = lab(`
    free=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
    hew limit --memory 80M <"$here/doc" | hew enter --verdict "$here/verdict" -- sh -c '${HOG}'
    echo $?
    cat "$here/verdict"
    echo $(($(awk '/^MemAvailable/ {print $2}' /proc/meminfo) - free))
    ${NOTHING_LEFT}`)
  const [status, json, difference, ...rest] = stdout.trimEnd().split('\n')
  assert.is(status, '137', stderr)
  const verdict = JSON.parse(json!)
  assert.is(verdict.exitStatus, 137)
  assert.is(verdict.oomKills, 1)
  assert.ok(verdict.peakMemoryBytes > 70 << 20, json)
  assert.ok(verdict.peakMemoryBytes <= 83886080 + 4096 * availableParallelism(), json)
  assert.ok(verdict.cpuSeconds > 0 && verdict.wallSeconds > 0, json)
  // Without the limit it would be a million, and others may be at work here.
  assert.ok(Number(difference) > (IN_GUEST ? -200_000 : -500_000), difference)
  assert.equal(rest, [])
  assert.match(stderr, /^hew enter: killed by its memory limit \(80 MiB, 1 kill\)$/m)
})

if (V2)
  // The test kernel kills a process beyond some 250 MB by itself: each of its pages may be a mapping of its host's, which has
  // 65530 for one process (vm.max_map_count).
  onV2('the same without a limit goes beyond that', () => {
    const {stdout, stderr} = lab(`
      hew enter --verdict "$here/verdict" -- sh -c '${HOG.replace('1048576000', '115343360')}' <"$here/doc" >/dev/null
      cat "$here/verdict"`)
    assert.ok(JSON.parse(stdout).peakMemoryBytes > 100 << 20, stdout + stderr)
  })
// A machine that people work on is given a limit all the same. (tail keeps a line as grep does, and does not search it again.)
else
  asRoot('the same with a limit of 4 GB takes more than 800 MB', () => {
    const {stdout, stderr} = lab(`
      hew limit --memory 4G <"$here/doc" |
        hew enter --verdict "$here/verdict" -- sh -c '${HOG.replace('grep n', 'tail')} >/dev/null'
      cat "$here/verdict"`)
    assert.ok(JSON.parse(stdout).peakMemoryBytes > 800 << 20, stdout + stderr)
  })

asRoot('exercise 2: 5% of a CPU, and all of it once that is lifted', () => {
  const {stdout, stderr} = lab(`
    hew limit --cpu 5% <"$here/doc" | hew enter -- yes >/dev/null & p=$!
    supervised $p yes
    use() { date +%s.%N; hew limit --json $p; }
    use; sleep 10; use
    hew limit --quiet --cpu max $p
    ${IN_GUEST ? '' : 'yes >/dev/null & free=$!'}
    use; sleep 5; use
    ${IN_GUEST ? '' : 'cut -d" " -f14,15 /proc/$free/stat; kill $free; wait $free'}
    kill $p; wait $p
    ${NOTHING_LEFT}`)
  const lines = stdout.trimEnd().split('\n')
  assert.is(lines.length, IN_GUEST ? 8 : 9, stdout + stderr)
  const at = (i: number): number => Number(lines[2 * i])
  const used = (i: number): number => JSON.parse(lines[2 * i + 1]!).cpu.seconds
  const held = (i: number): number => JSON.parse(lines[2 * i + 1]!).cpu.throttledSeconds
  const limited = (used(1) - used(0)) / (at(1) - at(0))
  assert.ok(limited > 0.04 && limited < 0.06, `${limited}`)
  const lifted = used(3) - used(2)
  assert.is(held(3), held(2))
  // On a machine that is busy otherwise, what it gets is what one beside it gets, which has never had a limit.
  const [user = 0, system = 0] = (lines[8] ?? '').split(' ').map(Number)
  const whole = IN_GUEST ? at(3) - at(2) : (user + system) / 100
  assert.ok(lifted > 0.5 * whole, `${lifted} of ${whole} s`)
  assert.match(stderr, /^hew enter: held back \d+\.\d s of CPU$/m)
})

asRoot("exercise 3: three processes, and hew's own is none of them", () => {
  const {stdout, stderr} = lab(`
    hew limit --pids 3 <"$here/doc" |
      hew enter --verdict "$here/verdict" -- sh -c 'for i in 1 2 3 4 5; do sleep 15 & echo $i; done'
    cat "$here/verdict"
    ${NOTHING_LEFT}`)
  const [one, two, json, ...rest] = stdout.trimEnd().split('\n')
  assert.equal([one, two, ...rest], ['1', '2'], stderr)
  assert.is(JSON.parse(json!).forksRefused, 1)
  assert.match(stderr, /^hew enter: refused 1 fork \(pids limit 3\)$/m)
})

if (IN_GUEST)
  onV2('exercise 3: the fork bomb', () => {
    // It goes off only once the limit was read back, and the shell that holds it was found inside.
    const {stdout, stderr} = lab(`
      mkfifo "$here/go"
      (hew limit --pids 20 --memory 100M <"$here/doc"; cat "$here/go") |
        hew enter -- bash -c 'read go && [ "$go" = go ] && { :(){ :|:& };:; sleep 60; }' & p=$!
      supervised $p bash
      cgroup=/sys/fs/cgroup/box
      [ "$(cat $cgroup/pids.max)" = 20 ] && [ "$(cat $cgroup/cgroup.procs)" = "\${child% }" ] || { kill $p; exit 1; }
      count() { ls -d /proc/[0-9]* | wc -l; }
      before=$(count)
      echo go >"$here/go"
      sleep 4
      echo "more: $(($(count) - before)), in it: $(cat $cgroup/pids.current)"
      kill $p
      wait $p
      echo "after: $(($(count) - before))"
      ${NOTHING_LEFT}`)
    const [, more, inside] = /^more: (-?\d+), in it: (\d+)\n/.exec(stdout) ?? []
    assert.ok(Number(more) <= 20 && Number(inside) <= 20, stdout + stderr)
    assert.match(stdout, /\nafter: -\d+\n$/)
    assert.match(stderr, /^hew enter: refused \d+ forks \(pids limit 20\)/m)
  })

const REPORT = `
  cd /sys/fs/cgroup
  find . -type d | sort
  for file in memory.max memory.swap.max cpu.max pids.max cgroup.type; do echo "$file: $(cat box/$file)"; done
  echo "enabled: $(cat cgroup.subtree_control)"
  echo "$(wc -l <cgroup.procs) in the root, $(wc -l <box/cgroup.procs) in the box"`

onV2('exercise 4: by hand and with hew, the same tree and values', () => {
  const byHand = fresh(
    'debian',
    `cd /sys/fs/cgroup
    mkdir other-procs
    while [ -n "$(cat cgroup.procs)" ]; do
      for p in $(cat cgroup.procs); do echo $p >other-procs/cgroup.procs; done 2>/dev/null
    done
    echo '+cpu +io +memory +pids' >cgroup.subtree_control
    mkdir box
    echo 83886080 >box/memory.max
    echo 0 >box/memory.swap.max
    echo 5000 100000 >box/cpu.max
    echo 3 >box/pids.max
    sleep 100 & echo $! >box/cgroup.procs
    ${REPORT}`,
  )
  const withHew = lab(`
    hew limit --memory 80M --cpu 5% --pids 3 <"$here/doc" | hew enter -- sleep 100 & p=$!
    supervised $p sleep
    (${REPORT})
    kill $p`)
  assert.match(byHand.stdout, /^memory.max: 83886080$/m)
  assert.match(byHand.stdout, /^0 in the root, 1 in the box$/m)
  assert.is(withHew.stdout, byHand.stdout, withHew.stderr)
})

asRoot(
  'the container is in the cgroup, its supervisor is not; the memory of its start is counted there',
  () => {
    const {stdout, stderr} = lab(`
    hew limit --memory 80M --pids 9 <"$here/doc" | hew enter -- sleep 100 & p=$!
    supervised $p sleep
    hew limit --json $p
    grep -c box /proc/$p/cgroup
    kill $p; wait $p; echo $?`)
    const [json, outside, status] = stdout.split('\n')
    const {processes, memory} = JSON.parse(json!)
    assert.equal(processes, {now: 1, limit: 9, refused: 0}, stderr)
    assert.is(memory.limit, 83886080)
    assert.ok(memory.now > 0)
    assert.is(outside, '0')
    assert.is(status, '143')
  },
)

asRoot('two containers of one root', () => {
  const {stdout} = lab(`
    for i in 1 2; do (hew limit --pids 5 <"$here/doc" | hew enter -- sh -c 'exec sleep 1'; echo $?) & done
    wait
    ${NOTHING_LEFT}`)
  assert.is(stdout, '0\n0\n')
})

asRoot('all limits or none: what the kernel does not take ends it before the start', () => {
  const {stdout, stderr} = lab(`
    hew limit --pids 5 --set pids.max=many <"$here/doc" | hew enter -- true
    echo $?
    hew limit --pids 5 --set memory.nothing=1 <"$here/doc" | hew enter -- true
    echo $?
    ${NOTHING_LEFT}`)
  assert.is(stdout, '125\n125\n')
  assert.match(
    stderr,
    /^hew enter: cannot set pids.max of the cgroup \S+ to 'many': Invalid argument: the kernel does not take this value$/m,
  )
  assert.match(
    stderr,
    /^hew enter: cannot set memory.nothing .*: (these cgroups have|cgroup v1 has) no such limit$/m,
  )
})

asRoot('a container that made cgroups of its own, or was killed, leaves none', () => {
  const {stdout} = lab(`
    hew limit --pids 5 <"$here/doc" | hew enter -- sleep 100 & p=$!
    supervised $p sleep
    mkdir "$(hew limit --json $p | grep -o '"pids":"[^"]*' | cut -d'"' -f4)/inner"
    kill -KILL \${child% }; wait $p; echo $?
    ${NOTHING_LEFT}`)
  assert.is(stdout, '137\n')
})

asRoot('a process that runs: limits at once, all or none, and lifted again', () => {
  const {stdout, stderr} = lab(`
    sh -c 'sleep 100 & sleep 100 & wait' & p=$!
    until [ "$(wc -w </proc/$p/task/$p/children)" = 2 ]; do sleep 0.1; done
    hew limit --quiet --memory 50M --pids 9 --cpu 50% $p || exit
    hew limit --json $p
    hew limit --pids 7 --memory 60M --set cpu.max=much $p; echo $?
    hew limit --json $p
    hew limit --pids max --cpu max --json $p
    kill $(cat "$(hew limit --json $p | grep -o '"pids":"[^"]*' | cut -d'"' -f4)/cgroup.procs")
    wait $p
    sleep 0.3
    find /sys/fs/cgroup -depth -type d -name "sh-$p" -exec rmdir {} +`)
  const [first, status, second, third] = stdout.trimEnd().split('\n')
  const before = JSON.parse(first!)
  assert.equal(before.processes, {now: 3, limit: 9, refused: 0}, stderr)
  assert.is(before.memory.limit, 52428800)
  assert.is(before.cpu.quota, 50000)
  assert.is(status, '125')
  assert.match(stderr, /: the kernel does not take this value: nothing was changed$/m)
  const after = JSON.parse(second!)
  assert.equal([after.processes, after.memory.limit, after.cpu.quota], [before.processes, 52428800, 50000])
  const lifted = JSON.parse(third!)
  assert.equal(
    [lifted.processes.limit, lifted.cpu.quota, lifted.memory.limit],
    [undefined, undefined, 52428800],
  )
})

asRoot(
  'the cgroup that a process got goes when it has ended, with the next limit; none that others made',
  () => {
    const {stdout, stderr} = lab(`
    of() { hew limit --json $1 | grep -o '"pids":"[^"]*' | cut -d'"' -f4; }
    sleep 100 & one=$!
    sleep 100 & two=$!
    hew limit --quiet --pids 5 $one
    first=$(of $one); byhand=$(dirname "$first")/byhand-$one
    mkdir "$byhand"
    hew limit --quiet --pids 5 $two
    second=$(of $two)
    ls -d "$first" "$second" | wc -l
    kill $one $two; wait $one $two
    sleep 100 & three=$!
    hew limit --quiet --pids 5 $three
    third=$(of $three)
    for directory in "$first" "$second" "$third" "$byhand"; do [ -d "$directory" ]; echo $?; done
    kill $three; wait $three
    ${V2 ? 'hew cgroup-init >/dev/null' : 'rmdir "$third"'}
    [ -d "$third" ]; echo $?
    rmdir "$byhand"`)
    assert.is(stdout, '2\n1\n1\n0\n0\n1\n', stderr)
  },
)

asRoot('less memory than it uses now: nothing is changed, and said', () => {
  const {stdout, stderr} = lab(`
    hew limit --memory 80M <"$here/doc" | hew enter -- sh -c 'x=$(head -c 30000000 /dev/zero | tr \\\\0 x); sleep 100' & p=$!
    until hew limit --json $p | grep -qE '"now":[2-9][0-9]{7},"limit":83886080'; do sleep 0.2; done
    hew limit --memory 10M $p; echo $?
    hew limit --json $p | grep -o '"limit":[0-9]*'
    kill $p; wait $p`)
  assert.is(stdout, '125\n"limit":83886080\n', stderr)
  assert.match(stderr, /^hew limit: \d+ uses \S+ MiB of memory now, more than 10 MiB: nothing was changed/m)
})

onV2('without cgroup-init: one line that says so; without limits nothing is needed', () => {
  const {stdout, stderr} = fresh(
    'debian',
    `hew mkroot --rm --with true | hew limit --memory 80M | hew enter -- true; echo $?
    hew mkroot --rm --with true | hew limit --memory 80M --cpu 5% --pids 3 | hew enter -- true; echo $?
    hew mkroot --rm --with true | hew enter -- true; echo $?
    hew mkroot --rm --with true | hew cgroup-init | hew limit --memory 80M | hew enter -- true; echo $?`,
  )
  assert.is(stdout, '125\n125\n0\n0\n')
  const missing = (what: string): string =>
    `hew enter: ${what} not enabled for cgroups below /sys/fs/cgroup: run 'hew cgroup-init' first\n`
  assert.is(stderr.replace(/^fresh:.*\n/, ''), missing('memory is') + missing('memory, cpu and pids are'))
})

onV2('cgroup-init: twice, two at once, killed half way, among 2,000 processes that fork', () => {
  // Forks of perl, as an exec takes the test kernel five times as long. Each of them forks again and ends: some 40 in a second, which
  // leaves hew something of its one CPU.
  const crowd = `for my $n (1 .. 2000) {
      next if fork;
      do { select undef, undef, undef, $n % 100 ? 60 + rand 120 : rand 2; fork and exit } while 1 }`
  const {stdout, stderr} = inFreshContainer(
    'debian',
    [
      '/bin/sh',
      '-c',
      `cd /sys/fs/cgroup
      perl -e '${crowd}'
      hew cgroup-init >/dev/null & half=$!
      until [ -e other-procs ] && [ $(wc -l <other-procs/cgroup.procs) -gt 100 ]; do sleep 0.1; done
      kill -KILL $half; wait $half; echo $?
      [ $(wc -l <cgroup.procs) -gt 100 ]; echo $?
      hew cgroup-init >/dev/null & one=$!
      hew cgroup-init >/dev/null & two=$!
      wait $one; echo $?; wait $two; echo $?
      hew cgroup-init
      wc -l <cgroup.procs
      [ "$(cat other-procs/pids.current)" -gt 2000 ]; echo $?`,
    ],
    {timeout: 300_000},
  )
  assert.is(
    stdout.replace(/moved .*\n/, ''),
    `137
0
0
0
cgroups  v2, not the kernel's own root (/sys/fs/cgroup)
enabled  cpu io memory pids (before: cpu io memory pids)
0
0
`,
    stderr,
  )
})

onV2('cgroup-init: a tree that others made threaded is repaired, a threaded cgroup in it named', () => {
  const {stdout, stderr} = fresh(
    'busybox',
    `cd /sys/fs/cgroup
    echo +pids >cgroup.subtree_control; cat cgroup.type
    mkdir t; echo threaded >t/cgroup.type
    hew cgroup-init; echo $?
    rmdir t
    hew cgroup-init --controllers pids,memory >/dev/null; echo $?
    cat cgroup.type cgroup.subtree_control; cat other-procs/cgroup.type`,
  )
  assert.is(stdout, 'domain threaded\n125\n0\ndomain\nmemory pids\ndomain\n')
  assert.match(
    stderr,
    /^hew cgroup-init: the cgroup \/sys\/fs\/cgroup is "domain threaded", since \/sys\/fs\/cgroup\/t is "threaded"/,
  )
})

onV2('cgroup-init: not mounted, read-only, no such controller', () => {
  const {stdout, stderr} = fresh(
    'debian',
    `hew cgroup-init --controllers cpuset; echo $?
    mount -o remount,bind,ro /sys/fs/cgroup
    hew cgroup-init; echo $?
    hew mkroot --rm --with true | hew limit --pids 5 | hew enter -- true; echo $?
    umount /sys/fs/cgroup
    hew cgroup-init >/dev/null; echo $?
    cat /sys/fs/cgroup/cgroup.subtree_control`,
  )
  assert.is(stdout, '125\n125\n125\n0\ncpu io memory pids\n', stderr)
  const privileged = "as in a container without --privileged: start that one with 'docker run --privileged'"
  assert.is(
    stderr.replace(/^fresh:.*\n/, ''),
    `hew cgroup-init: /sys/fs/cgroup has no controller cpuset: it has cpu, io, memory, pids
hew cgroup-init: /sys/fs/cgroup is read-only, ${privileged}
hew enter: limits need a cgroup of their own, and /sys/fs/cgroup is read-only, ${privileged}
`,
  )
})

onV2('what is mounted over the cgroups hides them, also when it is cgroups', () => {
  const {stdout, stderr} = fresh(
    'debian',
    `cd /
    mkdir /run/cgroups /sys/fs/cgroup/inner
    mount -t cgroup2 cgroup2 /run/cgroups
    mount --bind /sys/fs/cgroup/inner /sys/fs/cgroup
    hew cgroup-init --json | grep -o '"cgroup":"[^"]*"'
    umount /run/cgroups
    hew cgroup-init; echo $?
    mount -t tmpfs none /sys/fs/cgroup
    hew mkroot --rm --with true | hew limit --pids 5 | hew enter -- true; echo $?
    hew cgroup-init --json | grep -o '"cgroup":"[^"]*"'
    stat -f -c %T /sys/fs/cgroup`,
  )
  assert.is(stdout, '"cgroup":"/run/cgroups"\n125\n125\n"cgroup":"/sys/fs/cgroup"\ncgroup2fs\n', stderr)
  assert.is(
    stderr.replace(/^fresh:.*\n/, ''),
    `hew cgroup-init: the cgroup that hew is in cannot be seen below /sys/fs/cgroup: it is the tree of another cgroup namespace, mount cgroup2 anew
hew enter: limits need cgroups, and none are mounted here: run 'hew cgroup-init' first
`,
  )
})

onV2('cgroup-init where there is nothing but hew, and in a pipe', () => {
  const alone = inFreshContainer('hew', ['/hew', 'cgroup-init', '--json'])
  assert.equal(JSON.parse(alone.stdout).after, ['cpu', 'io', 'memory', 'pids'], alone.stderr)
  const {stdout} = fresh(
    'busybox',
    `hew mkroot --empty /r >/tmp/doc
    hew cgroup-init </tmp/doc | cmp - /tmp/doc; echo $?
    true | hew cgroup-init >/dev/null; echo $?`,
  )
  assert.is(stdout, '0\n0\n')
})

/** A shell script in a unit of a systemd that is PID 1 of a fresh Debian; what it writes comes out. */
function underSystemd(script: string): Outcome {
  const unit = `[Unit]
    DefaultDependencies=no
    [Service]
    Type=oneshot
    ExecStart=/bin/sh -c '. /script >/output 2>&1'
    ExecStopPost=systemctl exit 7 --force`
  const pid1 = `
    mkfifo /output
    cat /output &
    printf %s "$1" >/script
    printf %s "$2" >/etc/systemd/system/script.service
    exec /lib/systemd/systemd --unit=script.service`
  return inFreshContainer('debian', ['/bin/sh', '-c', pid1, 'sh', script, unit], {timeout: 240_000})
}

requires(
  test,
  'root',
  'cgroup2',
  'systemd',
)('on a machine that systemd runs: its tree is left alone, and works where it is delegated', () => {
  const {stdout, stderr, status} = underSystemd(`
    tree() { find /sys/fs/cgroup -type d | sort; cat /sys/fs/cgroup/cgroup.subtree_control; }
    before=$(tree)
    hew cgroup-init; echo $?
    [ "$(tree)" = "$before" ]; echo $?
    hew mkroot --with sleep /box >/doc
    hew limit --pids 5 </doc | hew enter -- sleep 1; echo $?
    scope() { systemd-run --quiet --scope --unit=$1 $2 sh -c "$3"; }
    scope kept "" "hew cgroup-init"; echo $?
    scope given "-p Delegate=yes" '
      hew cgroup-init >/dev/null; echo $?
      hew limit --pids 5 </doc | hew enter -- sleep 50 & p=$!
      cd /sys/fs/cgroup/system.slice/given.scope
      until grep -q . box/cgroup.procs 2>/dev/null; do sleep 0.1; done
      cat cgroup.subtree_control box/pids.max
      kill $p; wait $p; ls -d */'`)
  const refused =
    "hew cgroup-init: systemd manages the cgroups of this machine, and they are left as they are: start 'systemd-run --scope -p Delegate=yes sh', and hew in there\n"
  assert.is(
    stdout,
    `${refused}125
0
hew enter: pids is not enabled for cgroups below /sys/fs/cgroup/system.slice/script.service: run 'hew cgroup-init' first
125
${refused}125
0
cpu io memory pids
5
other-procs/
`,
    stderr,
  )
  assert.is(status, 7)
})

onV2("systemd's tree is left alone, but for what it delegates", () => {
  // systemd as hew sees it: sd_booted(3), the names of its units, and what systemctl(1) says of them.
  const {stdout, stderr} = fresh(
    'debian',
    `hew cgroup-init >/dev/null
    cd /sys/fs/cgroup
    mkdir -p /run/systemd/system run.scope
    echo $$ >run.scope/cgroup.procs
    printf '#!/bin/sh\\n[ "$*" = "show --property=Delegate --value run.scope" ] && cat /tmp/delegate\\n' >/usr/local/bin/systemctl
    chmod +x /usr/local/bin/systemctl
    echo no >/tmp/delegate
    hew cgroup-init; echo $?
    hew mkroot --rm --with true | hew limit --pids 5 | hew enter -- true; echo $?
    echo yes >/tmp/delegate
    hew cgroup-init >/dev/null; echo $?
    cat run.scope/cgroup.subtree_control; wc -l <run.scope/cgroup.procs
    hew mkroot --with sleep /tmp/box | hew limit --pids 5 | hew enter -- sleep 50 & p=$!
    until [ -e run.scope/box ]; do sleep 0.1; done
    cat run.scope/box/pids.max; kill $p; wait $p; ls -d run.scope/*/`,
  )
  assert.is(stdout, '125\n125\n0\ncpu io memory pids\n0\n5\nrun.scope/other-procs/\n', stderr)
  assert.match(
    stderr,
    /hew cgroup-init: systemd manages .* start 'systemd-run --scope -p Delegate=yes sh', and hew in there\n/,
  )
  assert.match(
    stderr,
    /hew enter: pids is not enabled for cgroups below \/sys\/fs\/cgroup\/run.scope: run 'hew cgroup-init' first\n/,
  )
})

onV2('an ordinary user limits in what was delegated to it', () => {
  const {stdout, stderr} = fresh(
    'debian',
    `hew cgroup-init >/dev/null
    cd /sys/fs/cgroup
    mkdir u
    chown nobody u u/cgroup.procs u/cgroup.subtree_control
    echo $$ >u/cgroup.procs
    export HOME=/tmp/home
    install -d -o nobody $HOME
    cat >/tmp/as-user <<'END'
hew mkroot --with true,cat $HOME/box >/tmp/doc
hew limit --pids 7 </tmp/doc | hew enter -- true; echo $?
hew cgroup-init >/dev/null; echo $?
hew limit --pids 7 </tmp/doc | hew enter -- true; echo $?
END
    setpriv --reuid nobody --clear-groups sh /tmp/as-user
    ls -d u/*/`,
  )
  assert.is(stdout, '125\n0\n0\nu/other-procs/\n', stderr)
})

// Theirs go to the kernel's own root: not on a machine that somebody works on.
if (IN_GUEST)
  requires(
    test,
    'root',
    'cgroup2',
    'crun',
    'runc',
  )('crun, runc and hew make the same of a document', () => {
    const {stdout, stderr} = run(
      '/bin/sh',
      [
        '-c',
        `hew() { '${HEW}' "$@"; }
        cd $(mktemp -d)
        echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
        hew mkroot --with sh,sleep "$PWD/box" |
          hew limit --memory 80M --swap 1M --memory-high 60M --cpu 5% --cpu-weight 50 --pids 30 |
          sed 's/"args":\\["sh"\\]/"args":["sleep","100"]/' >config.json
        values() {
          until directory=$(find /sys/fs/cgroup -type d -name "$1") && p=$(cat "$directory/cgroup.procs") &&
            [ "$(cat "/proc/$p/comm")" = sleep ]; do sleep 0.1; done 2>/dev/null
          (cd "$directory" && grep . memory.max memory.swap.max memory.high cpu.max cpu.weight pids.max) | tr '\\n' ' '
          echo
          kill -KILL $p
          wait
        }
        for runtime in crun runc; do $runtime run --bundle . hewtest & values hewtest; $runtime delete -f hewtest; done
        hew enter <config.json & values box`,
      ],
      {timeout: 60_000},
    )
    const [crun, runc, ours] = stdout.split('\n').map(line => line.trim())
    assert.is(
      ours,
      'memory.max:83886080 memory.swap.max:1048576 memory.high:62914560 cpu.max:5000 100000 cpu.weight:50 pids.max:30',
      stderr,
    )
    assert.equal([crun, runc], [ours, ours])
  })

if (!V2)
  asRoot('cgroup v1 needs no preparation', () => {
    const {stdout, status} = run(HEW, ['cgroup-init'])
    assert.is(stdout, 'cgroups  v1, whose controllers need no preparation\n')
    assert.is(status, 0)
  })

if (!V2)
  asRoot('a hierarchy that something else is mounted over is not there', () => {
    const script = `
      set -- $(grep -E ' - cgroup .*[ ,]pids(,|$)' /proc/self/mountinfo)
      mount -t tmpfs none "$5"
      hew mkroot --rm --with true | hew limit --pids 5 | hew enter -- true`
    const {stderr, status} = run('unshare', ['--mount', 'bash', '-c', script], {
      env: {PATH: `${dirname(HEW)}:${process.env.PATH}`},
    })
    assert.match(
      stderr,
      /^hew enter: the limit of pids cannot be set: (this machine has no pids controller|\S+ has only the controllers .*): see 'hew check'\n$/,
    )
    assert.is(status, 125)
  })

test.run()
