import {spawn} from 'node:child_process'
import {createHash, randomBytes} from 'node:crypto'
import * as fs from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, readyForLimits, requires, run, SEE, scratch} from '../support.ts'

/** The container on a terminal: a real pty, an interactive shell outside, keys typed by expect(1). */

const here = scratch()
const onTerminal = requires(test, 'root', 'expect')

readyForLimits()

/** Types into an interactive bash outside; returns all that the terminal showed. */
function typed(script: string): string {
  const file = `${here}/script.exp`
  const prologue = `
    set timeout 20
    set env(PS1) "outside> "
    set env(TERM) xterm
    log_user 1
    spawn bash --norc --noprofile -i
    ${SEE}
    send "hew() { '${HEW}' \\"\\$@\\"; }; export -f hew\\r"
    see {outside> }
  `
  fs.writeFileSync(file, `${prologue}\n${script}\nsend "exit\\r"\nexpect eof\n`)
  const {stdout, status} = run('expect', ['-f', file], {timeout: 90_000, env: {XDG_DATA_HOME: here}})
  assert.is(status, 0, stdout)
  return stdout.replaceAll('\r', '')
}

onTerminal(
  'mkroot | enter is an interactive shell: line editing, Ctrl-C, job control, a sane terminal after it',
  () => {
    const shown = typed(`
    send "stty -a | md5sum; hew mkroot --rm | hew enter\\r"
    see {[#$] $}
    send "tty; echo pid \\$\\$\\r"
    see {pid 1\\r}
    send "echo abd\\x7fc\\r"
    see {abc\\r}
    send "sleep 100\\r"
    running sleep
    send "\\x03"
    see {\\^C}
    send "echo after-\\$?\\r"
    see {after-130}
    send "sleep 100\\r"
    running sleep
    send "\\x1a"
    see {Stopped}
    send "jobs; bg; jobs; kill %1; wait\\r"
    see {Running}
    send "exit 7\\r"
    see {outside> $}
    send "echo status-\\$?; stty -a | md5sum\\r"
    see {status-7}
    see {outside> $}
  `)
    assert.not.match(shown, /no job control|cannot set terminal/)
    const settings = shown.match(/[0-9a-f]{32}/g)!
    assert.is(settings[0], settings.at(-1))
  },
)

onTerminal('a command without a handler is ended by Ctrl-C', () => {
  const root = `${here}/sleeper`
  run(HEW, ['mkroot', '-q', '--with', 'sleep,sh', root])
  typed(`
    send "hew enter -r ${root} -- sleep 100\\r"
    running sleep
    send "\\x03"
    see {outside> $}
    send "echo status-\\$?\\r"
    see {status-130}
  `)
})

onTerminal('Ctrl-Z stops the pipe for the shell outside, fg goes on', () => {
  const root = `${here}/stopped`
  run(HEW, ['mkroot', '-q', '--with', 'sleep,sh', root])
  typed(`
    send "hew enter -r ${root} -- sh -c 'sleep 3; echo slept'\\r"
    sleep 1
    send "\\x1a"
    see {Stopped}
    send "fg\\r"
    see {slept}
    see {outside> $}
  `)
})

onTerminal('a document from a file leaves the terminal to the shell', () => {
  const root = `${here}/from-file`
  fs.writeFileSync(`${here}/config.json`, run(HEW, ['mkroot', '--json', '--with', 'bash', root]).stdout)
  typed(`
    send "hew enter < ${here}/config.json\\r"
    see {[#$] $}
    send "echo in-\\$\\$\\r"
    see {in-1\\r}
    send "exit\\r"
    see {outside> $}
  `)
})

onTerminal('what follows the document in the pipe is the stdin of the command, in a terminal too', () => {
  const root = `${here}/rest`
  run(HEW, ['mkroot', '-q', '--with', 'wc,sh', root])
  typed(`
    send "(hew copy-deps -r ${root} true; sleep 0.5; seq 1000) | hew enter -- wc -l\\r"
    see {1000\\r}
    see {outside> $}
  `)
})

