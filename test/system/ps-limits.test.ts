import {statfsSync} from 'node:fs'
import {dirname} from 'node:path'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {inFreshContainer} from '../guest/fresh.ts'
import {HEW, requires, run} from '../support.ts'

/** What `hew ps` tells of limits that are felt, of v1 and v2 alike: throttled, killed, refused. */

const asRoot = requires(test, 'root')
const V2 = statfsSync('/sys/fs/cgroup').type === 0x63677270

asRoot('limits that are felt: throttled, killed for want of memory, forks refused', () => {
  const script = `
    mount -t tmpfs none /run || exit 99
    here=$(mktemp -d)
    trap 'kill $p; wait $p; rm -rf "$here"' EXIT
    ${V2 ? 'hew cgroup-init >/dev/null || exit 99' : ''}
    hew mkroot --with bash,sh,tail,sleep,true "$here/felt" |
      hew limit --memory 40M --pids 4 --cpu 10% >"$here/doc"
    hew enter --name felt -- bash -c '
      trap exit TERM
      (tail /dev/zero)
      for i in 1 2 3 4 5 6; do sleep 100 & done
      while :; do :; done' <"$here/doc" 2>/dev/null & p=$!
    for i in $(seq 100); do
      sleep 0.3
      hew ps felt </dev/null >"$here/shape" 2>/dev/null || continue
      grep -q '"oomKills":[1-9].*"throttledPeriods":[1-9].*"forksRefused":[1-9]' "$here/shape" && break
    done
    cat "$here/shape"
    script -qec 'stty cols 400; hew ps felt' /dev/null </dev/null`
  const env = {PATH: `${dirname(HEW)}:${process.env.PATH}`}
  const words = ['--pid', '--mount', '--fork', '--kill-child', '--mount-proc', '/bin/bash', '-c', script]
  const {stdout, stderr} = V2
    ? inFreshContainer('debian', ['/bin/bash', '-c', script], {timeout: 120_000})
    : run('unshare', words, {env, timeout: 120_000})
  const [line = '', ...shown] = stdout.split('\n')
  assert.ok(line.startsWith('{'), stdout + stderr)
  const [felt] = JSON.parse(line).containers
  assert.equal([felt.memoryLimitBytes, felt.cpuLimitCores, felt.pidsLimit], [40 << 20, 0.1, 4])
  assert.ok(felt.oomKills >= 1 && felt.throttledPeriods >= 1 && felt.forksRefused >= 1, line)
  assert.ok(felt.throttledSeconds > 0 && felt.cpuSeconds > 0, line)
  assert.ok(felt.memoryPeakBytes > 30 << 20 && felt.memoryBytes < 40 << 20, line)
  assert.is(felt.pids, 4)
  assert.match(
    shown.join('\n'),
    /of 40 MiB \| \d+ killed \| CPU \d+\.\d s, limit 10% of a CPU \| held back \d+\.\d s \| pids 4 of 4 \| \d+ forks? refused/,
  )
})

test.run()
