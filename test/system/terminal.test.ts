import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, requires, run, scratch} from '../support.ts'

/** The container on a terminal: a real pty, an interactive shell outside, keys typed by expect(1). */

const here = scratch()
const onTerminal = requires(test, 'root', 'expect')

/** Types into an interactive bash outside; returns all that the terminal showed. */
function typed(script: string): string {
  const file = `${here}/script.exp`
  const prologue = `
    set timeout 20
    set env(PS1) "outside> "
    set env(TERM) xterm
    log_user 1
    spawn bash --norc --noprofile -i
    proc see {what} {
      expect {
        -re $what {}
        timeout { puts "\\nNOT SEEN: $what"; exit 9 }
        eof { puts "\\nENDED BEFORE: $what"; exit 9 }
      }
    }
    see {outside> }
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
    sleep 0.5
    send "\\x03"
    see {\\^C}
    send "echo after-\\$?\\r"
    see {after-130}
    send "sleep 100\\r"
    sleep 0.5
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
    sleep 1
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

test.run()