onTerminal('a person sees a summary, and the document with --json', () => {
  const shown = typed(`
    send "hew mkroot --with sh ${here}/summary\\r"
    see {hew enter -r [^\\r]*summary}
    see {outside> $}
    send "hew copy-deps -r ${here}/summary --json ls | cat; hew copy-deps -r ${here}/summary --json cat\\r"
    see {"ociVersion".*"ociVersion"}
    see {outside> $}
  `)
  assert.match(shown, /root +\/.*summary\n/)
})

// ---- what a container cannot do to the caller's terminal ----

/** Types `touch HERE/typed` and a newline into the terminal that is its stdin, its stdout, or opened by a name. */
const INJECT = `
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        int fd = *argv[i] == '/' ? open(argv[i], O_RDWR) : argv[i][0] - '0', failed = 0;
        for (const char *c = "touch ${here}/typed\\n"; *c && !failed; c++) failed = ioctl(fd, TIOCSTI, c);
        printf("%s-%s;", argv[i], failed ? strerror(errno) : "TYPED");
    }
    puts("end");
}`

onTerminal(
  'what runs inside types nothing into the terminal outside, by whatever descriptor (CVE-2017-5226)',
  () => {
    const root = `${here}/injecting`
    run(HEW, ['mkroot', '-q', '--with', 'sh,cat,sleep', root])
    fs.writeFileSync(`${here}/inject.c`, INJECT)
    assert.equal(run('gcc', ['-static', '-o', `${root}/bin/inject`, `${here}/inject.c`]), {
      stdout: '',
      stderr: '',
      status: 0,
    })
    const shown = typed(`
    send "stty -echo; cd /; hew enter -r ${root} inject 0 1 2 /dev/tty /dev/console; cat\\r"
    see {end\\r}
    sleep 0.3
    send "\\x04"
    see {outside> $}
    send "echo | hew enter -r ${root} inject 1 2 /dev/tty /dev/console\\r"
    see {end\\r}
    see {outside> $}
    send "hew enter -r ${root} inject 0 2 /dev/tty /dev/console | cat\\r"
    see {end\\r}
    see {outside> $}
    send "hew enter --by-hand -r ${root} inject 0 1 2\\r"
    see {end\\r}
    see {outside> $}
    send "hew enter -r ${root} --share user,mount,pid inject 0 1 2\\r"
    see {end\\r}
    see {outside> $}
    send "stty echo\\r"
    see {outside> $}
  `)
    const [own, toOutput, toPipe, byHand, shared] = shown.match(/\d-[^\n;]+;.*;end$/gm)!
    // Its own terminal is its to type into.
    assert.is(own, '0-TYPED;1-TYPED;2-TYPED;/dev/tty-TYPED;/dev/console-TYPED;end')
    const refused = 'Operation not permitted'
    assert.is(toOutput, `1-${refused};2-${refused};/dev/tty-Bad file descriptor;/dev/console-${refused};end`)
    assert.is(toPipe, `0-${refused};2-${refused};/dev/tty-Bad file descriptor;/dev/console-${refused};end`)
    assert.is(byHand, '0-TYPED;1-TYPED;2-TYPED;end')
    assert.is(shared, byHand)
    assert.not(fs.existsSync(`${here}/typed`))
  },
)

// ---- the container's own terminal ----

/** A root with a whole mkroot in it, made once. */
let usual = ''
function root(): string {
  if (usual === '') {
    usual = `${here}/usual`
    const {status, stderr} = run(HEW, ['mkroot', '-q', usual])
    assert.is(status, 0, stderr)
    run(HEW, ['copy-deps', '-r', usual, 'reset', 'md5sum'])
  }
  return usual
}

onTerminal('it begins with the size and the settings of the caller’s, and belongs to the user', () => {
  const shown = typed(`
    send "stty rows 31 columns 97 erase ^h -ixon; stty -a | md5sum; hew enter -r ${root()} sh -c 'stty size; stty -a | md5sum'\\r"
    see {31 97}
    see {outside> $}
    send "hew enter -r ${root()} --map auto --user 1000 sh -c 'tty; echo written by name > \\$(tty); test -c /dev/console && stat -c %u \\$(tty)'\\r"
    see {/dev/pts/0\\r\\nwritten by name\\r\\n1000\\r\\n}
    see {outside> $}
  `)
  const [outside, inside] = shown.match(/[0-9a-f]{32}/g)!
  assert.is(inside, outside)
})

