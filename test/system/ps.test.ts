import {chmodSync, mkdirSync, writeFileSync} from 'node:fs'
import {basename} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, readyForLimits, requires, run, scratch} from '../support.ts'

/** `hew ps` beside real containers: those that hew has made, and those that were made by hand. */

const asRoot = requires(test, 'root')
const withFuse = requires(test, 'root', 'fuse')
const asUser = requires(test, 'root', 'setpriv')
const here = scratch()
chmodSync(here, 0o755)
readyForLimits()

const root = `${here}/ps-${process.pid}`
run(HEW, ['mkroot', '-q', '--with', 'bash,sh,sleep,cat,true,mount,mkdir', root])
writeFileSync(`${root}/etc/passwd`, 'root:x:0:0::/:/bin/sh\n\x1b[31mwww:x:33:33::/:/bin/sh\n')

interface Process {
  pid: number
  pidInside: number | null
  ppid: number
  uid: number
  uidInside: number
  user: string | null
  name: string
  args: string[]
}

// biome-ignore lint/suspicious/noExplicitAny: the shape is what is tested
type Shape = any

/**
 * Runs a script in a PID namespace of its own, where nothing outlives it, and `hew ps` sees nobody else's containers. `run COMMAND...`
 * starts hew in the background and lets it end properly, `hand COMMAND...` what may just die; `up N MARK` waits for N arguments MARK in containers.
 */
function lab(script: string): {stdout: string; stderr: string; json: Shape[]} {
  const all = `
    mount -t tmpfs none /run || exit 99
    set -u; hew='${HEW}'; root='${root}'; here='${here}'; started= from=/dev/null
    hew() { "$hew" "$@"; }
    run() { "$@" <$from >"$here/out" 2>&1 & started="$! $started"; }
    hand() { "$@" </dev/null >/dev/null 2>&1 & }
    trap '[ -z "$started" ] || { kill $started; wait $started; } 2>/dev/null' EXIT
    up() { for i in $(seq 200); do [ "$(hew ps </dev/null | grep -o "\\"$2\\"" | wc -l)" -ge "$1" ] && return; sleep 0.1; done
      echo "never up: $2" >&2; cat "$here/out" >&2; exit 99; }
    ${script}`
  const outcome = run(
    'unshare',
    ['--pid', '--mount', '--fork', '--kill-child', '--mount-proc', '/bin/bash', '-c', all],
    {timeout: 60_000},
  )
  assert.is.not(outcome.status, 99, outcome.stderr)
  assert.is(run('find', ['/sys/fs/cgroup', '-type', 'd', '-name', `*${basename(root)}*`]).stdout, '')
  const json = outcome.stdout.split('\n').filter(line => line.startsWith('{'))
  return {...outcome, json: json.map(line => JSON.parse(line))}
}

/** The container in which a process has this argument. */
function withArgument(json: Shape, mark: string): Shape {
  const found = json.containers.filter((c: Shape) => c.processes.some((p: Process) => p.args.includes(mark)))
  assert.is(found.length, 1, JSON.stringify(json))
  return found[0]
}

asRoot(
  'a container of hew: its root, namespaces, limits, and processes with their PIDs and users inside',
  () => {
    const {json, stderr} = lab(`
    hew copy-deps -r "$root" true | hew limit --memory 80M --pids 9 --cpu 50% >"$here/doc"
    from="$here/doc"
    run "$hew" enter -- sh -c 'trap exit TERM; sleep 7101 & sleep 7102 & wait'
    up 1 7102
    hew ps </dev/null`)
    const found = withArgument(json[0], '7101')
    assert.is(found.status, 'running', stderr)
    assert.is(found.root, root)
    assert.equal([...found.namespaces].sort(), ['cgroup', 'ipc', 'mount', 'network', 'pid', 'user', 'uts'])
    assert.is(found.memoryLimitBytes, 83886080)
    assert.is(found.pidsLimit, 9)
    assert.is(found.cpuLimitCores, 0.5)
    assert.is(found.pids, 3)
    assert.ok(found.memoryBytes > 10_000 && found.memoryBytes < 83886080, `${found.memoryBytes}`)
    assert.is(found.oomKills, 0)
    const [first, ...others] = found.processes as Process[]
    assert.equal([first!.pid, first!.pidInside, first!.uidInside, first!.user], [found.pid, 1, 0, 'root'])
    assert.equal(
      others.map(({name, ppid}) => [name, ppid]),
      [
        ['sleep', first!.pid],
        ['sleep', first!.pid],
      ],
    )
    assert.ok(others.every(({pid, pidInside}) => pidInside! > 1 && pidInside !== pid))
  },
)

