import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, type Outcome, requires, run, scratch, shellcheck, until} from '../support.ts'

/** `--dry-run` of what is done to containers that run: kill, freeze, thaw, rm. */

const asRoot = requires(test, 'root', 'busybox')
const here = scratch()
const root = `${here}/root`
const SHELLS = [['dash'], ['busybox', 'sh']]

interface Known {
  status: string
  pid: number | null
  processes: {name: string}[]
}

const known = (name: string): Known | undefined => {
  const {stdout, status} = hew('ps', '--json', name)
  return status === 0 ? JSON.parse(stdout).containers[0] : undefined
}

const WAITS = 'trap "exit 5" USR1; echo ready; while :; do sleep 0.1; done'
const names: string[] = []
process.on('exit', () => hew('rm', '-f', ...names.filter(name => known(name))))

/** A container in the background; it has set its trap when this returns. */
async function start(script = WAITS): Promise<string> {
  if (!fs.existsSync(root)) assert.is(hew('mkroot', '-q', root, '--with', 'sh,sleep').status, 0)
  const name = `living-${process.pid}-${names.length}`
  names.push(name)
  const {status, stderr} = hew('enter', '-d', '--name', name, '-r', root, 'sh', '-c', script)
  assert.is(status, 0, stderr)
  await until('the command is ready', () => hew('logs', name).stdout.includes('ready'), 30)
  return name
}

/** What the dry run prints, checked; it changes nothing. */
function scriptOf(...words: string[]): string {
  const {stdout, stderr, status} = hew(...words, '--dry-run')
  assert.equal([stderr, status], ['', 0])
  assert.is(shellcheck(stdout), '')
  return stdout
}

function done(shell: string[], script: string): void {
  const [program = '', ...words] = shell
  assert.equal(run(program, words, {input: script}), {stdout: '', stderr: '', status: 0})
}

asRoot('kill: the command gets the signal, and ends as it says', async () => {
  for (const shell of SHELLS) {
    const name = await start()
    const script = scriptOf('kill', '-s', 'USR1', name)
    assert.is(known(name)?.status, 'running')
    done(shell, script)
    assert.match(hew('wait', name).stdout, /"exitStatus":5|status 5/)
    hew('rm', name)
  }
})

asRoot('freeze, thaw: all of it stands still, and goes on', async () => {
  const name = await start()
  if (hew('freeze', name).status !== 0) return // no cgroup that could
  hew('thaw', name)
  for (const shell of SHELLS) {
    const [freeze, thaw] = [scriptOf('freeze', name), scriptOf('thaw', name)]
    assert.is(known(name)?.status, 'running')
    done(shell, freeze)
    assert.is(known(name)?.status, 'frozen')
    done(shell, thaw)
    assert.is(known(name)?.status, 'running')
  }
  assert.match(run(HEW, ['freeze', '--explain', name]).stderr, /^hew freeze: freeze \/.* {2}# ok$/m)
  hew('rm', '-f', name)
})

asRoot('kill --all: every process gets the signal', async () => {
  for (const shell of SHELLS) {
    // PID 1 is deaf to what it does not handle, and so waits until the other one has ended of it.
    const name = await start('sleep 60 & echo ready; wait; exit 3')
    done(shell, scriptOf('kill', '-s', 'TERM', '--all', name))
    assert.match(hew('wait', name).stdout, /"exitStatus":3|status 3/)
    hew('rm', name)
  }
})

asRoot('kill -s KILL --all, rm -f: every process ends, and nothing is left', async () => {
  for (const shell of SHELLS) {
    const name = await start('sleep 60 & sleep 60 & echo ready; wait')
    const directory = JSON.parse(hew('ps', '--json', name).stdout).containers[0]
    done(shell, scriptOf('kill', '-s', 'KILL', '--all', name))
    assert.match(hew('wait', name).stdout, /137/)
    done(shell, scriptOf('rm', name))
    assert.is(known(name), undefined)
    for (const at of Object.values<string>(directory.cgroups)) assert.not.ok(fs.existsSync(at))
  }
  for (const shell of SHELLS) {
    const name = await start()
    const script = scriptOf('rm', '-f', name)
    assert.is(known(name)?.status, 'running')
    done(shell, script)
    assert.is(known(name), undefined)
    assert.is(run('find', ['/sys/fs/cgroup', '-name', name]).stdout, '')
  }
  assert.ok(fs.existsSync(root))
})

/** Containers of its own kind, of which nobody else's command cleans up: one that died, and one whose removal was cut off. */
const DEAD = `
  mount -t tmpfs -o mode=700 tmpfs /run/hew
  hew mkroot --rm "$1" --with sh,sleep --json | hew enter -d --name "$2" -- sh -c 'sleep 600 & sleep 600' >/run/hew/.state
  groups=$(sed 's/.*hew.cgroups":"\\([^"]*\\)".*/\\1/' /run/hew/.state)
  if [ -n "$groups" ]; then mkdir "$(printf "$groups" | head -n 1)/inner"; fi
  supervisor=$(sed 's/.*supervisor":"\\([0-9]*\\) .*/\\1/' /run/hew/.state)
  mkdir /run/hew/.old-4194303-1-1
  rm /run/hew/.state
  kill -KILL "$supervisor"
  while kill -0 "$supervisor" 2>/dev/null; do sleep 0.1; done
  if [ -z "$3" ]; then hew rm --stale --explain
  else
    hew rm --stale --dry-run >"$1.script" || exit 99
    [ -d "/run/hew/$2" ] && [ -d "$1" ] || exit 98
    $3 "$1.script"; echo "status $?" >&2
  fi
  ls -A /run/hew "$1"; find /sys/fs/cgroup -name "$2"`

asRoot('rm --stale: what died is cleaned up, and what was cut off', () => {
  const one = `${here}/one's`
  const clean = (shell: string): Outcome =>
    run('unshare', [
      '-m',
      'sh',
      '-c',
      `hew() { '${HEW}' "$@"; }; ${DEAD}`,
      'sh',
      one,
      `stale-${process.pid}`,
      shell,
    ])
  const command = clean('')
  assert.match(command.stdout, /^removed (\S+)\nremoved (\S+)\n\/run\/hew:\n$/)
  assert.match(command.stderr, /^hew rm: (kill_all .*)?rm -rf \/run\/hew\/stale-\d+ {2}# ok$/m)
  for (const shell of SHELLS) {
    const {stdout, stderr} = clean(shell.join(' '))
    assert.is(stdout, '/run/hew:\n', stderr)
    assert.match(stderr, /^status 0$/m)
    assert.is(shellcheck(fs.readFileSync(`${one}.script`, 'utf8')), '')
  }
})

asRoot('rm -f of a state that is broken', () => {
  for (const shell of SHELLS) {
    const name = `broken-${process.pid}`
    fs.mkdirSync(`/run/hew/${name}`)
    fs.writeFileSync(`/run/hew/${name}/state.json`, 'nothing')
    const script = scriptOf('rm', '-f', name)
    assert.ok(fs.existsSync(`/run/hew/${name}`))
    done(shell, script)
    assert.not.ok(fs.existsSync(`/run/hew/${name}`))
  }
})

test.run()