onTerminal('less, vi, top and reset work there; a window that changes its size is known inside', () => {
  typed(`
    send "stty rows 24 columns 80; hew enter -r ${root()} bash --norc\\r"
    see {# $}
    send "seq 1000 | less\\r"
    see {23\\r\\n.*:}
    send "G"
    see {1000}
    send "q"
    see {# $}
    send "vi /tmp/file\\r"
    see {/tmp/file}
    send "itext of vi\\x1b:wq\\r"
    see {written}
    see {# $}
    send "cat /tmp/file; stty size\\r"
    see {text of vi\\r\\n24 80}
    send "top -d 1\\r"
    see {PID}
    sleep 0.5
    stty rows 11 columns 60 < $spawn_out(slave,name)
    see {\\x1b\\[11;|top - }
    sleep 1.2
    send "q"
    see {# $}
    send "sh -c 'trap \\"stty size\\" WINCH; echo trap-\\$((40+2)); while :; do sleep 0.1; done'\\r"
    see {trap-42}
    stty rows 12 columns 61 < $spawn_out(slave,name)
    see {12 61}
    send "\\x03"
    see {# $}
    send "stty raw -echo; reset; echo sane-\\$((40+2))\\r"
    see {sane-42\\r\\n}
    see {# $}
    send "exit\\r"
    see {outside> $}
  `)
})

onTerminal('job control inside: Ctrl-Z, jobs, fg, bg, Ctrl-C, Ctrl-\\, with an init too', () => {
  for (const init of ['', '--init']) {
    const shown = typed(`
      send "hew enter ${init} -r ${root()} bash --norc\\r"
      see {# $}
      send "sleep 300\\r"
      running sleep
      send "\\x1a"
      see {Stopped}
      send "jobs; fg\\r"
      see {Stopped}
      running sleep
      send "\\x03"
      see {# $}
      send "echo status-\\$?\\r"
      see {status-130}
      send "sleep 300\\r"
      running sleep
      send "\\x1c"
      see {Quit}
      send "sleep 300 & jobs\\r"
      see {Running}
      send "kill %1; wait; echo ended; exit 4\\r"
      see {outside> $}
      send "echo status-\\$?\\r"
      see {status-4}
    `)
    assert.not.match(shown, /no job control|cannot set terminal/)
  }
})

onTerminal(
  'the terminal is as it was, whatever the end: of the command, of hew, by a key, a signal, a limit',
  () => {
    const after = `${here}/after`
    fs.writeFileSync(after, '')
    typed(`
    proc ends {line with status} {
      send "stty -g >> ${after}; $line; echo status-\\$?; stty -g >> ${after}\\r"
      if {$with != ""} { see {rude} ; running sleep }
      if {$with == "TERM"} { exec kill [exec pgrep -x hew:supervisor -t [string range $::spawn_out(slave,name) 5 end]] } else { send $with }
      see "status-$status"
      see {outside> $}
    }
    ends "hew enter -r ${root()} sh -c 'stty raw -echo; exit 7'" "" 7
    ends "hew enter -r ${root()} --bind /usr:/mnt nonesuch" "" 127
    ends "hew enter -r ${root()} --bind /usr:/mnt /etc" "" 126
    ends "hew enter -r ${root()} --bind /etc/passwd:/dev/null/x true" "" 125
    ends "hew enter -r ${root()} sh -c 'echo ru\\"\\"de; exec sleep 300'" "\\x03" 130
    ends "hew enter -r ${root()} --init sh -c 'echo ru\\"\\"de; exec sleep 300'" "\\x1c" 131
    ends "hew enter -r ${root()} sh -c 'stty raw -echo; echo ru\\"\\"de; exec sleep 300'" TERM 143
    ends "hew mkroot --rm --json | hew limit --memory 30M | hew enter sh -c 'stty raw -echo; exec tail /dev/zero'" "" 137
  `)
    const settings = fs.readFileSync(after, 'utf8').trim().split('\n')
    assert.is(settings.length, 16)
    assert.is(new Set(settings).size, 1, settings.join('\n'))
  },
)