asRoot(
  "by hand: the lesson's unshare, a shared PID namespace with a root of its own, a namespace in a namespace",
  () => {
    const {json} = lab(`
    hand unshare --mount --uts --ipc --net --pid --fork --user --map-root-user chroot "$root" sh -c 'sleep 7201; true'
    hand unshare --mount chroot "$root" sleep 7202
    hand unshare --pid --fork sh -c 'unshare --pid --fork sleep 7203; true'
    hand unshare --mount sleep 7204
    hand unshare --net --uts sleep 7205
    hand chroot "$root" sleep 7206
    up 1 7201; up 1 7202; up 1 7203
    hew ps --all </dev/null`)
    const one = withArgument(json[0], '7201')
    assert.equal([one.name, one.root], [null, root])
    assert.equal([...one.namespaces].sort(), ['ipc', 'mount', 'network', 'pid', 'user', 'uts'])
    assert.equal(
      one.processes.map((p: Process) => [p.name, p.pidInside, p.user]),
      [
        ['sh', 1, 'root'],
        ['sleep', 2, 'root'],
      ],
    )
    const two = withArgument(json[0], '7202')
    assert.equal([two.root, two.namespaces, two.processes.length], [root, ['mount'], 1])
    assert.is(two.processes[0].pidInside, null)
    const three = withArgument(json[0], '7203')
    assert.equal(
      three.processes.map((p: Process) => [p.name, p.pidInside]),
      [
        ['sh', 1],
        ['unshare', 2],
        ['sleep', 3],
      ],
    )
    // The machine's root in a mount namespace of its own is a daemon's sandbox; the others are no containers at all.
    const plain = (json[0].processes as Process[]).map(({args}) => args.at(-1))
    for (const mark of ['7204', '7205', '7206']) assert.ok(plain.includes(mark), mark)
  },
)

asRoot('NAME and PID: the container of a process, of hew that waits for it; what there is none of', () => {
  const {stdout, stderr, json} = lab(`
    run "$hew" enter -r "$root" -- sleep 7301
    up 1 7301
    hew ps $! </dev/null
    first=$(cat /proc/$!/task/$!/children)
    hew ps $first </dev/null
    printf '{"ociVersion":"1.0.2","id":"x","status":"running","pid":%d,"bundle":"/b"}\\n' $first | hew ps
    hew ps 1 </dev/null; echo $?
    hew ps 4194305 </dev/null; echo $?
    hew ps nosuch </dev/null; echo $?
    echo '{"ociVersion":"1.0.2"}' | hew ps; echo $?
    true | hew ps; echo $?`)
  assert.is(json.length, 3, stderr)
  for (const shown of json) {
    assert.is(shown.containers.length, 1)
    withArgument(shown, '7301')
  }
  assert.equal(stdout.split('\n').slice(3).join(' ').trim(), '125 125 125 125 125')
  assert.equal(stderr.trimEnd().split('\n'), [
    "hew ps: the process 1 is in no container: 'hew ps --all' shows it",
    'hew ps: there is no process 4194305',
    "hew ps: no container is called nosuch: 'hew ps' shows all there are",
    "hew ps: what comes through the pipe is no container that runs: 'hew enter --detach' prints one's state",
    'hew ps: nothing came through the pipe: the command before it failed, or it prints no document',
  ])
})

asRoot(
  'named and detached containers: from the pipe, frozen, ended, and when their supervisor was killed',
  () => {
    const {json, stderr, stdout} = lab(`
    hew enter --detach --name web -r "$root" -- sleep 7701 | hew ps
    hew freeze web; hew ps web </dev/null; hew thaw web
    hew ps wbe </dev/null; echo $?
    hew enter --detach --name gone -r "$root" -- sleep 7702 >/dev/null
    kill -9 $(hew ps gone </dev/null | grep -o '"pid":[0-9]*' | head -1 | cut -d: -f2 | xargs -I{} cut -d' ' -f4 /proc/{}/stat)
    hew kill web; hew wait web >/dev/null
    hew ps </dev/null
    hew enter --detach --name brief -r "$root" -- true >'${here}/brief'; hew wait brief >/dev/null
    cat '${here}/brief' | hew ps; hew rm brief
    cat '${here}/brief' | hew ps
    hew rm web`)
    const [piped, frozen, ended, brief] = json
    assert.equal([brief.containers[0].name, brief.containers[0].status], ['brief', 'stopped'])
    assert.match(stderr, /^hew ps: the container brief of the pipe is no more$/m)
    assert.is(piped.containers.length, 1, stderr)
    const [web] = piped.containers
    assert.equal([web.name, web.status, web.detached, web.root], ['web', 'running', true, root])
    assert.equal([web.processes[0].pidInside, web.pid], [1, web.processes[0].pid])
    assert.ok(Math.abs(Date.now() - Date.parse(web.createdAt)) < 60_000, web.createdAt)
    assert.is(frozen.containers[0].status, 'frozen', stdout)
    assert.match(stderr, /^hew ps: no container is called wbe: did you mean web\?$/m)
    assert.equal(
      ended.containers.map((c: Shape) => [c.name, c.status, c.pid, c.processes.length]),
      [['web', 'stopped', null, 0]],
    )
  },
)

