import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
} from 'node:fs'
import {join} from 'node:path'
import {Sysroot} from '../../lib/sysroot.ts'
import {type Bench, HEW, notInstalled, output, type Peer, type Setting, timed} from './frame.ts'

/** The lesson's own: for each program ldd, and mkdir and cp for each library. $0 is the root. */
const LOOP = `for program; do
  for file in "$program" $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "$0\${file%/*}" && cp "$file" "$0$file"
  done
done`
const PATHS = `sed -n 's/.* => \\(\\/[^ ]*\\) (.*/\\1/p; s/^\\t\\(\\/[^ ]*\\) (.*/\\1/p' | sort -u`
const ONE_LDD = `cp --parents $(ldd "$@" | ${PATHS}) "$@" "$0"`
const DRACUT = '/usr/lib/dracut/dracut-install'
/** By its own line it is env's python3, which need not be Debian's. */
const LDDTREE = ['/usr/bin/python3', '/usr/bin/lddtree'] as const
const EMPTY = ['sh', '-c', 'rm -rf "$0"; mkdir "$0"'] as const

const FROM = ['/usr/bin', '/usr/sbin', '/usr/lib', '/usr/local/bin', '/usr/libexec']

function* files(directory: string): Generator<string> {
  if (!existsSync(directory)) return
  const entries = readdirSync(directory, {withFileTypes: true}).sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const entry of entries) if (entry.isFile()) yield join(directory, entry.name)
  for (const entry of entries) if (entry.isDirectory()) yield* files(join(directory, entry.name))
}

function isElf(path: string): boolean {
  const fd = openSync(path, 'r')
  const head = Buffer.alloc(4)
  readSync(fd, head)
  closeSync(fd)
  return head.toString('latin1') === '\x7fELF'
}

/** Programs, and behind them libraries, all of whose own libraries are there. */
function programs(count: number): string[] {
  const found: string[] = []
  for (const path of FROM.flatMap(directory => [...files(directory)])) {
    if (found.length === count) break
    if (!isElf(path)) continue
    try {
      if (!/not a dynamic|statically|not found/.test(output(['ldd', path]))) found.push(path)
    } catch {
      // Not dynamic: none that the lesson's line could copy.
    }
  }
  return found
}

/** What is behind all these names. */
const filesOf = (names: string[]): Set<string> => new Set(names.map(name => realpathSync(name)))

/** @throws where a program or library is not in the root, as a process in it would see it, with the same bytes */
function complete(root: string, needed: string[]): void {
  const inside = new Sysroot(root)
  const same = (path: string, bytes: Buffer): boolean => {
    const entry = inside.resolve(path)
    return entry.kind === 'file' && readFileSync(inside.outside(entry.path)).equals(bytes)
  }
  // ldd(1) gives a library by several names where /lib is a link; cp(1) makes one of them.
  const found = needed.filter(name => same(name, readFileSync(name)))
  const there = filesOf(found)
  for (const real of filesOf(needed)) if (!there.has(real)) throw new Error(`${real} is not in the root`)
}

function copies(folder: string, count: number, rounds: number): Bench {
  const words = programs(count)
  const root = join(folder, 'root')
  const model = join(folder, 'model')
  const needed = [
    ...words,
    ...output(['sh', '-c', `ldd "$@" | ${PATHS}`, 'sh', ...words])
      .trim()
      .split('\n'),
  ]
  const before = (): void => void output([...EMPTY, root])
  const gone = (): void => rmSync(root, {recursive: true, force: true})
  const check = (): void => complete(root, needed)
  const into = (target: string): [string, ...string[]] => [HEW, 'copy-deps', '-q', '-r', target, ...words]
  output([...EMPTY, model])
  output(into(model))
  const few = count > 20 ? 1 : rounds
  const slow = [
    timed('lddtree', [...LDDTREE, '--copy-to-tree', root, ...words], {
      lacking: notInstalled(LDDTREE[1]),
      before,
      check,
      rounds: few,
    }),
    timed("the lesson's loop", ['sh', '-c', LOOP, root, ...words], {before, check, rounds: few}),
  ]
  const peers: Peer[] = [
    timed('cp -a of the result', ['cp', '-a', model, root], {before: gone, check}),
    timed('hew copy-deps', into(root), {before, check}),
    timed('hew copy-deps, again', into(model), {check: () => complete(model, needed)}),
    timed('hew --version', [HEW, '--version']),
    timed('one ldd, one cp --parents', ['sh', '-c', ONE_LDD, root, ...words], {
      before,
      check,
      rounds: count > 200 ? 1 : rounds,
    }),
    timed('dracut-install', [DRACUT, '-D', root, '-l', '-a', ...words], {
      lacking: notInstalled(DRACUT),
      before,
      check,
      rounds: few,
    }),
    ...(count > 200 ? [] : slow),
  ]
  return {
    name: `copy ${words.length}`,
    title: `${words.length} programs with their libraries, ${filesOf(needed).size} files`,
    unit: 'ms',
    rounds,
    peers,
    targets: [
      {
        peer: 'hew copy-deps',
        words: 'at most 1.5 times cp -a and the start',
        atMost: median => 1.5 * median('cp -a of the result') + median('hew --version'),
      },
      {
        peer: 'hew copy-deps, again',
        words: 'at most the start and 20 ms',
        atMost: median => median('hew --version') + 20,
      },
    ],
    end: () => rmSync(model, {recursive: true, force: true}),
  }
}

/** Programs with their libraries into a root. */
export function* copy({folder, quick}: Setting): Iterable<Bench> {
  if (quick) yield copies(folder, 2, 1)
  else for (const [count, rounds] of SIZES) yield copies(folder, count, rounds)
}

const SIZES = [
  [2, 30],
  [20, 20],
  [200, 10],
  [2000, 3],
] as const