onTerminal('Ctrl-Z: the shell outside has its terminal, fg and bg go on, with an init too', () => {
  for (const init of ['', '--init'])
    typed(`
      send "stty -g > ${here}/first; hew enter ${init} -r ${root()} sh -c 'i=0; while \\[ \\$i -lt 25 \\]; do i=\\$((i+1)); echo tick-\\$i; sleep 0.1; done; echo go; read x; echo got-\\$x'\\r"
      see {tick-5}
      send "\\x1a"
      see {Stopped}
      see {outside> $}
      send "stty -g | cmp - ${here}/first && echo same-\\$?; sleep 1; echo waited\\r"
      see {same-0}
      see {waited\\r}
      see {outside> $}
      send "bg\\r"
      see {tick-25}
      see {go}
      send "jobs; stty -g | cmp - ${here}/first && echo still-\\$?\\r"
      see {Running}
      see {still-0}
      send "fg\\r"
      sleep 1
      send "word\\r"
      see {got-word}
      see {outside> $}
    `)
})

onTerminal('mkroot | enter, typed, stopped with Ctrl-Z and continued', () => {
  typed(`
    send "hew mkroot --rm | hew enter sh -c 'echo be\\"\\"gun; read x; echo got-\\$x'\\r"
    see {begun}
    send "\\x1a"
    see {Stopped}
    see {outside> $}
    send "fg\\r"
    sleep 0.5
    send "word\\r"
    see {got-word}
    see {outside> $}
  `)
})

onTerminal(
  'in the background: no key is taken, no setting changed; who needs the terminal stops, as any job',
  () => {
    typed(`
    send "stty -g > ${here}/first; hew enter -r ${root()} sh -c 'sleep 1; echo out-\\$((40+2)); sleep 1' &\\r"
    see {outside> $}
    see {out-42}
    send "jobs; stty -g | cmp - ${here}/first && echo same-\\$?\\r"
    see {Running}
    see {same-0}
    send "wait; echo waited\\r"
    see {\\nwaited\\r}
    see {outside> $}
    send "hew enter -r ${root()} bash --norc &\\r"
    see {outside> $}
    set stopped 0
    while {!$stopped} {
      send "jobs\\r"
      expect {
        -re {Stopped.*outside> $} { set stopped 1 }
        -re {Running.*outside> $} { sleep 0.5 }
        timeout { puts "\\nNEVER STOPPED"; exit 9 }
      }
    }
    send "fg\\r"
    sleep 0.5
    send "echo \\$((40+2)); exit\\r"
    see {42}
    see {outside> $}
    send "hew enter -r ${root()} cat &\\r"
    see {outside> $}
    sleep 1
    send "echo mine-\\$((40+2))\\r"
    see {mine-42}
    send "fg\\r"
    sleep 1
    send "now cat's\\r"
    see {now cat's\\r\\nnow cat's}
    send "\\x04"
    see {outside> $}
  `)
  },
)

onTerminal('a pager behind it has the keys', () => {
  typed(`
    send "hew enter -r ${root()} sh -c 'seq 500; sleep 1; stty -a >/dev/null' | less\\r"
    see {:}
    sleep 1.5
    send "G"
    see {500}
    send "q"
    see {outside> $}
  `)
})

onTerminal(
  'Ctrl-C that ends the container ends the script around it; one that the container handles does not',
  () => {
    const script = `${here}/script`
    fs.writeFileSync(script, `for i in 1 2; do '${HEW}' enter -r ${root()} "$@"; echo "after-$i"; done\n`)
    for (const init of ['', '--init'])
      typed(`
      send "dash ${script} ${init} sh -c 'echo re\\"\\"ady; exec sleep 300'\\r"
      see {ready}
      running sleep
      send "\\x03"
      expect {
        {after-} { puts "\\nIT WENT ON"; exit 9 }
        {outside> }
      }
      send "dash ${script} ${init} bash --norc\\r"
      see {# $}
      sleep 0.5
      send "\\x03"
      see {# $}
      send "exit\\r"
      see {after-1}
      see {# $}
      send "exit\\r"
      see {after-2}
      see {outside> }
    `)
  },
)

