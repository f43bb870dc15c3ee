/**
 * Man pages, from the tables that the commands themselves go by: `tsx lib/build/man.ts FOLDER` writes hew.1 and one for each
 * command. In man(7), and nothing of it but the oldest macros: mandoc and groff show the same.
 */
import {mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {COMMON, type Command} from '../cli/command.ts'
import {loadAll} from '../cli/commands.ts'
import type {Options} from '../cli/options.ts'

const STATUSES: [status: string, meaning: string][] = [
  ['0', 'It is done.'],
  ['2', 'The command line cannot be understood; nothing was done.'],
  ['125', 'hew failed, and has said why; nothing half made stays.'],
]

const FILES: [path: string, what: string][] = [
  ['/var/lib/hew/roots', 'roots that mkroot gave a name itself; of ordinary users: ~/.local/share/hew/roots'],
  ['/run/hew', 'the state of containers, a directory each; of ordinary users: $XDG_RUNTIME_DIR/hew'],
]

const SEE_ALSO = ['chroot(1)', 'unshare(1)', 'nsenter(1)', 'namespaces(7)', 'cgroups(7)', 'pivot_root(2)']

/** Text as troff takes it: its own signs escaped, no line that begins like a request, `code` in bold. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/`([^`]*)`/g, '\\fB$1\\fR')
    .replaceAll('`', '\\(ga')
    .replace(/^(?=[.])/gm, '\\&')
}

const section = (title: string, ...lines: string[]): string[] => [`.SH ${title}`, ...lines]
const paragraphs = (texts: string[]): string[] =>
  texts.flatMap((text, i) => [...(i ? ['.PP'] : []), roff(text)])
const list = (rows: readonly (readonly [string, string])[]): string[] =>
  rows.flatMap(([term, text]) => ['.TP', `\\fB${roff(term)}\\fR`, roff(text)])

function heading(title: string, version: string): string[] {
  return [
    '.\\" Made from the option tables by lib/build/man.ts.',
    `.TH ${title.toUpperCase()} 1 "" "hew ${version}" "hew"`,
  ]
}

/** A line to type, as it stands, with what it does below. */
const examples = (rows: [string, string][]): string[] =>
  rows.flatMap(([line, does]) => ['.TP', `\\fB${roff(line)}\\fR`, roff(does)])

const EXIT_STATUS = /^Exit status: /
const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

function page(
  {name, summary, usage, description, options, examples: rows}: Command,
  version: string,
): string {
  const own = description
    .filter(text => EXIT_STATUS.test(text))
    .map(text => sentence(text.replace(EXIT_STATUS, '')))
  const terms = Object.entries({...options, ...COMMON} as Options).map(
    ([long, {short, value, help, choices}]) => {
      const forms = [...(short ? [`-${short}`] : []), `--${long}`].join(', ')
      const from = choices ? ` (one of ${choices.join(', ')})` : ''
      return [`${forms}${value ? ` ${value}` : ''}`, `${help}${from}`] as const
    },
  )
  return [
    ...heading(`hew-${name}`, version),
    ...section('NAME', `hew\\-${roff(name)} \\- ${roff(summary)}`),
    ...section('SYNOPSIS', `\\fBhew ${roff(name)}\\fR ${roff(usage)}`),
    ...section('DESCRIPTION', ...paragraphs(description.filter(text => !EXIT_STATUS.test(text)))),
    ...section('OPTIONS', ...list(terms)),
    ...section('EXAMPLES', ...examples(rows)),
    ...section(
      'EXIT STATUS',
      ...(own.length > 0 ? paragraphs([...own, 'The others are in hew(1).']) : list(STATUSES)),
    ),
    ...section('FILES', ...list(FILES)),
    ...section('SEE ALSO', ['hew(1)', ...SEE_ALSO].map(roff).join(', ')),
    '',
  ].join('\n')
}

function overview(commands: Command[], version: string): string {
  const pages = commands.map(({name}) => `hew-${name}(1)`)
  return [
    ...heading('hew', version),
    ...section('NAME', 'hew \\- Linux containers by hand'),
    ...section(
      'SYNOPSIS',
      '\\fBhew\\fR COMMAND [OPTIONS] [ARGUMENTS]',
      '.br',
      '\\fBhew \\-c\\fR \\(aqCOMMAND | COMMAND ...\\(aq',
      '.br',
      '\\fBhew help\\fR COMMAND',
    ),
    ...section(
      'DESCRIPTION',
      ...paragraphs([
        'A container is a directory to live in, the programs in it with their libraries, a few namespaces around a process, and limits on what it uses. Each command does one of these steps, and they pipe into each other.',
        'What travels through the pipe is one line of JSON: an OCI runtime configuration. A terminal gets a summary instead.',
        '`hew -c` runs the commands of a pipe in one process: words, quotes and backslashes are as in sh(1), and nothing is expanded or redirected.',
        'Linked to the name of a command (`hew link`), hew is that command.',
      ]),
    ),
    ...section('COMMANDS', ...list(commands.map(({name, summary}) => [name, summary] as const))),
    ...section('EXAMPLES', ...examples(commands.flatMap(({examples: [first]}) => (first ? [first] : [])))),
    ...section('EXIT STATUS', ...list(STATUSES)),
    ...section('FILES', ...list(FILES)),
    ...section('SEE ALSO', [...pages, ...SEE_ALSO].map(roff).join(', ')),
    '',
  ].join('\n')
}

const [folder = 'dist/man'] = process.argv.slice(2)
const {version} = JSON.parse(readFileSync('package.json', 'utf8')) as {version: string}
const commands = await loadAll()
mkdirSync(folder, {recursive: true})
for (const old of readdirSync(folder)) if (/^hew.*\.1$/.test(old)) rmSync(`${folder}/${old}`)
writeFileSync(`${folder}/hew.1`, overview(commands, version))
for (const command of commands) writeFileSync(`${folder}/hew-${command.name}.1`, page(command, version))
