import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {COMMON, type Command} from '../../lib/cli/command.ts'
import {loadAll} from '../../lib/cli/commands.ts'
import type {Options} from '../../lib/cli/options.ts'
import {HEW, hew, type Outcome, requires, run, scratch} from '../support.ts'

/** Every line that the help, the man pages and the README tell people to type is typed. */

const tests = suite('examples')
const asRoot = requires(tests, 'root', 'jq', 'native')
const here = scratch()
const commands = await loadAll()
const README = fs.readFileSync('README.md', 'utf8')

fs.mkdirSync(path.join(here, 'bin'))
fs.symlinkSync(HEW, path.join(here, 'bin/hew'))
hew('link', path.join(here, 'bin'))

/** A machine of its own as far as the lines can tell: names of containers, made roots and processes go with it. */
const place = (): string => `
  mount -t tmpfs tmpfs /run && mkdir -p /var/lib/hew && mount -t tmpfs tmpfs /var/lib/hew &&
    mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir new src bin || exit 99
  ended() {
    for at in /run/hew/*/; do hew rm -f "$(basename "$at")"; done
    kill -KILL $(jobs -p); wait
    find /sys/fs/cgroup -depth -type d -name '${TOKEN}-*' -exec rmdir {} +
  } 2>/dev/null
  trap ended EXIT
`

/** Names in the lines that no test may touch on the machine itself. */
const INSTEAD: [from: RegExp, to: string][] = [
  [/\/(my-new|better)-root/g, '/mnt/new'],
  [/\/srv\/bookworm/g, '/mnt/bookworm'],
  [/\/src\b/g, '/mnt/src'],
  [/\/usr\/local\/bin/g, '/mnt/bin'],
  [/\b1234\b/g, '$pid'],
  [/\bdist\/hew\b/g, 'hew'],
]

const WEB =
  'rmdir new; hew mkroot --with sh,sleep new | hew enter --name web -d -- sh -c "echo Error: none; exec sleep 60" >&2'
const ENDED = `${WEB}; hew kill -s KILL web; hew wait web >&2`
/** `limit` leaves a cgroup behind that is named after it. */
const TOKEN = path.basename(here).replace(/^hew-test-/, 'eg-')
const PID = `cp "$(command -v sleep)" ${TOKEN}; ./${TOKEN} 60 & pid=$!`

/** What has to be there before a line, or why it is only read. */
const BEFORE: [line: RegExp, before: {line: string} | {unrun: string}][] = [
  [/--debootstrap/, {unrun: 'it takes a mirror of Debian; test/system/mkroot.test.ts has one of its own'}],
  [/^systemd-run/, {unrun: 'it takes systemd as PID 1'}],
  [/^hew demo/, {unrun: 'it takes a minute; test/system/demo.test.ts does it'}],
  [/^make /, {unrun: 'it is what runs this'}],
  [/--watch/, {unrun: 'it takes a terminal; test/system/ps-watch.test.ts has one'}],
  [/--name lesson/, {unrun: 'it takes a terminal; test/system/terminal.test.ts has one'}],
  [/^runc /, {unrun: 'test/system/pipe.test.ts does it'}],
  [/--from rootfs\.tar\.gz/, {line: 'hew mkroot -q --into new >&2; tar -C new -czf rootfs.tar.gz .'}],
  [/\.\/program/, {line: 'hew mkroot -q --empty --into new >&2; cp /bin/true program'}],
  [
    /^hew replay/,
    {line: 'hew mkroot -q --into new --with ls,true >&2; hew enter -r new --plan box.plan -- true'},
  ],
  [/-r .*--plan/, {line: 'hew mkroot -q --into new --with true >&2'}],
  [/-- ls -l/, {line: 'hew mkroot -q --into new --with ls >&2'}],
  [/^hew enter -d/, {line: 'hew mkroot -q --into new --with sh,sleep >&2'}],
  [/make -C/, {line: "printf 'all:\\n\\t@echo made\\n' > src/Makefile"}],
  [/^hew mkroot .*\/my-new-root/, {line: 'rmdir new'}],
  [
    /^hew ps box 1234/,
    {line: `${WEB.replaceAll('web', 'box')}; pid=$(hew ps --json | jq '.containers[0].processes[0].pid')`},
  ],
  [/1234/, {line: PID}],
  [/^hew (wait|rm web)/, {line: ENDED}],
  [/^hew logs -f/, {line: `${WEB}; (sleep 1; hew kill -s KILL web) &`}],
  [/\bweb\b/, {line: WEB}],
  [/\blesson$/, {line: WEB.replaceAll('web', 'lesson')}],
  [/^hew enter (--by-hand )?-r \/\S+$/, {line: 'hew copy-deps -q -r new bash >&2'}],
  [/cat data/, {line: 'seq 10 > data'}],
]

