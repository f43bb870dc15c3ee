import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, type Outcome, readyForLimits, requires, run, scratch, shell} from '../support.ts'

/** `hew -c`: what the same pipe does in a shell. */

readyForLimits()
const here = scratch()
fs.chmodSync(here, 0o755)
// In the test kernel once is enough: it has no part in who reads what.
const asRoot = requires(test, 'root', 'native')
const root = `${here}/root`
fs.mkdirSync(root)
hew('copy-deps', '-q', '-r', root, 'sh', 'cat', 'true', 'ls')

/** The same commands in a shell. */
function inShell(line: string, options = {}): Outcome {
  return shell(
    line
      .split(' | ')
      .map(command => `hew ${command}`)
      .join(' | '),
    options,
  )
}

/** Paths that a root gets by itself are others each time. */
const same = (line: string, options = {}): Outcome => {
  const [one, other] = [run(HEW, ['-c', line], options), inShell(line, options)]
  assert.equal(one, other, line)
  return one
}

requires(test, 'root')('a pipe does what it does in a shell', () => {
  const done = same(
    "mkroot --empty --rm | copy-deps sh cat ls | limit --pids 20 | enter --hostname h -- sh -c 'ls /; cat; exit 3'",
  )
  assert.is(done.status, 3)
  assert.match(done.stdout, /^bin$/m)
  assert.equal(same(`mkroot --empty --into --json ${here}/one | limit --memory 80M`).status, 0)
  const {linux} = JSON.parse(
    run(HEW, ['-c', `mkroot --empty --into ${here}/one | limit --memory 80M`]).stdout,
  )
  assert.is(linux.resources.memory.limit, 80 << 20)
  assert.is(run(HEW, ['-c', `hew mkroot --empty -q ${here}/two`]).stdout, `${here}/two\n`)
})

asRoot('an archive, and a document from outside', () => {
  run('tar', ['-C', root, '-cf', `${here}/root.tar`, '.'])
  const unpacked = same(`mkroot --rm --from ${here}/root.tar | enter -- ls /usr/bin/cat`)
  assert.is(unpacked.stdout, '/usr/bin/cat\n', unpacked.stderr)
  const input = shell(`hew mkroot --from ${root} --json ${here}/copy`).stdout
  assert.is(
    same('limit --pids 20 | enter -- sh -c "cat; echo done"', {input: `${input}more\n`}).stdout,
    'done\n',
  )
  assert.is(same('enter -- cat', {input: `${input}more\n`}).stdout, 'more\n')
})

asRoot('what nobody has read is the stdin of the last one', () => {
  assert.match(same(`mkroot --empty --into ${here}/one | enter -r ${root} cat`).stdout, /^\{"ociVersion"/)
  // In a shell mkroot says so when its reader is the faster one.
  const unread = run(HEW, ['-c', `mkroot --empty --into ${here}/one | enter -r ${root} true`])
  assert.equal(unread, {stdout: '', stderr: '', status: 0})
})

// Only lines in which each command waits for the one before: in a shell the others say what they have to say in any order.
asRoot('a failure in the beginning, in the middle, at the end', () => {
  for (const line of [
    `mkroot --empty ${root} | limit --pids 3 | enter -- true`,
    `mkroot --empty --into ${here}/one | copy-deps no-such-program-here | limit --pids 3 | enter -- true`,
    `mkroot --empty --into ${here}/one | limit --pids 3 | enter -- no-such-command`,
    `mkroot --empty --into ${here}/one | limit | enter -r ${root} -- sh -c 'cat > /dev/null; exit 9'`,
  ]) {
    const done = same(line)
    assert.not.equal(done.status, 0, line)
  }
})

asRoot('the state of a container goes on through the pipe', () => {
  const done = run(HEW, ['-c', `enter -d -r ${root} sh -c 'exit 5' | wait`])
  assert.is(done.status, 5, done.stderr)
  assert.is(JSON.parse(done.stdout).exitStatus, 5)
  assert.is(hew('rm', JSON.parse(done.stdout).id).status, 0)
})

test('a command line that cannot be understood stops all of them', () => {
  const fresh = `${here}/never`
  const done = run(HEW, ['-c', `mkroot --empty ${fresh} | limit --bogus | enter --more`])
  assert.is(done.status, 2)
  assert.equal(done.stdout, '')
  assert.equal(done.stderr.split('\n').slice(0, 3), [
    'hew limit: unknown option --bogus',
    "hew limit: see 'hew limit --help'",
    'hew enter: unknown option --more',
  ])
  assert.is(fs.existsSync(fresh), false)
  for (const [words, why] of [
    [[], /^hew: -c takes one word/],
    [['mkroot', 'enter'], /^hew: -c takes one word/],
    [['mkroot > x'], /^hew: -c: ">" at "> x": nothing is redirected/],
    [['ls | enter'], /^hew: -c: there is no command ls/],
    [['hew | enter'], /^hew: -c: there is no command behind hew/],
  ] as const) {
    const {status, stderr} = hew('-c', ...words)
    assert.is(status, 2)
    assert.match(stderr, why)
  }
})

test.run()
