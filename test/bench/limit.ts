import {bundle} from './enter.ts'
import {type Bench, HEW, output, type Setting, takesRoot, timed} from './frame.ts'

/** Limits for a container that runs. */
export async function* limit({folder}: Setting): AsyncIterable<Bench> {
  const lacking = takesRoot()
  const sleep = ['sleep', '600']
  const name = `hew-bench-limit-${process.pid}`
  const end = async (): Promise<void> => void (await output([HEW, 'rm', '-f', name]))
  if (!lacking)
    await output([
      HEW,
      'enter',
      '--detach',
      '--name',
      name,
      '-r',
      await bundle(folder, sleep),
      '--',
      ...sleep,
    ])
  const check = async (): Promise<void> => {
    const [container] = JSON.parse(await output([HEW, 'ps', '--json', name])).containers
    if (container.memoryLimitBytes !== 80 << 20) throw new Error(`the limit is ${container.memoryLimitBytes}`)
  }
  yield {
    name: 'limit',
    title: 'A memory limit for a container that runs',
    unit: 'ms',
    rounds: 30,
    peers: [
      timed('hew --version', [HEW, '--version']),
      timed('hew limit --memory 80M', [HEW, 'limit', '--memory', '80M', name], {lacking, check}),
    ],
    targets: [
      {
        peer: 'hew limit --memory 80M',
        words: 'at most the start and 2 ms',
        atMost: median => median('hew --version') + 2,
      },
    ],
    ...(!lacking && {end}),
  }
}
