import {constants} from 'node:os'
import {quote} from '../shell.ts'
import {COMMON, type Command} from './command.ts'
import type {Options} from './options.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const

/** What completes a value: one of these, or the words there are. */
type Kind = 'file' | 'directory' | 'program' | 'programs' | 'container' | 'none' | readonly string[]

const SIGNALS = Object.keys(constants.signals).map(name => name.replace(/^SIG/, ''))

/** By what values and operands are called in the help, all over hew. */
const KINDS: [called: RegExp, kind: Kind][] = [
  [/^(NAME\|PID|PID\|NAME|CONTAINER)/, 'container'],
  [/^PROGRAM,/, 'programs'],
  [/^(PROGRAM|COMMAND)/, 'program'],
  [/^(DIR|ROOT)$/, 'directory'],
  [/^(DIR\||FILE\||SRC|FILE$)/, 'file'],
  [/^SIGNAL/, SIGNALS],
]

function kindOf(called: string): Kind {
  return KINDS.find(([pattern]) => pattern.test(called))?.[1] ?? 'none'
}

interface Completed {
  name: string
  summary: string
  options: {words: string[]; help: string; value?: {called: string; kind: Kind}}[]
  /** What its operands are. */
  operand: {called: string; kind: Kind}
  /** Its operands end with a command that has words of its own. */
  runs: boolean
}

function completed({name, summary, usage, options, stopEarly}: Command): Completed {
  // What is left of a usage without its options: `[-f] NAME|PID... | --stale`.
  const [called = ''] =
    usage.replace(/\[-[^\]]*\]|\[OPTIONS\]|--?\S+/g, '').match(/[A-Za-z][A-Za-z|]*/g) ?? []
  const isChoice = /^[a-z|]+$/.test(called)
  return {
    name,
    summary,
    options: Object.entries({...options, ...COMMON} as Options).map(
      ([long, {short, value, choices, help}]) => ({
        words: [...(short ? [`-${short}`] : []), `--${long}`],
        help,
        ...(value !== undefined && {value: {called: value, kind: choices ?? kindOf(value)}}),
      }),
    ),
    operand: {called, kind: isChoice ? called.split('|') : kindOf(called)},
    runs: stopEarly ?? false,
  }
}

/**
 * A script that completes command lines of hew, all of it from the option tables; nothing of hew runs when it is used.
 * @param links the commands that `hew link` makes links for
 */
export function completions(shell: (typeof SHELLS)[number], commands: Command[], links: string[]): string {
  const all = commands.map(completed)
  const help: Completed = {
    name: 'help',
    summary: 'what a command does',
    options: [],
    operand: {called: 'COMMAND', kind: all.map(({name}) => name)},
    runs: false,
  }
  return {bash, zsh, fish}[shell]([...all, help], links)
}

/** Where names of containers are: what lib/containers/directory.ts chooses among, in sh. */
const DIRECTORIES = `/run/hew "\${XDG_RUNTIME_DIR:-/run/user/$UID}/hew" "/tmp/hew-$UID"`

const word = (kind: Kind): string => (typeof kind === 'string' ? kind : kind.join(' '))

function bash(commands: Completed[], links: string[]): string {
  const entries = commands.flatMap(({name, options, operand, runs}) => [
    `    [${name}]=${quote(word(operand.kind))}`,
    ...options.flatMap(({words, value}) =>
      value ? words.map(option => `    [${quote(`${name} ${option}`)}]=${quote(word(value.kind))}`) : [],
    ),
    `    [${quote(`${name} options`)}]=${quote(options.flatMap(({words}) => words).join(' '))}`,
    ...(runs ? [`    [${quote(`${name} runs`)}]=1`] : []),
  ])
  return `# What completes command lines of hew: eval "$(hew completion bash)"
declare -gA _hew=(
    [commands]=${quote(commands.map(({name}) => name).join(' '))}
${entries.join('\n')}
)

# _hew_offer KIND WORD: what a word of this kind may become.
_hew_offer() {
    local at
    COMPREPLY=()
    case $1 in
        none) ;;
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
        directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
        program)
            if [[ $2 == */* ]]; then _hew_offer file "$2"
            else mapfile -t COMPREPLY < <(compgen -c -- "$2" | sort -u); fi ;;
        programs)
            at=\${2%"\${2##*,}"}
            compopt -o nospace
            mapfile -t COMPREPLY < <(compgen -c -P "$at" -- "\${2##*,}" | sort -u) ;;
        container)
            for at in ${DIRECTORIES}; do
                [[ -d $at ]] && mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(cd -- "$at" && compgen -d -X '.*' -- "$2")
            done ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
    esac
}

_hew_complete() {
    local command=\${COMP_WORDS[0]##*/} at=1 current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
    if [[ -z \${_hew[$command options]+there} ]]; then
        if ((COMP_CWORD == 1)); then _hew_offer "\${_hew[commands]} -c --help --version --licenses" "$current"; return; fi
        command=\${COMP_WORDS[1]} at=2
    fi
    # readline cuts --option=value at the sign.
    if [[ $current == = ]]; then current=
    elif [[ $previous == = ]]; then previous=\${COMP_WORDS[COMP_CWORD - 2]}; fi
    if [[ -n \${_hew[$command runs]-} ]]; then
        for (( ; at < COMP_CWORD; at++)); do
            case \${COMP_WORDS[at]} in
                --) ((at++)); break ;;
                -*)
                    [[ -z \${_hew[$command \${COMP_WORDS[at]}]+there} ]] && continue
                    [[ \${COMP_WORDS[at + 1]} == = ]] && ((at++))
                    ((at++)) ;;
                *) break ;;
            esac
        done
        if ((at < COMP_CWORD)); then _hew_offer file "$current"; return; fi
    fi
    if [[ -n \${_hew[$command $previous]+there} ]]; then _hew_offer "\${_hew[$command $previous]}" "$current"
    elif [[ $current == -* ]]; then _hew_offer "\${_hew[$command options]-}" "$current"
    else _hew_offer "\${_hew[$command]-none}" "$current"; fi
}

complete -F _hew_complete hew ${links.join(' ')}
`
}

