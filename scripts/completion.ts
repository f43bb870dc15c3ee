import {command} from '../lib/cli/command.ts'
import {loadAll} from '../lib/cli/commands.ts'
import {completions, SHELLS} from '../lib/cli/completion.ts'
import {write} from '../lib/cli/output.ts'
import {UsageError} from '../lib/errors.ts'
import {LINKS} from './link.ts'

export default command(
  {
    name: 'completion',
    summary: 'a script that lets your shell complete what you type behind hew',
    usage: 'bash|zsh|fish',
    description: [
      'Prints a script for the shell that is named. It completes commands, options and their values, programs, paths, and the names of containers, also behind the links that `hew link` makes.',
      'For good: in bash, a line `eval "$(hew completion bash)"` in ~/.bashrc; in zsh the same with zsh in ~/.zshrc, behind compinit; in fish, \'hew completion fish > ~/.config/fish/completions/hew.fish\'.',
    ],
    changesNothing: true,
    options: {},
    examples: [
      ['eval "$(hew completion bash)"', 'in this bash, from now on'],
      ['hew completion fish > hew.fish', 'a file for fish'],
    ],
    run: async ({operands: [shell, ...more]}) => {
      const known = SHELLS.find(name => name === shell)
      if (known === undefined || more.length > 0)
        throw new UsageError(
          `one shell is needed: ${SHELLS.map(name => `hew completion ${name}`).join(', ')}`,
        )
      write(1, completions(known, await loadAll(), LINKS))
    },
  },
  import.meta,
)
