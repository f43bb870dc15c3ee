import {closeSync, fstatSync, openSync} from 'node:fs'
import {suite} from 'uvu'
import * as assert from 'uvu/assert'
import {type Elf, ElfError, isElf, parseElf, readElf, sameAbi} from '../../lib/programs/elf.ts'
import {type Made, makeElf} from './elf-builder.ts'

const test = suite('elf')

function parse(file: Buffer): Elf {
  return parseElf((into, position) => file.copy(into, 0, position), file.length)
}

function refuses(file: Buffer, why: RegExp): void {
  assert.throws(
    () => parse(file),
    (error: unknown) => error instanceof ElfError && why.test(error.message),
  )
}

const whole: Made = {
  interp: '/lib64/ld-linux-x86-64.so.2',
  needed: ['libb.so.1', 'liba.so.2', '$ORIGIN/libc.so'],
  auxiliary: ['libaux.so'],
  filter: ['libfilter.so'],
  soname: 'libme.so.3',
  rpath: '/a:$ORIGIN/b',
  runpath: '/c',
  flags1: 0x800,
  dlopen: [
    '[{"soname":["libx.so.1","libx.so.0"],"feature":"x","priority":"required"},{"soname":["liby.so"]}]',
    '{"soname":"libz.so","priority":"suggested"}',
  ],
}

for (const bits of [64, 32] as const) {
  for (const littleEndian of [true, false]) {
    test(`reads ${bits} bits, ${littleEndian ? 'little' : 'big'} endian`, () => {
      const elf = parse(makeElf({...whole, class: bits, littleEndian, machine: 8, flags: 0x70001007}))
      assert.equal(elf, {
        class: bits,
        littleEndian,
        osabi: 0,
        type: 3,
        machine: 8,
        flags: 0x70001007,
        interp: '/lib64/ld-linux-x86-64.so.2',
        dynamic: true,
        soname: 'libme.so.3',
        needed: ['libb.so.1', 'liba.so.2', '$ORIGIN/libc.so'],
        filters: [
          {name: 'libaux.so', required: false},
          {name: 'libfilter.so', required: true},
        ],
        rpath: '/a:$ORIGIN/b',
        runpath: '/c',
        flags1: 0x800,
        dlopen: [
          {sonames: ['libx.so.1', 'libx.so.0'], feature: 'x', priority: 'required'},
          {sonames: ['liby.so'], feature: '', priority: 'recommended'},
          {sonames: ['libz.so'], feature: '', priority: 'suggested'},
        ],
      })
    })
  }
}

test('reads names that lie across pages, and only the pages they are on', () => {
  const name = `lib${'x'.repeat(3000)}.so`
  for (const padding of [3000, 4000, 4090, 100_000]) {
    const file = makeElf({needed: [name, 'last.so'], padding})
    const pages = new Set<number>()
    const elf = parseElf((into, position) => {
      pages.add(position / 4096)
      return file.copy(into, 0, position)
    }, file.length)
    assert.equal(elf.needed, [name, 'last.so'])
    assert.ok(pages.size <= 4, `${pages.size} pages`)
  }
})

test('carries on after a short read', () => {
  const file = makeElf(whole)
  const elf = parseElf(
    (into, position) => file.copy(into, 0, position, position + Math.min(7, into.length)),
    file.length,
  )
  assert.is(elf.soname, 'libme.so.3')
})

test('refuses a file that shrinks while it is read', () => {
  const file = makeElf(whole)
  assert.throws(
    () => parseElf((into, position) => file.copy(into, 0, position, 90), file.length),
    (error: unknown) => error instanceof ElfError && /shorter/.test(error.message),
  )
})

test('takes an object file and a core dump for what they are: nothing to load', () => {
  for (const type of [1, 4]) assert.equal(parse(makeElf({type, needed: ['libx.so']})).needed, [])
})

