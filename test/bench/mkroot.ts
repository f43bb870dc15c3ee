import {rmSync} from 'node:fs'
import {join} from 'node:path'
import {type Bench, HEW, output, type Setting, takesRoot, timed} from './frame.ts'

/** A root of this machine's usual programs, and one of a few. */
const ROOTS = {
  'of the usual programs': [],
  'with sh and ls': ['--with', 'sh,ls'],
}

/** A new root, beside a copy of one that is finished. */
export async function* mkroot({folder, quick}: Setting): AsyncIterable<Bench> {
  const root = join(folder, 'root')
  const model = join(folder, 'model')
  const before = (): void => rmSync(root, {recursive: true, force: true})
  // Both have to be roots that a container can be made of, in which these two run.
  const check = async (): Promise<void> => {
    const said = await output([HEW, 'enter', '-r', root, '--', 'sh', '-c', 'ls -d /etc && echo inside'])
    if (said !== '/etc\ninside\n') throw new Error(`in it was printed ${JSON.stringify(said)}`)
  }
  for (const [what, words] of Object.entries(ROOTS)) {
    rmSync(model, {recursive: true, force: true})
    await output([HEW, 'mkroot', '-q', model, ...words])
    yield {
      name: `mkroot ${what}`,
      title: `A new root ${what}`,
      unit: 'ms',
      rounds: quick ? 1 : 20,
      peers: [
        timed('cp -a of the result', ['cp', '-a', model, root], {before, check, lacking: takesRoot()}),
        timed('hew mkroot', [HEW, 'mkroot', '-q', root, ...words], {before, check}),
        timed('hew --version', [HEW, '--version']),
      ],
      targets: [
        {
          peer: 'hew mkroot',
          words: 'at most 1.5 times cp -a and the start',
          atMost: median => 1.5 * median('cp -a of the result') + median('hew --version'),
        },
      ],
    }
  }
}
