import {spawn} from 'node:child_process'
import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {inFreshContainer} from '../guest/fresh.ts'
import {HEW, type Outcome, readyForLimits, requires, run, SEE, scratch, until} from '../support.ts'

/** The whole lesson, as `make demo` shows it. */

const tests = suite('demo')
readyForLimits()

/** Cgroups, states and directories that a lesson has made: those with its number. */
function left(pid: string): string[] {
  const names = [`lesson-${pid}*`, `by-hand-${pid}`]
  const where = ['/sys/fs/cgroup', '/run/hew', '/var/lib/hew'].filter(at => fs.existsSync(at))
  const words = names.flatMap((name, i) => [...(i > 0 ? ['-o'] : []), '-name', name])
  return run('find', [...where, ...words])
    .stdout.split('\n')
    .filter(line => line !== '')
}

/** The lines of the README's picture, as text. */
function svgText(): string {
  const entities: Record<string, string> = {'&lt;': '<', '&gt;': '>', '&amp;': '&'}
  const svg = fs.readFileSync(path.resolve(import.meta.dirname, '../../lib/demo/demo.svg'), 'utf8')
  return svg.replace(/<[^>]*>/g, '').replace(/&\w+;/g, entity => entities[entity]!)
}

/** What is typed, and what hew says: but for numbers, the name of a directory, and where lines are folded. */
function told(text: string): string[] {
  const lines = [...text.matchAll(/^ +(?:(?:by hand|hew) {2}\$|hew \w+:) (.*)$/gm)].map(([line]) =>
    line.trim(),
  )
  return lines.map(line =>
    line
      .replace(/\S*hew-demo\S*/g, 'DIR')
      .replace(/lesson(-\d+)?/g, 'lesson')
      .replace(/\d+/g, 'N')
      .replace(/^(hew \w+: [^:]*):.*/, '$1'),
  )
}

/** Its own directory for what is temporary, in which nothing may stay. */
function place(): {env: Record<string, string>; temporary: string} {
  const temporary = scratch()
  return {env: {TMPDIR: temporary, DEMO: 'fast'}, temporary}
}

function demo(env: Record<string, string | undefined> = {}): Outcome {
  const own = place()
  const outcome = run(HEW, ['demo'], {env: {...own.env, ...env}, timeout: 600_000})
  assert.equal(fs.readdirSync(own.temporary), [])
  return outcome
}

requires(
  tests,
  'root',
  'bash',
  'debootstrap',
)('each line of it does what it says, and nothing is left', () => {
  const {stdout, stderr, status} = demo()
  assert.is(status, 0, `${stderr}${stdout}`)
  assert.is(stderr, '')
  assert.match(stdout, /^ +✓ \d+ lines did what they say$/m)
  // Everything that the lesson takes is here, but for the time for a whole Debian.
  assert.equal(stdout.match(/not typed: .*/g), ['not typed: it takes a minute: not with DEMO=fast'])
  const heading = /^\d\.\d+ +(.*)$/gm
  const titles = [...stdout.matchAll(heading)].map(([, title]) => title)
  for (const title of [
    'Namespaces',
    'Memory: after, with 80 MiB',
    'CPU: after, with 5% of a core',
    'A fork bomb',
  ])
    assert.ok(titles.includes(title), title)
  assert.not.match(stdout, /\x1b/)
  const picture = told(svgText())
  assert.ok(picture.length >= 8, picture.join('\n'))
  const now = told(stdout)
  assert.equal(
    picture.filter(line => !now.includes(line)),
    [],
    'the picture is stale: make picture',
  )
  assert.equal(left(/--name lesson-(\d+) /.exec(stdout)![1]!), [])
})

requires(
  tests,
  'root',
  'bash',
  'native',
)('a step that does not do what it says is shown, and the status is 1', () => {
  const liar = scratch()
  const ldd = run('which', ['ldd']).stdout.trim()
  const lie = 'libnowhere.so.1 => /lib/libnowhere.so.1 (0x0)'
  fs.writeFileSync(path.join(liar, 'ldd'), `#!/bin/sh\n${ldd} "$@"; echo '${lie}'\n`, {mode: 0o755})
  const {stdout, status} = demo({PATH: `${liar}:${process.env.PATH}`})
  assert.is(status, 1)
  assert.match(stdout, /✗ ldd alone names libnowhere\.so\.1/)
  assert.match(stdout, /✗ \d+ of \d+ lines did not do what they say/)
})

const busybox = requires(tests, 'root', 'cgroup2', 'busybox')

/** The lesson in a fresh BusyBox, behind a line of a shell; nothing of what is in / may change. */
function inBusyBox(before: string): string {
  const line = `${before} mkdir /run /var; ls / >/root/before
    hew demo --pace fast; echo "status $?"; ls / | diff /root/before - && echo the same`
  const {stdout, stderr} = inFreshContainer('busybox', ['/bin/sh', '-c', line], {timeout: 600_000})
  assert.is(stderr, '')
  assert.not.match(stdout, /✗/)
  assert.match(stdout, /\nstatus 0\nthe same\n$/)
  return stdout
}

busybox('in a BusyBox, what takes bash is not typed, and the rest does what it says', () => {
  const stdout = inBusyBox('')
  assert.match(stdout, /^ +not typed: there is no bash here$/m)
  assert.match(stdout, /at the most \d+ MiB of 80 MiB were in use/)
})