asUser('an ordinary user: its own container whole, of others what everybody may see', () => {
  mkdirSync(`${here}/user`, {recursive: true})
  const {json, stderr} = lab(
    `
    cd /
    user='setpriv --reuid 1234 --regid 1234 --clear-groups env HOME=/'
    hand unshare --pid --fork --mount --kill-child sh -c 'sleep 7401; true'
    hand $user unshare --user --map-root-user --pid --fork --mount chroot "$root" sleep 7402
    up 1 7401; up 1 7402
    $user "$hew" ps </dev/null`,
  )
  const others = withArgument(json[0], '7401')
  assert.equal([others.namespaces, others.root], [null, null], stderr)
  assert.equal(
    others.processes.map((p: Process) => [p.name, p.pidInside, p.uid]),
    [
      ['sh', 1, 0],
      ['sleep', 2, 0],
    ],
  )
  const own = withArgument(json[0], '7402')
  assert.equal([...own.namespaces].sort(), ['mount', 'pid', 'user'])
  assert.equal([own.root, own.processes[0].user, own.processes[0].uid], [root, 'root', 1234])
})

asRoot(
  'in a container: what is in there, with a /proc of its own, with hidepid, and without any container',
  () => {
    const {json, stderr} = lab(`
    hew enter -r "$root" --bind "$hew:/bin/hew" -- sh -c 'hew ps; hew ps --all'
    hew enter -r "$root" --cap-add ALL --bind "$hew:/bin/hew" -- sh -c 'mount -t proc -o hidepid=2 none /proc && hew ps --all'
    unshare --pid --fork sh -c "'$hew' ps --all </dev/null; true"`)
    const [none, all, hidden, foreign] = json
    assert.equal(none, {containers: []}, stderr)
    assert.equal(all.containers, [])
    assert.equal(
      all.processes.map((p: Process) => p.pid === 1 && p.name),
      ['sh', false],
    )
    assert.is(hidden.processes.length, 2)
    // /proc is the machine's: so are the PIDs, and hew itself is in a container.
    const [own] = foreign.containers.filter((c: Shape) =>
      c.processes.some((p: Process) => p.args.includes('ps')),
    )
    assert.is(own?.processes[0].pidInside, 1)
    assert.ok(foreign.processes.some((p: Process) => p.pid === 1))
  },
)

asRoot('processes that come and go, five hundred in a second: whoever is shown is whole', () => {
  const {json, stderr} = lab(`
    hand unshare --pid --fork sh -c 'while :; do (sh -c : & sh -c : & sleep 0.01 & wait); done; : 7501'
    until hew ps --all </dev/null | grep -q 7501; do sleep 0.1; done
    for i in 1 2 3 4 5 6 7 8 9 10; do hew ps --all </dev/null || exit 99; done`)
  assert.is(json.length, 10)
  assert.is(stderr, '')
  for (const {containers} of json) {
    const storm = containers.find((c: Shape) =>
      c.processes[0]?.args.some((arg: string) => arg.includes('7501')),
    )
    assert.ok(storm, JSON.stringify(containers))
    assert.is(storm.processes[0].pidInside, 1)
    for (const one of storm.processes as Process[]) assert.ok(one.pid > 0 && one.pidInside! > 0 && one.name)
  }
})

asRoot('a hostile name, command line and user come to a terminal as text', () => {
  const {stdout} = lab(`
    cp "$(command -v sleep)" "$root/bin/$(printf 'a) Z\\n\\033[1m')"
    run "$hew" enter -r "$root" --map auto --user 33 -- "$(printf 'a) Z\\n\\033[1m')" 7601
    up 1 7601
    script -qec "stty cols 90; '$hew' ps" /dev/null </dev/null | cat -v`)
  const line = stdout.split('\n').find(line => line.includes('7601'))
  assert.match(
    line ?? stdout,
    /^ *\d+ +1 \\x1b\[31mwww +\d+\.\d +[\d.]+ [KM]iB S +0:00 a\) Z\\x0a\\x1b\[1m 7601\^M$/,
  )
})

withFuse('a root whose files are served by a process that never answers', () => {
  const {json, stderr} = lab(`
    served="$here/served"
    hew mkroot -q --with sleep "$served" >/dev/null
    mkdir "$served/fuse"; ln -sf /fuse/passwd "$served/etc/passwd"
    hand unshare --mount --pid --fork bash -c 'exec 3<>/dev/fuse
      mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none "$1/fuse" && exec chroot "$1" sleep 7801' - "$served"
    for i in $(seq 50); do timeout -s KILL 10 "$hew" ps </dev/null >"$here/shape" || exit 99
      grep -q '"7801"' "$here/shape" && break; sleep 0.1; done
    cat "$here/shape"`)
  const [sleep] = withArgument(json[0], '7801').processes
  assert.equal([sleep.user, sleep.uidInside], [null, 0], stderr)
})

test.run()
