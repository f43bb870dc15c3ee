import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import {$} from 'zx'
import {quote} from '../lib/shell.ts'

/**
 * `make demo`: the main job on real input, each line shown as a person types it, run, and checked.
 * It is a script around the built binary, and no part of it.
 */

// Any POSIX shell will do: zx takes bash where nothing is said.
$.shell = '/bin/sh'
$.quote = quote
$.prefix = ''

const dist = path.resolve(import.meta.dirname, '../dist')
const colour = process.stdout.isTTY && !process.env.NO_COLOR
const bold = (text: string): string => (colour ? `\x1b[1m${text}\x1b[0m` : text)
const dim = (text: string): string => (colour ? `\x1b[2m${text}\x1b[0m` : text)

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hew-demo-'))
const root = path.join(scratch, 'my-new-root')
process.on('exit', () => fs.rmSync(scratch, {recursive: true, force: true}))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

let failed = 0

/** Types a shell line, shows what comes of it, and holds that against what should. */
async function show(line: string, expected: {status?: number; output: RegExp; most?: number}): Promise<void> {
  console.log(`\n${bold(`$ ${line}`)}`)
  const {exitCode, stdout, stderr} = await $({
    nothrow: true,
    quiet: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {...process.env, PATH: `${dist}:${process.env.PATH}`, root},
  })`sh -c ${line}`
  const lines = `${stdout}${stderr}`.trimEnd().split('\n')
  const most = expected.most ?? 12
  console.log(lines.slice(0, most).join('\n'))
  if (lines.length > most) console.log(dim(`... ${lines.length - most} more lines`))
  const right = exitCode === (expected.status ?? 0) && expected.output.test(`${stdout}${stderr}`)
  if (exitCode !== 0) console.log(dim(`exit status ${exitCode}`))
  if (right) return
  failed++
  console.log(`This is not what it should do: exit status ${expected.status ?? 0}, ${expected.output}`)
}

function heading(text: string): void {
  console.log(`\n\n${bold(text)}\n${'─'.repeat(text.length)}`)
}

/** Why limits cannot be had on this machine, in hew's own words. */
async function limitsLacking(): Promise<string | undefined> {
  const line = 'hew mkroot --rm --with true | hew limit --memory 80M --cpu 5% --pids 3 | hew enter -- true'
  const {exitCode, stderr} = await $({
    nothrow: true,
    quiet: true,
    env: {...process.env, PATH: `${dist}:${process.env.PATH}`},
  })`sh -c ${line}`
  return exitCode === 0 ? undefined : stderr.trim()
}

heading('A root of your own')
await show('hew mkroot --empty --quiet "$root"', {output: /my-new-root/})
await show('echo "my super secret thing" > "$root/secret.txt"; ls "$root"', {output: /secret\.txt/, most: 30})
await show('hew enter -r "$root"', {status: 127, output: /has no bash: add it with 'hew copy-deps/})

heading('What bash needs')
await show('ldd "$(command -v bash)"', {output: /libc/})
await show('hew copy-deps --list bash', {output: /libc.*DT_NEEDED/})
await show('hew copy-deps --root "$root" --quiet bash ls cat', {output: /my-new-root/})

heading('Inside')
await show('hew enter -r "$root" -- bash -c "pwd; echo *; cat secret.txt"', {
  output: /^\/$[\s\S]*super secret/m,
})
await show('hew enter -r "$root" -- ls /usr/bin', {output: /^bash\ncat\nls\n$/})

heading('The pipe')
await show('hew mkroot --rm | hew enter -- sh -c "hostname; id; ps; echo /*"', {
  output: /uid=0[\s\S]*\b1\b.*(ps|sh)/,
  most: 20,
})
await show('(hew mkroot --rm; seq 1000) | hew enter -- wc -l', {output: /^1000$/m})
await show('hew mkroot --rm | hew enter -- sh -c "exit 42"', {status: 42, output: /^$/})

heading('Namespaces: the machine, and the container')
const look = 'readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/user'
await show(look, {output: /pid:\[\d+\]/})
await show(`hew mkroot --rm --with sh,readlink | hew enter -- ${look}`, {output: /pid:\[\d+\]/})

heading('Limits: memory, CPU, processes')
const cannot = await limitsLacking()
if (cannot) console.log(`Not shown here: ${cannot}`)
else {
  await show(
    "hew mkroot --rm | hew limit --memory 80M | hew enter -- sh -c 'yes | tr \\\\n x | head -c 1048576000 | grep n'",
    {status: 137, output: /killed by its memory limit \(80 MiB, 1 kill\)/},
  )
  await show(
    "hew mkroot --rm | hew limit --cpu 5% | hew enter -- sh -c 'yes > /dev/null & sleep 3; kill $!'",
    {output: /held back \d\.\d s of CPU \(limit 5% of a CPU\)/},
  )
  await show(
    "hew mkroot --rm | hew limit --pids 3 | hew enter -- sh -c 'for i in 1 2 3 4 5; do sleep 15 & echo $i; done'",
    {status: 2, output: /1\n2\n[\s\S]*refused 1 fork \(pids limit 3\)/},
  )
}

console.log(
  failed === 0 ? '\nEvery step did what it says.' : `\nSteps that did not do what they say: ${failed}`,
)
process.exit(failed === 0 ? 0 : 1)
