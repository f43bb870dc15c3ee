import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs'
import {join} from 'node:path'
import {Sysroot} from '../../lib/sysroot.ts'
import {type Bench, goOn, HEW, notInstalled, output, peakMemory, type Setting, timed} from './frame.ts'

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
async function programs(count: number): Promise<string[]> {
  const found: string[] = []
  for (const path of FROM.flatMap(directory => [...files(directory)])) {
    if (found.length === count) break
    if (!isElf(path)) continue
    goOn()
    try {
      if (!/not a dynamic|statically|not found/.test(await output(['ldd', path]))) found.push(path)
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

/** @throws where a file is not this machine's own: setuid files are copied, whatever was asked */
function linked(root: string, needed: string[]): void {
  const inside = new Sysroot(root)
  for (const name of needed) {
    const entry = inside.resolve(name)
    if (entry.kind !== 'file') continue
    const [own, its] = [statSync(name), statSync(inside.outside(entry.path))]
    if ((own.mode & 0o6000) === 0 && own.ino !== its.ino) throw new Error(`${name} is a copy, and no link`)
  }
}

/** Programs, and a finished root of them. */
async function made(folder: string, count: number) {
  const words = await programs(count)
  const root = join(folder, 'root')
  const model = join(folder, 'model')
  const libraries = await output(['sh', '-c', `ldd "$@" | ${PATHS}`, 'sh', ...words])
  const needed = [...words, ...libraries.trim().split('\n')]
  const into = (target: string): [string, ...string[]] => [HEW, 'copy-deps', '-q', '-r', target, ...words]
  await output([...EMPTY, model])
  await output(into(model))
  return {
    words,
    root,
    model,
    needed,
    into,
    title: `${words.length} programs with their libraries, ${filesOf(needed).size} files`,
    before: async (): Promise<void> => void (await output([...EMPTY, root])),
    gone: (): void => rmSync(root, {recursive: true, force: true}),
    check: (): void => complete(root, needed),
    start: timed('hew --version', [HEW, '--version']),
  }
}

type Made = Awaited<ReturnType<typeof made>>

function links({
  words,
  root,
  model,
  needed,
  into,
  title,
  before,
  gone,
  check,
  start,
}: Made): Omit<Bench, 'rounds'> {
  const same = statSync(model).dev === statSync(words[0]!).dev
  const lacking = same ? undefined : 'takes programs on the same file system'
  const checkLinks = (): void => {
    check()
    linked(root, needed)
  }
  const hew = 'hew copy-deps --hardlink'
  return {
    name: `hardlink ${words.length}`,
    title: `Hard links to ${title}`,
    unit: 'ms',
    peers: [
      timed('cp -al of the result', ['cp', '-al', model, root], {lacking, before: gone, check}),
      timed(hew, [...into(root), '--hardlink'], {lacking, before, check: checkLinks}),
      start,
    ],
    targets: [
      {
        peer: hew,
        words: 'at most 2 times cp -al',
        atMost: median => 2 * median('cp -al of the result'),
      },
    ],
  }
}

function copies(
  {words, root, model, needed, into, title, before, gone, check, start}: Made,
  rounds: number,
): Omit<Bench, 'rounds'> {
  const few = Math.min(rounds, Math.ceil(100 / words.length))
  const dracut = [DRACUT, '-D', root, '-l', '-a', ...words] as const
  const lddtree = [...LDDTREE, '--copy-to-tree', root, ...words] as const
  const slow = [
    timed('dracut-install', dracut, {lacking: notInstalled(DRACUT), before, check, rounds: few}),
    timed('lddtree', lddtree, {lacking: notInstalled(LDDTREE[1]), before, check, rounds: few}),
    timed("the lesson's loop", ['sh', '-c', LOOP, root, ...words], {before, check, rounds: few}),
  ]
  return {
    name: `copy ${words.length}`,
    title,
    ...(words.length === 200 && {chart: '200 programs with their libraries'}),
    unit: 'ms',
    peers: [
      timed('cp -a of the result', ['cp', '-a', model, root], {before: gone, check}),
      timed('hew copy-deps', into(root), {before, check}),
      timed('hew copy-deps, again', into(model), {check: () => complete(model, needed)}),
      start,
      timed('one ldd, one cp --parents', ['sh', '-c', ONE_LDD, root, ...words], {before, check}),
      // Of thousands they take minutes.
      ...(words.length > 200 ? [] : slow),
    ],
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
  }
}

const PEAK_KIB = 150 * 1024

/** The most memory that finding and copying them takes. */
function peak({words, into, root, before, check}: Made): Bench {
  return {
    name: `peak ${words.length}`,
    title: `The most memory for ${words.length} programs`,
    unit: 'KiB',
    rounds: 1,
    peers: [
      {
        name: 'hew copy-deps',
        check: async () => {
          await before()
          await output(into(root))
          check()
        },
        measure: async () => {
          await before()
          return peakMemory(into(root))
        },
      },
    ],
    targets: [{peer: 'hew copy-deps', words: 'less than 150 MiB', atMost: () => PEAK_KIB}],
  }
}

/** Programs with their libraries into a root. */
export async function* copy({folder, quick}: Setting): AsyncIterable<Bench> {
  for (const [count, rounds] of quick ? QUICK : SIZES) {
    const own = await made(folder, count)
    // Links come first, with nothing left to be written: it took them twice the time behind a bench that copies.
    own.gone()
    await output(['sync', '-f', folder])
    yield {...links(own), rounds}
    yield {...copies(own, rounds), rounds}
    if (quick || count >= 200) yield peak(own)
  }
}

const QUICK = [[2, 1]] as const
const SIZES = [
  [2, 30],
  [20, 20],
  [200, 10],
  [2000, 1],
] as const