test('a static program needs nothing', () => {
  const file = makeElf({type: 2})
  file.writeUInt32LE(0, 64 + 56) // PT_DYNAMIC becomes PT_NULL
  const elf = parse(file)
  assert.is(elf.dynamic, false)
  assert.is(elf.interp, undefined)
})

test('says why a file is none', () => {
  const patched = (offset: number, ...bytes: number[]) => {
    const file = makeElf(whole)
    file.set(bytes, offset)
    return file
  }
  refuses(Buffer.alloc(0), /^not an ELF file$/)
  refuses(Buffer.from('#!/bin/sh\n'), /^not an ELF file$/)
  refuses(makeElf().subarray(0, 40), /ends within the ELF header/)
  refuses(makeElf().subarray(0, 60), /past its own end/)
  refuses(makeElf().subarray(0, 100), /past its own end/)
  refuses(patched(4, 3), /class 3/)
  refuses(patched(5, 0), /byte order 0/)
  refuses(patched(54, 55), /55 bytes each instead of 56/)
  refuses(patched(56, 0xff, 0xff), /65535 program headers/)
  refuses(patched(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), /past its own end/)
})

test('refuses an interpreter that the kernel would refuse', () => {
  const at = 64 + 2 * 56 // the third program header
  const unended = makeElf(whole)
  unended.writeUInt32LE(unended.readUInt32LE(at + 32) - 1, at + 32)
  refuses(unended, /interpreter has no end/)
  const long = makeElf(whole)
  long.writeUInt32LE(5000, at + 32)
  refuses(long, /interpreter has 5000 bytes/)
})

test('does not mind damaged notes: the loader does not either', () => {
  for (const text of ['', '{', 'null', '[1,"x",{"soname":7},{"soname":[]}]', `[${'['.repeat(20_000)}`]) {
    assert.equal(parse(makeElf({dlopen: [text]})).dlopen, [])
  }
  const file = makeElf({dlopen: ['{"soname":"libx.so"}'], interp: '/x'})
  const at = 64 + 3 * 56
  file.writeUInt32LE(0xfffffff0, file.readUInt32LE(at + 8)) // the name's length
  assert.equal(parse(file).dlopen, [])
})

test('tells ABIs of one machine apart', () => {
  const abi = (made: Made) => parse(makeElf(made))
  const x86 = abi({})
  assert.ok(sameAbi(x86, abi({soname: 'x'})))
  assert.not.ok(sameAbi(x86, abi({class: 32})), 'x32')
  assert.not.ok(sameAbi(x86, abi({machine: 183})), 'aarch64')
  assert.not.ok(sameAbi(abi({machine: 21}), abi({machine: 21, littleEndian: false})), 'ppc64 and ppc64le')
  const arm = (flags: number) => abi({class: 32, machine: 40, flags})
  assert.ok(sameAbi(arm(0x5000400), arm(0x5000400)))
  assert.not.ok(sameAbi(arm(0x5000400), arm(0x5000200)), 'hard and soft float')
  assert.ok(sameAbi(arm(0x5000400), arm(0x5000000)), 'old objects do not say')
  const mips = (flags: number) => abi({class: 32, machine: 8, flags})
  assert.not.ok(sameAbi(mips(0x20), mips(0)), 'n32 and o32')
  const riscv = (flags: number) => abi({machine: 243, flags})
  assert.ok(sameAbi(riscv(0x5), riscv(0x4)), 'compressed instructions or not')
  assert.not.ok(sameAbi(riscv(0x4), riscv(0x0)))
})

test('reads the program that runs it', () => {
  const fd = openSync(process.execPath, 'r')
  const elf = readElf(fd, fstatSync(fd).size)
  closeSync(fd)
  assert.ok(isElf(Buffer.from([0x7f, 0x45, 0x4c, 0x46])))
  assert.is(elf.class, 64)
  assert.ok(elf.needed.some(name => name.startsWith('libc.')))
})

test.run()
