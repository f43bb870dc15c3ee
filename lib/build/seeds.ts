/**
 * Seeds with which V8 starts quickly: `tsx lib/build/seeds.ts OUT.h`, or `make seeds` after another Node.
 *
 * At each start V8 makes three secrets for its string hashes: random numbers, until each is a prime and differs from those before in 32
 * bits (rapidhash_make_secret). That takes 110 Miller-Rabin tests on average, a twelfth of Node's whole start, and 36 at the least, twelve for each
 * prime: it depends on --random-seed alone. The launcher takes one of these seeds, another at each start, so that nobody
 * can prepare names that collide in all of them. With another V8 they may be slow ones, and do no harm.
 */
import {writeFileSync} from 'node:fs'

/** How many are kept: as many as one random byte picks from. */
const COUNT = 256
/** Tests of a quick seed, at the most. */
export const MOST_TESTS = 38

const bits = (value: bigint): bigint => BigInt.asUintN(64, value)

/** The first number of V8's generator, xorshift128+ begun with MurmurHash3 (src/base/utils/random-number-generator.cc). */
function firstRandom(seed: number): bigint {
  const mixed = (value: bigint): bigint => {
    const a = bits((value ^ (value >> 33n)) * 0xff51afd7ed558ccdn)
    const b = bits((a ^ (a >> 33n)) * 0xc4ceb9fe1a85ec53n)
    return b ^ (b >> 33n)
  }
  const state0 = mixed(BigInt(seed))
  const state1 = mixed(bits(~state0))
  const a = bits(state0 ^ (state0 << 23n))
  return bits(state1 + (a ^ (a >> 17n) ^ state1 ^ (state1 >> 26n)))
}

const ones = (value: bigint): number => value.toString(2).replaceAll('0', '').length

/** The bytes that secrets are made of: half of their bits are set. */
const BYTES = Array.from({length: 256}, (_, byte) => BigInt(byte)).filter(byte => ones(byte) === 4)

/** Numbers from a seed on, as rapidhash makes them. */
function* numbers(seed: bigint): Generator<bigint> {
  for (let state = seed; ; ) {
    let number = 0n
    for (let at = 0n; at < 64n; at += 8n) {
      state = bits(state + 0x2d358dccaa6c78a5n)
      const product = state * (state ^ 0x8bb84b93962eacc9n)
      const random = bits(product ^ (product >> 64n))
      number |= BYTES[Number(random % BigInt(BYTES.length))]! << at
    }
    yield number
  }
}

const BASES = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n]

/** Whether an odd number may be prime, by one base: Miller and Rabin. */
function passes(number: bigint, base: bigint): boolean {
  let [odd, twos] = [number - 1n, 0]
  for (; odd % 2n === 0n; odd /= 2n) twos++
  let power = 1n
  for (let square = base, rest = odd; rest > 0n; rest /= 2n) {
    if (rest % 2n === 1n) power = (power * square) % number
    square = (square * square) % number
  }
  for (let i = 0; i < twos; i++) {
    if (power === number - 1n || (i === 0 && power === 1n)) return true
    power = (power * power) % number
  }
  return false
}

/** How many tests V8 makes with a seed; no more than `most` are counted. */
export function testsOf(seed: number, most = Number.POSITIVE_INFINITY): number {
  const secrets: bigint[] = []
  let tests = 0
  for (const number of numbers(firstRandom(seed))) {
    if (number % 2n === 0n || !secrets.every(other => ones(number ^ other) === 32)) continue
    const prime = BASES.every(base => {
      tests++
      return passes(number, base)
    })
    if (prime) secrets.push(number)
    if (secrets.length === 3 || tests > most) break
  }
  return tests
}

function quickSeeds(): number[] {
  const found: number[] = []
  for (let seed = 1; found.length < COUNT; seed++)
    if (testsOf(seed, MOST_TESTS) <= MOST_TESTS) found.push(seed)
  return found
}

const [output] = process.argv[1]?.endsWith('seeds.ts') ? process.argv.slice(2) : []
if (output) {
  const rows = quickSeeds().map((seed, i) => `${seed},${i % 16 === 15 ? '\n' : ' '}`)
  writeFileSync(
    output,
    `/* Made by lib/build/seeds.ts, which says what for. */\n${rows.join('').replaceAll(' \n', '\n')}`,
  )
}
