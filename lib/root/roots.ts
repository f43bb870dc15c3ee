import * as fs from 'node:fs'
import * as path from 'node:path'
import {HewError} from '../errors.ts'

/** Where the roots are that nobody gave a place: /var/lib for the machine's root, a user's data directory otherwise. */
export function rootsDirectory(uid: number, environment: NodeJS.ProcessEnv): string {
  if (uid === 0) return '/var/lib/hew/roots'
  // A relative one is to be ignored: XDG Base Directory Specification.
  const {XDG_DATA_HOME: data, HOME: home} = environment
  if (data?.startsWith('/')) return path.join(data, 'hew/roots')
  if (home?.startsWith('/')) return path.join(home, '.local/share/hew/roots')
  throw new HewError('neither HOME nor XDG_DATA_HOME says where your roots are: name a directory')
}

const WOODS =
  'alder ash beech birch cedar elm fir hazel larch lime maple oak pine poplar rowan willow yew'.split(' ')
const PARTS = 'bark beam board bough crown grain knot log plank post rafter ring root stump trunk twig'.split(
  ' ',
)

/** A directory that is not there yet, with a name that can be said and typed: `birch-plank-4f1c`. */
export function freshRoot(directory: string): string {
  for (;;) {
    // The kernel's: Math.random() begins with one of few seeds (lib/build/seeds.ts). The last twelve digits are random.
    const random = Number.parseInt(fs.readFileSync('/proc/sys/kernel/random/uuid', 'latin1').slice(24), 16)
    const pick = (words: string[], by: number): string => words[Math.floor(random / by) % words.length]!
    const number = (random % 0x10000).toString(16).padStart(4, '0')
    const root = path.join(directory, `${pick(WOODS, 0x10000)}-${pick(PARTS, 0x1000000)}-${number}`)
    if (!fs.existsSync(root)) return root
  }
}