/** Lines whose exit status tells something else. */
const STATUS: [line: RegExp, status: number][] = [[/^hew wait web \|/, 0]]

function type(line: string): Outcome | undefined {
  const found = BEFORE.find(([pattern]) => pattern.test(line))?.[1]
  if (found && 'unrun' in found) return undefined
  const typed = INSTEAD.reduce((text, [from, to]) => text.replace(from, to), line)
  const script = `${place()}\n${found?.line ?? ':'}\n${typed}`
  const words = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', script]
  return run('unshare', words, {env: {PATH: `${here}/bin:${process.env.PATH}`}, cwd: here, timeout: 120_000})
}

function works(line: string): void {
  const outcome = type(line)
  if (!outcome) return
  const expected = STATUS.find(([pattern]) => pattern.test(line))?.[1] ?? 0
  assert.is(outcome.status, expected, `${outcome.stderr}${outcome.stdout}`)
}

const lines = new Map(commands.flatMap(({name, examples}) => examples.map(([line]) => [line, name] as const)))
for (const [line, name] of lines) asRoot(`hew help ${name}: ${line}`, () => works(line))

/** The indented lines of the README, without their comments. */
const indented = README.split('\n')
  .filter(line => /^ {4}\S/.test(line))
  .map(line => line.trim().replace(/\s+# .*$/, ''))
/** What hew says among them. */
const SAYS = /^hew \w+: /
/** The right column of the lesson. */
const lesson = README.split('\n')
  .filter(line => line.startsWith('| `'))
  .flatMap(line => [...(line.split(' | ').at(-1) ?? '').matchAll(/`(hew [^`]+)`/g)].map(([, span]) => span!))
const shown = [...new Set([...indented.filter(line => !SAYS.test(line)), ...lesson])]

for (const line of shown) if (!lines.has(line)) asRoot(`README: ${line}`, () => works(line))

/** What makes hew say what the README shows; the numbers are others each time. */
const SAID: [says: RegExp, line: string][] = [
  [
    /killed by its memory limit/,
    "hew mkroot --rm --with sh,yes,tr,head,grep | hew limit --memory 80M | hew enter -- sh -c 'yes | tr \\\\n x | head -c 200000000 | grep -c x'",
  ],
  [
    /refused .* forks/,
    "hew mkroot --rm --with sh,sleep,yes | hew limit --cpu 5% --pids 3 | hew enter -- sh -c 'yes >/dev/null & sleep 1; kill $!; wait; for i in 1 2 3 4; do sleep 1 & done'",
  ],
]

for (const line of indented.filter(line => SAYS.test(line)))
  asRoot(`README: what is said: ${line}`, () => {
    const makes = SAID.find(([says]) => says.test(line))?.[1]
    assert.ok(makes, 'what makes hew say this?')
    const alike = (text: string): string =>
      text.replace(/[\d.]+(?=[ )%;]|$)/g, 'N').replace(/(kill|fork)s?\b/g, '$1')
    const said = type(makes)!.stderr.trim().split('\n').map(alike)
    assert.ok(said.includes(alike(line)), `${alike(line)}\n${said.join('\n')}`)
  })

tests(
  'no example is passed over: the README shows them in one way, and each that is not typed says why',
  () => {
    assert.not.match(README, /^(```|~~~|\t| {5,}\S| {4}.*\\$)/m)
    assert.ok(lesson.length >= 10, lesson.join('\n'))
    const all = [...lines.keys(), ...shown]
    for (const [pattern] of [...BEFORE, ...STATUS])
      assert.ok(
        all.some(line => pattern.test(line)),
        `${pattern} is of no example`,
      )
  },
)