// "$memory/memory.max" would be a file of /, and the fork bomb would find its limit there.
busybox('where no cgroup can be limited, nothing is typed that would limit one', () => {
  const stdout = inBusyBox('hew cgroup-init -q && hew limit --pids 500 1 >/dev/null;')
  assert.match(stdout, /^ +not typed: hew is in the cgroup \S+, which is limited itself/m)
})

tests('with nothing to type into, or no place for it, it says what to do', () => {
  const {stdout, stderr, status} = run(HEW, ['demo'], {env: {TMPDIR: '/nowhere'}})
  assert.equal([stdout, status], ['', 125])
  assert.is(
    stderr,
    'hew demo: the lesson takes a directory in /nowhere: it is not there: TMPDIR=DIR names another place\n',
  )
})

/** Interrupts a lesson once it shows something. */
async function interrupted(shown: RegExp, signal: NodeJS.Signals): Promise<void> {
  const {env, temporary} = place()
  const child = spawn(HEW, ['demo'], {
    env: {PATH: process.env.PATH, HOME: process.env.HOME, ...env},
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', data => {
      text += data
    })
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  try {
    await until(`${shown}`, () => shown.test(text), 120)
    child.kill(signal)
    assert.is(await ended, 130, text)
  } finally {
    child.kill('SIGKILL')
  }
  assert.match(text, /^hew demo: interrupted; what it had made is removed$/m)
  assert.equal(left(`${child.pid}`), [])
  assert.equal(fs.readdirSync(temporary), [])
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8')
  assert.not.ok(mounts.includes(temporary))
}

// With a container in the background, cgroups of both kinds, and a line that is being typed.
requires(
  tests,
  'root',
  'bash',
  'native',
)('interrupted in the middle, it leaves nothing', () => interrupted(/^4\.2 [\s\S]*by hand/m, 'SIGINT'))

requires(
  tests,
  'root',
  'bash',
  'native',
)('nor at its very beginning, or when it is ended by another', async () => {
  await interrupted(/^1\.1 /m, 'SIGTERM')
  await interrupted(/^2\.1 [\s\S]*by hand/m, 'SIGHUP')
})

const onTerminal = requires(tests, 'root', 'bash', 'expect', 'native')

/** Types at an interactive bash, in which $demo is the lesson; all that was shown. Nothing temporary stays, and the terminal is as it was. */
function onScreen(script: string, env: Record<string, string>): string {
  const {temporary} = place()
  const file = path.join(scratch(), 'script.exp')
  const state = 'send "stty -a | md5sum\\r"; see {[0-9a-f]{32}}; see {outside> }'
  fs.writeFileSync(
    file,
    `
    set timeout 60
    set stty_init "rows 24 cols 72"
    spawn bash --norc --noprofile -i
    ${SEE}
    ${state}
    ${script}
    see {outside> }
    send "echo status-$?\\r"
    see {status-130}
    see {outside> }
    ${state}
    send "exit\\r"
    expect eof
  `,
  )
  const {stdout, status} = run('expect', ['-f', file], {
    env: {PS1: 'outside> ', TERM: 'xterm', TMPDIR: temporary, demo: `'${HEW}' demo`, ...env},
    timeout: 120_000,
  })
  assert.is(status, 0, stdout)
  assert.match(stdout, /hew demo: interrupted; what it had made is removed\r/)
  assert.is(new Set(stdout.match(/[0-9a-f]{32}/g)).size, 1, stdout)
  assert.equal(fs.readdirSync(temporary), [])
  return stdout
}

const PROMPT = 'any key goes on, q ends'
const bold = (text: string): string => `\\x1b\\[1m${text}\\x1b`

onTerminal('DEMO=step: each key is one step, whatever it sends; Ctrl-Z stops it, q ends it', () => {
  const shown = onScreen(
    `
    send "eval \\$demo\\r"
    see {${bold('This machine')}}
    see {${PROMPT}}
    send " "
    see {${bold('A root is a directory')}}
    see {${PROMPT}}
    send "\\x1b\\[C"
    see {${bold('With something in it')}}
    see {${PROMPT}}
    send "\\x1a"
    see {Stopped}
    see {outside> }
    send "fg\\r"
    see {${PROMPT}}
    send "x"
    see {${bold('Entering fails')}}
    see {${PROMPT}}
    send "q"`,
    {DEMO: 'step'},
  )
  assert.not.match(shown, /What bash needs/)
})

onTerminal('its own pace; a narrow terminal, no colours with NO_COLOR; Ctrl-C leaves nothing', () => {
  const shown = onScreen(
    `
    send "eval \\$demo\\r"
    see {Namespaces}
    see {7 of 7 are others inside}
    send "\\x03"`,
    {NO_COLOR: '1'},
  )
  const [, lesson = ''] =
    /(1 {2}A root of[\s\S]*)hew demo: interrupted/.exec(shown.replaceAll('\r', '')) ?? []
  assert.not.match(lesson, /\x1b/)
  assert.equal(
    lesson.split('\n').filter(line => line.length > 72),
    [],
  )
  assert.match(lesson, /^ +by hand {2}\$ uname -sr; id -u$/m)
})

tests('it has no operands, and knows two paces', () => {
  assert.equal(run(HEW, ['demo', 'now']), {
    stdout: '',
    stderr: "hew demo: now: demo has no operands\nhew demo: see 'hew demo --help'\n",
    status: 2,
  })
  const {stderr, status} = run(HEW, ['demo'], {env: {DEMO: 'slow'}})
  assert.equal([stderr.split('\n')[0], status], ['hew demo: DEMO=slow: it is one of step, fast', 2])
})

tests.run()
