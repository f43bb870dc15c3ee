import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {commandsOf} from '../../lib/cli/line.ts'
import {run} from '../support.ts'

const SPLIT: [line: string, commands: string[][]][] = [
  ['mkroot', [['mkroot']]],
  ['  mkroot\t-q  | enter ', [['mkroot', '-q'], ['enter']]],
  ['a|b|c', [['a'], ['b'], ['c']]],
  [`a 'b c' "d e" f\\ g`, [['a', 'b c', 'd e', 'f g']]],
  [`a '' ""`, [['a', '', '']]],
  [`a b'c'"d"\\e`, [['a', 'bcde']]],
  [`a '"$x\\' "'"`, [['a', '"$x\\', "'"]]],
  [`a "\\"\\\\\\$\\\`\\n"`, [['a', '"\\$`\\n']]],
  [`a \\$x \\| \\> \\\\`, [['a', '$x', '|', '>', '\\']]],
  [`a '|' "&;<>()*"`, [['a', '|', '&;<>()*']]],
  ['a b~ c#d e=~f ]', [['a', 'b~', 'c#d', 'e=~f', ']']]],
  ['a \\\nb "c\\\nd"', [['a', 'b', 'cd']]],
  ['\n a |\n b\n', [['a'], ['b']]],
  ["a 'b\nc'", [['a', 'b\nc']]],
  ['a ü "é"', [['a', 'ü', 'é']]],
]

test('words and commands are those of sh', () => {
  for (const [line, commands] of SPLIT) {
    assert.equal(commandsOf(line), commands, line)
    // Each command prints its words, and what the ones before have printed.
    const names = commands.map(([name]) => name)
    const functions = [...new Set(names)].map(
      name => `${name}() { [ -t 0 ] || cat; printf '<%s>' ${name} "$@"; echo; }; `,
    )
    const {stdout} = run('/bin/sh', ['-c', `${functions.join('')}${line}`])
    assert.is(stdout, commands.map(words => `${words.map(word => `<${word}>`).join('')}\n`).join(''), line)
  }
})

test('what a shell would do more is refused, with the reason', () => {
  for (const [line, why] of [
    ['mkroot > x', /^-c: ">" at "> x": nothing is redirected/],
    ['enter < x', /redirected/],
    ['enter 2>&1', /redirected/],
    ['mkroot $DIR', /"\$" .* nothing is expanded/],
    ['mkroot "$DIR"', /nothing is expanded/],
    ['mkroot `pwd`', /nothing is expanded/],
    ['mkroot "`pwd`"', /nothing is expanded/],
    ['copy-deps *', /names of files are not expanded/],
    ['copy-deps a?', /names of files/],
    ['copy-deps [ab]', /names of files/],
    ['copy-deps {a,b}', /braces/],
    ['mkroot ~/x', /home directories/],
    ['mkroot # a root', /comments/],
    ['mkroot & enter', /one pipe/],
    ['mkroot && enter', /one pipe/],
    ['mkroot || enter', /one pipe/],
    ['mkroot |& enter', /one pipe/],
    ['mkroot; enter', /one pipe/],
    ['mkroot\nenter', /one pipe/],
    ['(mkroot) | enter', /subshells/],
    ["mkroot 'x", /the ' of 'x has no end/],
    ['mkroot "x\\"', /the " of "x\\" has no end/],
    ['', /there is no command/],
    [' \n ', /there is no command/],
    ['mkroot |', /missing beside/],
    ['| enter', /missing beside/],
    ['mkroot | | enter', /missing beside/],
  ] as const)
    assert.throws(
      () => commandsOf(line),
      (error: Error) => why.test(error.message),
      line,
    )
})

test.run()
