import {spawnSync} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {readDocument} from '../../lib/document/read.ts'
import {scratch} from '../support.ts'

const directory = scratch()

/** Reads a document from a regular file and from a pipe; what the reader left is returned beside it. */
function read(text: string | Buffer): {document: unknown; rest: string}[] {
  const file = `${directory}/document`
  fs.writeFileSync(file, text)
  const fd = fs.openSync(file, 'r')
  const fromFile = {document: readDocument(fd), rest: fs.readFileSync(fd, 'utf8')}
  fs.closeSync(fd)
  const script = `
    const {readDocument} = await import('${import.meta.dirname}/../../lib/document/read.ts')
    const fs = await import('node:fs')
    try { console.log(JSON.stringify({document: readDocument(0), rest: fs.readFileSync(0, 'utf8')})) }
    catch (error) { console.log(JSON.stringify({error: error.message})) }`
  const child = spawnSync(
    'sh',
    [
      '-c',
      'cat "$1" | "$2" --no-warnings --import tsx --input-type=module -e "$3"',
      '-',
      file,
      process.execPath,
      script,
    ],
    {encoding: 'utf8'},
  )
  return [fromFile, JSON.parse(child.stdout)]
}

for (const [name, text, rest] of [
  ['one line', '{"a":[1,{"b":"}"}]}\n', 'data\n'],
  ['pretty-printed', '{\n  "a": {\n    "b": [1, 2]\n  }\n}\n', '{"second":1}\n'],
  ['no newline behind it', '{"a":"\\"\\\\"}', ''],
  ['blank lines before it', '\n \t\n{}\n', '\n\n'],
  ['an empty list, an empty object', '{"a":[],"b":{}}\n', '\0binary\n'],
] as const)
  test(`to the closing brace and the newline: ${name}`, () => {
    for (const {document, rest: left} of read(text + rest)) {
      assert.equal(document, JSON.parse(text))
      assert.is(left, rest)
    }
  })

const EMPTY = 'nothing came through the pipe: the command before it failed, or it prints no document'
const CUT = 'the document in the pipe is cut off: the command before it failed'
const NONE =
  'what comes through the pipe is no document: it should be one line of JSON, from mkroot, copy-deps or limit'

for (const [name, text, message] of [
  ['empty', '', EMPTY],
  ['blank', '\n\n', EMPTY],
  ['cut off', '{"ociVersion":"1.2', CUT],
  ['cut off between fields', '{"a":1,', CUT],
  ['text', 'hello\n', NONE],
  ['a list', '[1]\n', NONE],
  ['a string', '"x"\n', NONE],
  ['braces and no JSON', '{{{{{}}}}}\n', NONE],
  ['a bare word', '{a:1}\n', NONE],
  ['a control character', '{"a\nb":1}\n', NONE],
  ['wrong inside', '{"a":tru}\n', NONE],
  ['brackets crossed', '{"a":[1}]\n', NONE],
] as const)
  test(`refused: ${name}`, () => {
    fs.writeFileSync(`${directory}/document`, text)
    const fd = fs.openSync(`${directory}/document`, 'r')
    assert.throws(
      () => readDocument(fd),
      (error: Error) => error.message === message,
    )
    fs.closeSync(fd)
  })

test('100 MB of noise are refused after a few bytes', () => {
  for (const noise of ['/dev/zero', '/dev/urandom']) {
    const fd = fs.openSync(noise, 'r')
    assert.throws(() => readDocument(fd), /is no document/)
    fs.closeSync(fd)
  }
})

test.run()
