/**
 * The bundle, inside the Node executable: `NODE24 --import tsx lib/build/bake.ts NODE MAIN OUT NAME=FILE...`.
 *
 * pkg's simple SEA mode does it. It is called here and not by its command line, which only takes a Node that it
 * downloads.
 */
import {createRequire} from 'node:module'
import * as path from 'node:path'
import type pkg from '@yao-pkg/pkg/lib-es5/sea.js'

const [node, main, output, ...assets] = process.argv.slice(2) as [string, string, string, ...string[]]

// pkg works in a new folder below TMPDIR. Paths relative to that are the same in every checkout, and main's becomes
// part of the binary.
const folder = path.dirname(path.resolve(output))
process.env.TMPDIR = folder
const fromTmp = (name: string) => path.join('..', path.relative(folder, path.resolve(name)))

const require = createRequire(import.meta.url)
const sea = (require('@yao-pkg/pkg/lib-es5/sea.js') as {default: typeof pkg}).default
const seaConfig = {
  main: fromTmp(main),
  assets: Object.fromEntries(
    assets.map(word => word.split('=') as [string, string]).map(([name, file]) => [name, fromTmp(file)]),
  ),
  disableExperimentalSEAWarning: true,
  useSnapshot: false,
  useCodeCache: false, // lib/build/warm.ts makes a better one
  // Every argument is ours, --inspect and --node-options=... too.
  execArgvExtension: 'none',
  execArgv: [
    '--no-warnings', // what Node has to say about its own features is nothing to a user of hew
    '--disable-sigusr1', // no debugger for whoever sends a signal
    '--openssl-config=/proc/self/none', // one that a root happens to have may stop Node from starting
    '--v8-pool-size=1', // each thread more costs time to start
    '--random-seed=00000000', // the launcher's to fill in: lib/build/seeds.ts
  ],
}
void sea(path.resolve(main), {
  targets: [{nodeRange: 'node24', platform: 'linux', arch: 'x64', output: path.resolve(output)}],
  nodePath: path.resolve(node),
  seaConfig,
})
