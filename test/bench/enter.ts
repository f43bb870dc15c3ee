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
export function bundle(folder: string, args: string[]): string {
  const root = join(folder, 'rootfs')
  const document = JSON.parse(output([HEW, 'mkroot', '--with', 'sh,true,echo,sleep', '--json', root]))
  mkdirSync(join(root, 'proc'), {recursive: true})
  const process = {...document.process, args}
  writeFileSync(join(folder, 'config.json'), JSON.stringify({...document, process}))
  return root
}

/** crun refuses hosts that have cgroup v2 beside v1: there that is hidden from it, in a mount namespace of its own. */
const HIDDEN =
  'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec crun "$@"'

const NAMESPACES = ['--mount', '--uts', '--ipc', '--net', '--pid', '--fork', '--user', '--map-root-user']

/** How each peer runs a command in a container; crun and runc run what the bundle says. */
export function runtimes(folder: string, root: string): [name: string, line: (words: string[]) => Line][] {
  const id = `hew-bench-${process.pid}`
  return [
    ['unshare', words => ['unshare', ...NAMESPACES, 'chroot', root, ...words]],
    ['bwrap', words => ['bwrap', '--unshare-all', '--bind', root, '/', '--proc', '/proc', ...words]],
    ['crun', () => ['unshare', '--mount', 'sh', '-c', HIDDEN, 'crun', 'run', '-b', folder, id]],
    ['runc', () => ['runc', 'run', '-b', folder, id]],
    ['hew enter', words => [HEW, 'enter', '-r', root, '--', ...words]],
    ['hew replay', words => [HEW, 'replay', planned(folder, root), '--', ...words]],
  ]
}

/** The plan of `hew enter --plan`, made once. */
function planned(folder: string, root: string): string {
  const plan = join(folder, 'box.plan')
  if (!existsSync(plan)) output([HEW, 'enter', '-r', root, '--plan', plan, '--', 'true'])
  return plan
}

/** A new container that says a word. */
export function enter({folder}: Setting): Iterable<Bench> {
  const said = ['echo', 'inside']
  const root = bundle(folder, said)
  const check = (stdout: string): void => {
    if (stdout !== 'inside\n') throw new Error(`it printed ${JSON.stringify(stdout)}`)
  }
  const peers = runtimes(folder, root).map(([name, line]): Peer => {
    const lacking = name.startsWith('hew') ? undefined : (notInstalled(name) ?? takesRoot())
    return timed(name, line(said), {lacking, check})
  })
  return [
    {
      name: 'enter',
      title: 'A new container that runs echo',
      unit: 'ms',
      rounds: 30,
      peers: [...peers, timed('hew --version', [HEW, '--version'])],
      targets: [
        {
          peer: 'hew enter',
          words: 'at most the start and 8 ms',
          atMost: median => median('hew --version') + 8,
        },
        {peer: 'hew replay', words: 'at most as long as bwrap', atMost: median => median('bwrap')},
      ],
    },
  ]
}
