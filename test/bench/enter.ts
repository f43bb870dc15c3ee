import {existsSync, mkdirSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {
  type Bench,
  HEW,
  type Line,
  notInstalled,
  output,
  type Peer,
  type Setting,
  takesRoot,
  timed,
} from './frame.ts'

/** A root with a few programs, also as a bundle: its config.json is what hew's pipe prints. */
export async function bundle(folder: string, args: string[]): Promise<string> {
  const root = join(folder, 'rootfs')
  const document = JSON.parse(await output([HEW, 'mkroot', '--with', 'sh,true,echo,sleep', '--json', root]))
  mkdirSync(join(root, 'proc'), {recursive: true})
  const process = {...document.process, args}
  writeFileSync(join(folder, 'config.json'), JSON.stringify({...document, process}))
  return root
}

/** crun refuses hosts that have cgroup v2 beside v1: there that is hidden from it, in a mount namespace of its own. */
const HIDDEN = 'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"'

const NAMESPACES = ['--mount', '--uts', '--ipc', '--net', '--pid', '--fork', '--user', '--map-root-user']

interface Runtime {
  name: string
  /** How it runs a command in a container; crun and runc run what the bundle says. */
  line(words: string[]): Line
  /** What has to be around it, or around any number of it. */
  around(line: Line): Line
}

/** Each peer with this bundle. */
export async function runtimes(folder: string, root: string): Promise<Runtime[]> {
  const id = `hew-bench-${process.pid}`
  const plan = join(folder, 'box.plan')
  if (!existsSync(plan)) await output([HEW, 'enter', '-r', root, '--plan', plan, '--', 'true'])
  const hidden = (line: Line): Line => ['unshare', '--mount', 'sh', '-c', HIDDEN, 'sh', ...line]
  const runtime = (name: string, line: Runtime['line'], around = (line: Line) => line): Runtime => ({
    name,
    line,
    around,
  })
  return [
    runtime('unshare', words => ['unshare', ...NAMESPACES, 'chroot', root, ...words]),
    runtime('bwrap', words => ['bwrap', '--unshare-all', '--bind', root, '/', '--proc', '/proc', ...words]),
    runtime('crun', () => ['crun', 'run', '-b', folder, id], hidden),
    runtime('runc', () => ['runc', 'run', '-b', folder, id]),
    runtime('hew enter', words => [HEW, 'enter', '-r', root, '--', ...words]),
    runtime('hew replay', words => [HEW, 'replay', plan, '--', ...words]),
  ]
}

/** A new container that says a word. */
export async function* enter({folder}: Setting): AsyncIterable<Bench> {
  const said = ['echo', 'inside']
  const root = await bundle(folder, said)
  const check = (stdout: string): void => {
    if (stdout !== 'inside\n') throw new Error(`it printed ${JSON.stringify(stdout)}`)
  }
  const peers = (await runtimes(folder, root)).map(({name, line, around}): Peer => {
    const lacking = name.startsWith('hew') ? undefined : (notInstalled(name) ?? takesRoot())
    return timed(name, around(line(said)), {lacking, check})
  })
  yield {
    name: 'enter',
    title: 'A new container that runs echo',
    chart: 'A new container',
    unit: 'ms',
    rounds: 30,
    peers: [...peers, timed('hew --version', [HEW, '--version'])],
    targets: [
      {
        peer: 'hew enter',
        words: 'at most the start and 8 ms',
        atMost: median => median('hew --version') + 8,
      },
    ],
  }
}