/** Why `hew WORDS...` cannot be typed: a command or an option that there is not. */
function wrong(words: string[], known: Command[]): string | undefined {
  const [name = '', ...rest] = words
  if (name === '' || /^(-c|--(help|version|licenses)|help|[A-Z]+)$/.test(name)) return undefined
  const command = known.find(command => command.name === name)
  if (!command) return `no command ${name}`
  const options = {...command.options, ...COMMON} as Options
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i]!
    if (word === '--') return undefined
    if (!word.startsWith('-') || word === '-') {
      if (command.stopEarly) return undefined
      continue
    }
    if (Object.values(options).some(({bare}) => bare?.test(word.slice(1)))) continue
    const [, long, short] = /^--([\w-]+)|^-(\w)/.exec(word) ?? []
    const option = long ? options[long] : Object.values(options).find(option => option.short === short)
    if (!option) return `${name} has no option ${word}`
    if (option.value !== undefined && !word.includes('=')) i++
  }
  return undefined
}

tests('what the README says that can be typed is what there is', () => {
  const spans = [...README.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!)
  const told = [...shown, ...spans, ...commands.flatMap(({examples}) => examples.map(([line]) => line))]
  const calls = told.flatMap(line =>
    line
      .split(/[|;()<>&#]|\$\(/)
      .map(part => part.trim().replace(/["']/g, '').split(/\s+/))
      .filter(([first]) => first === 'hew' || first === 'dist/hew'),
  )
  assert.ok(calls.length > 40, `${calls.length}`)
  const complaints = calls.flatMap(words => wrong(words.slice(1), commands) ?? [])
  assert.equal(complaints, [])
})

tests('the check of lines finds what is wrong in them', () => {
  assert.is(wrong(['frob'], commands), 'no command frob')
  assert.is(wrong(['mkroot', '--frob'], commands), 'mkroot has no option --frob')
  assert.is(wrong(['enter', '-r', 'x', '--', 'ls', '-l'], commands), undefined)
  assert.is(wrong(['enter', '-r', '--frob', '-Z'], commands), 'enter has no option -Z')
})

requires(
  tests,
  'groff',
  'mandoc',
  'native',
)('make man: a page for hew and for each command, without a warning', () => {
  const folder = path.join(here, 'man')
  const made = run('node', ['--no-warnings', '--import', 'tsx', 'lib/build/man.ts', folder])
  assert.equal([made.stderr, made.status], ['', 0])
  assert.equal(fs.readdirSync(folder).sort(), ['hew.1', ...commands.map(({name}) => `hew-${name}.1`)].sort())
  for (const file of fs.readdirSync(folder)) {
    const page = path.join(folder, file)
    const groff = run('groff', ['-man', '-ww', '-Tutf8', '-P-bcou', page])
    assert.equal([groff.stderr, groff.status], ['', 0])
    // Made anew by every build, and the same: it has no date.
    const complaints = run('mandoc', ['-Tlint', '-W', 'warning', page]).stdout
    assert.is(
      complaints
        .split('\n')
        .filter(line => line !== '' && !line.includes('missing date'))
        .join('\n'),
      '',
    )
    for (const title of ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'EXAMPLES', 'EXIT STATUS', 'FILES', 'SEE ALSO'])
      assert.match(groff.stdout, new RegExp(`^${title}$`, 'm'))
    const command = commands.find(({name}) => `hew-${name}.1` === file)
    const text = groff.stdout.replace(/-?\s+/g, '')
    for (const name of Object.keys(command?.options ?? {}))
      assert.ok(text.includes(`--${name}`.replace(/-$/, '')), name)
    for (const [line] of command?.examples ?? []) assert.ok(text.includes(line.replace(/-?\s+/g, '')), line)
  }
})

tests.run()
