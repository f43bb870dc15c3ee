import {EXIT} from '../errors.ts'
import {typable} from '../shell.ts'
import type {ExecProblem} from './explain.ts'

/**
 * In words why a command cannot be executed in a root, with the line that helps, and the exit status for it.
 * @param root as the user knows it; @param command as it was typed
 */
export function execProblemText(
  problem: ExecProblem,
  root: string,
  command: string,
): {message: string; status: number} {
  const {path, why} = problem
  const names = problem.missing.map(({what}) => what)
  const add = (...what: string[]): string =>
    `add ${problem.missing.length > 1 ? 'them' : 'it'} with 'hew copy-deps -r ${typable(root)} ${what.map(operand).join(' ')}'`
  const cannot = (message: string) => ({message, status: EXIT.cannotExecute})
  switch (problem.reason) {
    case 'not found':
      if (command === '') return {message: 'the command is an empty word', status: EXIT.notFound}
      return {message: `${root} has no ${command}: ${add(command)}`, status: EXIT.notFound}
    case 'directory':
      return cannot(
        `${path} is a directory and no command: a root is named with -r, as in 'hew enter -r ${typable(path)}'`,
      )
    case 'not a file':
      return cannot(`${path} in ${root} is no regular file${why ? `: ${why}` : ''}`)
    case 'not executable':
      return cannot(`${path} in ${root} is not executable: 'chmod +x ${typable(root + path)}' makes it so`)
    case 'not a program':
      return cannot(
        `${path} in ${root} is neither a program nor a script with a #! line: run it with its interpreter`,
      )
    case 'damaged':
      return cannot(`${path} in ${root} is damaged: ${why}`)
    case 'architecture':
      return cannot(`${path} in ${root} is for another processor`)
    case 'interpreter':
      return cannot(
        `${path} needs the interpreter ${names.join(', ')}, which ${root} does not have: ${add(...names)}`,
      )
    case 'libraries':
      return cannot(`${path} needs ${names.join(', ')}, which ${root} does not have: ${add(command)}`)
    case 'interpreter loop':
      return cannot(
        `${path} in ${root} is a script whose interpreters are scripts, deeper than the kernel follows`,
      )
  }
}

/** A program as copy-deps takes it, whatever its name begins with. */
function operand(program: string): string {
  return program.startsWith('-') ? `-- ${typable(program)}` : typable(program)
}
