import {writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {type Bench, DIST, HEW, type Setting, timed} from './frame.ts'

/** What starting costs, beside the same stripped Node running nothing. */
export function start({folder}: Setting): Iterable<Bench> {
  const empty = join(folder, 'empty.js')
  writeFileSync(empty, '')
  const contains = (text: string) => (stdout: string) => {
    if (!stdout.includes(text)) throw new Error(`it printed ${JSON.stringify(stdout.slice(0, 100))}`)
  }
  return [
    {
      name: 'start',
      title: 'Start',
      chart: 'Start',
      unit: 'ms',
      rounds: 60,
      peers: [
        timed('node empty.js', [`${DIST}/build/node`, empty]),
        timed('hew --version', [HEW, '--version'], {check: contains('hew ')}),
        timed('hew help mkroot', [HEW, 'help', 'mkroot'], {check: contains('--debootstrap')}),
      ],
      targets: [
        {
          peer: 'hew --version',
          words: 'at most 1.05 times Node',
          atMost: median => 1.05 * median('node empty.js'),
        },
      ],
    },
  ]
}