/** Words in an _arguments(1) specification: \`:\` ends a part of it, brackets the explanation. */
const plain = (text: string): string => text.replace(/[\\:[\]]/g, '\\$&')

function zsh(commands: Completed[], links: string[]): string {
  const action = (kind: Kind): string =>
    typeof kind === 'string' ? ZSH_ACTIONS[kind]! : `(${kind.join(' ')})`
  const functions = commands.map(({name, options, operand, runs}) => {
    const specs = options.flatMap(({words, help, value}) =>
      words.map(option => {
        const argument = value ? `:${plain(value.called)}:${action(value.kind)}` : ''
        return quote(`*${option}${value && option.startsWith('--') ? '=' : ''}[${plain(help)}]${argument}`)
      }),
    )
    const operands = runs
      ? [`'(-)1:command:_command_names -e'`, `'*::arguments:_normal'`]
      : [quote(`*:${plain(operand.called)}:${action(operand.kind)}`)]
    return `_hew-${name}() {\n    _arguments -s -S ${runs ? '-A "-*" ' : ''}\\\n        ${[...specs, ...operands].join(' \\\n        ')}\n}\n`
  })
  const described = commands.map(({name, summary}) => quote(`${name}:${plain(summary)}`))
  return `#compdef hew ${links.join(' ')}
# What completes command lines of hew: eval "$(hew completion zsh)", or a file _hew in $fpath.

_hew_containers() {
    local -a names
    local directory
    for directory in ${DIRECTORIES}; do
        names+=("$directory"/*(N/:t))
    done
    compadd -a names
}

_hew_program() {
    if [[ $PREFIX == */* ]]; then _files; else _command_names -e; fi
}

_hew_programs() {
    compset -P '*,'
    _command_names -e
}

${functions.join('\n')}
_hew() {
    local command=\${words[1]:t}
    if [[ -z \${functions[_hew-$command]} ]]; then
        if ((CURRENT == 2)); then
            local -a commands=(
                ${described.join('\n                ')}
            )
            _describe command commands
            return
        fi
        shift words
        ((CURRENT--))
        command=$words[1]
    fi
    [[ -n \${functions[_hew-$command]} ]] && _hew-$command
}

if [[ \${funcstack[1]} == _hew ]]; then _hew "$@"; else compdef _hew hew ${links.join(' ')}; fi
`
}

const ZSH_ACTIONS: Record<string, string> = {
  none: '',
  file: '_files',
  directory: '_files -/',
  program: '_hew_program',
  programs: '_hew_programs',
  container: '_hew_containers',
}

function fish(commands: Completed[], links: string[]): string {
  const lines = commands.flatMap(({name, options, operand}) => {
    const behind = ['hew', ...links.filter(link => link === name)]
    return behind.flatMap(called => {
      const where = called === 'hew' ? ` -n '__fish_seen_subcommand_from ${name}'` : ''
      const option = ({words, help, value}: Completed['options'][number]): string => {
        const forms = words.map(at => (at.startsWith('--') ? `-l ${at.slice(2)}` : `-s ${at.slice(1)}`))
        const takes = value ? ` ${fishArguments(value.kind, true)}` : ''
        return `complete -c ${called}${where} ${forms.join(' ')}${takes} -d ${quote(help)}`
      }
      return [...options.map(option), `complete -c ${called}${where} ${fishArguments(operand.kind, false)}`]
    })
  })
  return `# What completes command lines of hew: hew completion fish > ~/.config/fish/completions/hew.fish

function __hew_containers
    set -l user (id -u)
    set -q XDG_RUNTIME_DIR; and set -l own $XDG_RUNTIME_DIR; or set -l own /run/user/$user
    for directory in /run/hew $own/hew /tmp/hew-$user
        for name in $directory/*/
            path basename $name
        end
    end
end

function __hew_programs
    set -l before (string match -r '.*,' -- (commandline -ct | string replace -r '^--?[^=]*=' ''))
    for name in (complete -C '' | string replace -r '\\t.*' '')
        echo $before$name
    end
end

complete -c hew -f
${commands.map(({name, summary}) => `complete -c hew -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`).join('\n')}
${lines.join('\n')}
`
}

function fishArguments(kind: Kind, ofOption: boolean): string {
  const needed = ofOption ? '-x' : '-f'
  if (typeof kind !== 'string') return `${needed} -a ${quote(kind.join(' '))}`
  if (kind === 'file') return ofOption ? '-r -F' : '-F'
  const calls: Record<string, string> = {
    directory: '(__fish_complete_directories)',
    program: '(__fish_complete_command)',
    programs: '(__hew_programs)',
    container: '(__hew_containers)',
  }
  return calls[kind] === undefined ? needed : `${needed} -a ${quote(calls[kind])}`
}
