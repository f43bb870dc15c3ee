import * as fs from 'node:fs'
import * as path from 'node:path'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, hew, requires, run, scratch} from '../support.ts'

/** What the shells themselves make of `hew completion SHELL`, at the end of a line. */

const tests = suite('completion')
const here = scratch()
const runtime = path.join(here, 'runtime')
for (const name of ['web', 'worker', '.new-1-2'])
  fs.mkdirSync(path.join(runtime, 'hew', name), {recursive: true})
const work = path.join(here, 'work')
for (const name of ['root-one', 'root two']) fs.mkdirSync(path.join(work, name), {recursive: true})
fs.writeFileSync(path.join(work, 'root.tar'), '')
fs.mkdirSync(path.join(here, 'bin'))
fs.symlinkSync(HEW, path.join(here, 'bin/hew'))
fs.writeFileSync(path.join(here, 'bin/frobnicator'), '', {mode: 0o755})

const env = {PATH: `${here}/bin:${process.env.PATH}`, XDG_RUNTIME_DIR: runtime, HOME: here, TERM: 'xterm'}

function script(shell: string): string {
  const file = path.join(here, `hew.${shell}`)
  if (!fs.existsSync(file)) {
    const {stdout, stderr, status} = hew('completion', shell)
    assert.equal([stderr, status], ['', 0])
    fs.writeFileSync(file, stdout)
  }
  return file
}

/** What a shell offers for the last word of a line, in the order of the alphabet. */
const offered: Record<string, (line: string) => string[]> = {
  bash: line => {
    // readline's own cut, at blanks and signs.
    const words = line.split(/ +|(?==)|(?<==)/)
    const call = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hew_complete 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`
    const {stdout} = run('bash', ['--norc', '-c', call, script('bash'), ...words], {env, cwd: work})
    return stdout
      .split('\n')
      .filter(word => word !== '')
      .sort()
  },
  fish: line => {
    const call = 'source $argv[1]; complete -C $argv[2]'
    const {stdout, stderr} = run('fish', ['--no-config', '-c', call, script('fish'), line], {env, cwd: work})
    assert.is(stderr, '')
    return stdout
      .split('\n')
      .map(offer => offer.replace(/\t.*/, ''))
      .filter(word => word !== '')
      .sort()
  },
}

/** What a line becomes in zsh when TAB is pressed once. */
function zsh(line: string): string {
  const driver = `
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell "PS1= RPS1= PROMPT_EOL_MARK=; unsetopt zle_bracketed_paste beep 2>/dev/null; autoload -U compinit; compinit -u -d $1/zcompdump; source $2; setopt no_list_beep no_auto_menu"
    zpty -w shell 'finish() { zle complete-word; print -r -- "<<\${BUFFER}>>"; exit }; zle -N finish; bindkey "^I" finish; print RE""ADY'
    zpty -r -m shell text '*READY*'
    zpty -w -n shell "$3"$'\\t'
    zpty -r -m shell text '*<<*>>*'
    print -r -- \${\${text##*<<}%%>>*}
    zpty -d shell`
  const {stdout, stderr} = run('zsh', ['-f', '-c', driver, 'zsh', here, script('zsh'), line], {
    env,
    cwd: work,
    timeout: 20_000,
  })
  assert.is(stderr, '')
  return stdout.replace(/\n$/, '')
}

/** A line, and what is offered for its end: all of it, or, with a +, at least that. */
const OFFERS: [line: string, words: string[], open?: '+'][] = [
  ['hew cop', ['copy-deps']],
  ['hew mk', ['mkroot']],
  ['hew mkroot --em', ['--empty']],
  ['hew enter --map ', ['all', 'auto', 'self']],
  ['hew enter --map=a', ['all', 'auto']],
  ['hew copy-deps --dlopen s', ['suggested']],
  ['hew kill w', ['web', 'worker']],
  ['hew kill -s KI', ['KILL']],
  ['hew kill --signal HU', ['HUP']],
  ['hew logs -f web', ['web']],
  ['hew copy-deps frobnic', ['frobnicator']],
  ['hew copy-deps --list ba', ['bash'], '+'],
  ['hew completion f', ['fish']],
  ['hew help cg', ['cgroup-init']],
  ['hew limit --memory ', []],
  ['enter --net h', ['host']],
  ['copy-deps frobnic', ['frobnicator']],
]

const bare = (word: string): string => word.replace(/^--\w+=/, '').replace(/\/$/, '')

for (const [shell, offers] of Object.entries(offered)) {
  const test = requires(tests, shell, 'native')
  for (const [line, words, open] of OFFERS)
    test(`${shell}: ${line}`, () => {
      const found = offers(line).map(bare)
      if (open) for (const word of words) assert.ok(found.includes(word), found.join())
      else assert.equal(found, words)
    })

  test(`${shell}: paths, with blanks in them`, () => {
    assert.equal(offers('hew enter -r ro').map(bare), ['root two', 'root-one'])
    assert.equal(offers('hew link ro').map(bare), ['root two', 'root-one'])
    assert.ok(offers('hew mkroot --from roo').map(bare).includes('root.tar'))
  })

  test(`${shell}: all options of all commands`, () => {
    const commands = offers('hew ')
      .map(bare)
      .filter(word => !word.startsWith('-'))
    assert.ok(commands.length > 12, commands.join())
    for (const command of commands) {
      const help = command === 'help' ? '' : hew('help', command).stdout
      const listed = [...help.matchAll(/^ {2}(?:-\w, | {4})(--[\w-]+)/gm)].map(([, option]) => option!)
      assert.equal(
        offers(`hew ${command} --`)
          .map(bare)
          .filter(word => word.startsWith('--')),
        listed.sort(),
        command,
      )
    }
  })
}

const inZsh = requires(tests, 'zsh', 'native')
for (const [line, words, open] of OFFERS)
  if (words.length === 1 && !open)
    inZsh(`zsh: ${line}`, () => {
      const whole = line.replace(/[^ =]*$/, words[0]!)
      assert.is(zsh(line).trimEnd(), whole)
    })

inZsh('zsh: what is common to all that is offered', () => {
  assert.is(zsh('hew kill w'), 'hew kill w')
  assert.is(zsh('hew kill wo').trimEnd(), 'hew kill worker')
  assert.is(zsh('hew enter -r root\\ '), 'hew enter -r root\\ two/')
  assert.is(zsh('hew mkroot --from root.'), 'hew mkroot --from root.tar ')
  assert.is(zsh('hew mkroot --with bash,frobnic').trimEnd(), 'hew mkroot --with bash,frobnicator')
})

tests('an unknown shell, and none', () => {
  for (const words of [[], ['tcsh'], ['bash', 'zsh']]) {
    const {stdout, stderr, status} = hew('completion', ...words)
    assert.equal([stdout, status], ['', 2])
    assert.match(stderr, /^hew completion: one shell is needed: hew completion bash, /)
  }
})

tests.run()