/** A program on a pty of its own, read and typed byte by byte: what expect(1) is too slow for. */
function onPty(command: string) {
  const child = spawn('script', ['-qefc', command, '/dev/null'], {stdio: ['pipe', 'pipe', 'inherit']})
  const pieces: Buffer[] = []
  child.stdout.on('data', piece => pieces.push(piece))
  const bytes = () => Buffer.concat(pieces)
  const ended = new Promise<Buffer>(done => child.on('close', () => done(bytes())))
  const until = async (holds: () => boolean) => {
    for (let tries = 0; tries < 3000; tries++) {
      if (holds()) return
      await sleep(10)
    }
    child.kill('SIGKILL')
    throw new Error(`never came; there is: ${bytes().subarray(-500)}`)
  }
  return {child, bytes, ended, until}
}

onTerminal('10 MB out, 100 KB in: not a byte is lost or changed, however slow the reader', async () => {
  const data = randomBytes(10 << 20)
  fs.writeFileSync(`${root()}/data`, data)
  const out = onPty(`'${HEW}' enter -r '${root()}' -- sh -c 'stty -opost; cat /data'`)
  out.child.stdout.pause()
  setTimeout(() => out.child.stdout.resume(), 2000)
  assert.is(Buffer.compare(await out.ended, data), 0)

  const keys = randomBytes(100_000)
  const line = 'stty raw -echo; echo ready; sleep 1; head -c 100000 | md5sum'
  const typing = onPty(`'${HEW}' enter -r '${root()}' -- sh -c '${line}'`)
  await typing.until(() => typing.bytes().includes('ready'))
  typing.child.stdin.write(keys)
  assert.ok((await typing.ended).includes(createHash('md5').update(keys).digest('hex')))
})

/** script(1) gives what it runs a session of its own. */
async function supervisorOf(on: ReturnType<typeof onPty>): Promise<number> {
  let found = ''
  const children = `/proc/${on.child.pid}/task/${on.child.pid}/children`
  await on.until(() => {
    const [session] = fs.readFileSync(children, 'utf8').split(' ')
    found = session ? run('pgrep', ['-x', 'hew:supervisor', '-s', session]).stdout.trim() : ''
    return found !== ''
  })
  return Number(found)
}

onTerminal('what relays is small again when it has nothing to do', async () => {
  const on = onPty(`'${HEW}' enter -r '${root()}' -- sh -c 'seq 300000; echo do""ne; exec sleep 300'`)
  const pid = await supervisorOf(on)
  await on.until(() => on.bytes().includes('done'))
  const kilobytes = () => {
    const memory = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    return [...memory.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    )
  }
  await on.until(() => kilobytes() < 500)
  on.child.stdin.write('\x03')
  await on.ended
})

onTerminal(
  'a terminal that hangs up ends the container; one that takes nothing more does not keep a signal',
  async () => {
    for (const command of ['sleep 300', 'bash --norc', 'cat']) {
      const hung = onPty(`'${HEW}' enter -r '${root()}' -- ${command}`)
      const pid = await supervisorOf(hung)
      hung.child.kill('SIGKILL')
      await hung.until(() => !fs.existsSync(`/proc/${pid}`))
    }
    // script(1) is stuck as well, and reaps nobody: the shell does.
    const stuck = onPty(`'${HEW}' enter -r '${root()}' -- yes; true`)
    const pid = await supervisorOf(stuck)
    await stuck.until(() => stuck.bytes().includes('y'))
    stuck.child.stdout.pause()
    await sleep(1000)
    process.kill(pid, 'SIGTERM')
    await stuck.until(() => !fs.existsSync(`/proc/${pid}`))
    stuck.child.kill('SIGKILL')
  },
)

onTerminal(
  'in the background of a terminal that wants no output, where nobody sees it stop, it goes on',
  async () => {
    const on = onPty('bash --norc --noprofile -i')
    on.child.stdin.write(
      `stty tostop; ('${HEW}' enter -r '${root()}' -- sh -c 'echo do""ne; exec sleep 300' </dev/tty &)\n`,
    )
    const pid = await supervisorOf(on)
    await on.until(() => on.bytes().includes('done'))
    process.kill(pid, 'SIGTERM')
    on.child.stdin.write('exit\n')
    await on.ended
    await on.until(() => !fs.existsSync(`/proc/${pid}`))
  },
)

test.run()
