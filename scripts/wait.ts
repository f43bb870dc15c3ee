import {command} from '../lib/cli/command.ts'
import {named} from '../lib/cli/containers.ts'
import {isTerminal, write} from '../lib/cli/output.ts'
import {awaitEnd, verdictText} from '../lib/containers/end.ts'

export default command(
  {
    name: 'wait',
    summary: 'wait until containers have ended; their exit status and verdict',
    usage: '[--json] NAME|PID...',
    description: [
      "Waits for the end of each container, and prints how it ended as `enter --verdict` does: a line of JSON each, with the container's id; to a terminal in words.",
      "Exit status: that of the last container's command; 125 when nobody knows it, because its supervisor was killed.",
    ],
    changesNothing: true,
    options: {json: {help: 'JSON to a terminal, too'}},
    examples: [
      ['hew wait web; echo $?', 'as if web had run in the foreground'],
      ['hew wait web | jq .peakMemoryBytes', 'what it has used'],
    ],
    run: ({options: {json}, operands}) => {
      for (const container of named(operands)) {
        const {id} = container
        const verdict = awaitEnd(container, 'hew wait')
        const inWords = !json && isTerminal(1)
        write(1, inWords ? `${id} ${verdictText(verdict)}\n` : `${JSON.stringify({id, ...verdict})}\n`)
        process.exitCode = verdict.exitStatus
      }
    },
  },
  import.meta,
)
