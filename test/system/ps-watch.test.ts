import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, requires, run, SEE, scratch} from '../support.ts'

/** `hew ps --watch` at a real terminal: keys, signals, sizes, and the terminal as it was afterwards. */

const here = scratch()
const onTerminal = requires(test, 'root', 'expect')

/** Types at an interactive bash beside a container made by hand, in a PID namespace of their own; all that was shown. */
function typed(script: string, environment = ''): string {
  const file = `${here}/script.exp`
  fs.writeFileSync(
    file,
    `
    set timeout 20
    set env(PS1) "outside> "
    set env(TERM) xterm
    set env(LANG) C.UTF-8
    ${environment}
    set stty_init "rows 24 cols 80"
    spawn bash --norc --noprofile -i
    set shell $spawn_id
    ${SEE}
    send "hew() { '${HEW}' \\"\\$@\\"; }; unshare --pid --fork --kill-child sh -c 'sleep 8801 & wait' &\\r"
    see {outside> }
    ${script}
    send "kill %1; exit\\r"
    expect eof
  `,
  )
  const words = ['--pid', '--mount', '--fork', '--kill-child', '--mount-proc', 'sh', '-c']
  const line = `mount -t tmpfs none /run && exec expect -f '${file}'`
  const {stdout, stderr, status} = run('unshare', [...words, line], {timeout: 60_000})
  assert.is(status, 0, stdout + stderr)
  return stdout
}

const ENTERED = '\\x1b\\[\\?1049h'
const LEFT = '\\x1b\\[\\?1049l'

/** The terminal's settings are the same before and after. */
function isRestored(shown: string): void {
  const settings = shown.match(/[0-9a-f]{32}/g)!
  assert.ok(settings.length >= 2, shown)
  assert.is(new Set(settings).size, 1, shown)
  const count = (what: string): number => shown.split(what).length - 1
  assert.is(count('\x1b[?1049h'), count('\x1b[?1049l'), shown)
  assert.is(count('\x1b[?25l'), count('\x1b[?25h'), shown)
}

onTerminal('q and Ctrl-C: the container is seen, its process killed after y, the terminal as it was', () => {
  const shown = typed(`
    send "stty -a | md5sum; hew ps --watch\\r"
    see {${ENTERED}}
    see {hew ps: 1 container, 2 processes}
    see {sleep 8801}
    send "\\x1b\\[B\\x1b\\[B"
    see {\\x1b\\[7m *[0-9]+ +2 root[^\\n]*sleep 8801}
    send "k"
    see {kill the process [0-9]+ of PID [0-9]+\\? y/n}
    send "y"
    see {no container runs here}
    send "q"
    see {${LEFT}}
    see {outside> $}
    send "stty -a | md5sum; echo status-$?\\r"
    see {status-0}
    send "hew ps --watch\\r"
    see {hew ps: 0 containers}
    send "\\x03"
    see {outside> $}
    send "echo status-$?; stty -a | md5sum\\r"
    see {status-0}
    see {outside> $}`)
  isRestored(shown)
})

onTerminal('a container of hew is frozen, thawed, and killed as a whole after y', () => {
  const root = `${here}/web`
  run(HEW, ['mkroot', '-q', '--with', 'sh,sleep', root])
  const shown = typed(`
    send "hew enter --detach --name watched -r ${root} -- sh -c 'sleep 8802 & wait'\\r"
    see {outside> $}
    send "stty -a | md5sum; hew ps --watch watched\\r"
    see {watched  running}
    send "f"
    see {watched  frozen}
    send "t"
    see {watched  running}
    send "Kn"
    see {kill everything in watched\\? y/n}
    send "Ky"
    see {watched  stopped}
    send "q"
    see {outside> $}
    send "hew rm watched; stty -a | md5sum; echo done\\r"
    see {done\\r}
    see {outside> $}`)
  isRestored(shown)
})

onTerminal('TERM, HUP, Ctrl-Z and fg, a kill from elsewhere: the terminal is as it was', () => {
  const shown = typed(`
    set pid [exp_pid -i $shell]
    foreach signal {TERM HUP} {
      send "stty -a | md5sum; hew ps --watch\\r"
      see {sleep 8801}
      exec pkill -$signal -P $pid -f {ps --watch}
      see {${LEFT}}
      see {outside> $}
      send "echo status-$?; stty -a | md5sum\\r"
      see {status-1(43|29)}
      see {outside> $}
    }
    send "hew ps --watch\\r"
    see {sleep 8801}
    send "\\x1a"
    see {Stopped}
    see {outside> $}
    send "stty -a | md5sum; echo shell-is-back\\r"
    see {shell-is-back\\r}
    see {outside> $}
    send "fg\\r"
    see {${ENTERED}}
    see {sleep 8801}
    send "q"
    see {outside> $}
    send "stty -a | md5sum; echo done\\r"
    see {done\\r}
    see {outside> $}`)
  isRestored(shown)
})

onTerminal('a window that is resized, a pipe as stdin, no colours with NO_COLOR', () => {
  const shown = typed(
    `
    send "stty -a | md5sum; printf '{\\"id\\":\\"x\\",\\"bundle\\":\\"/\\",\\"pid\\":%d}\\\\n' \\$! | hew ps --watch\\r"
    see {hew ps: 1 container}
    stty rows 10 columns 40 < $spawn_out(slave,name)
    see {2 processes, by cpu\x1b}
    see {q quit  \\? help  arrows select  s sort  }
    send "q"
    see {outside> $}
    stty rows 24 columns 80 < $spawn_out(slave,name)
    send "stty -a | md5sum; echo done\\r"
    see {done\\r}
    see {outside> $}`,
    'set env(NO_COLOR) 1',
  )
  assert.not.match(shown, /\x1b\[3\dm/)
})

onTerminal('no terminal, a dumb one, no such container: one line, and nothing else', () => {
  const of = (env: Record<string, string>, line: string): string =>
    run('script', ['-qec', line, '/dev/null'], {env}).stdout.replaceAll('\r', '')
  assert.is(
    run(HEW, ['ps', '--watch']).stderr.split('\n')[0],
    'hew ps: --watch is for a terminal, and stdout is none: without it there is JSON',
  )
  assert.is(
    of({TERM: 'dumb'}, `'${HEW}' ps --watch`),
    'hew ps: --watch: this terminal cannot move its cursor (TERM=dumb): hew ps, without --watch\n',
  )
  assert.is(
    of({TERM: 'xterm'}, `'${HEW}' ps --watch nosuch`),
    "hew ps: no container is called nosuch: 'hew ps' shows all there are\n",
  )
})

test.run()
