/** pread(2) on an open file: fills the buffer from there on, and says how much it got. */
export type Pread = (into: Uint8Array, position: number) => number

/** The file is no ELF file, or one that neither the kernel nor the loader could use. */
export class ElfError extends Error {
  /** @param message the plain reason, without the path */
  constructor(message: string) {
    super(message)
    this.name = 'ElfError'
  }
}

const PAGE = 4096
/** How a file begins, one read: the headers, and in most programs the names as well. Another read takes longer than these bytes. */
const HEAD = 4 * PAGE
/** Where further pages go, as many as the longest part takes. */
const WINDOW = 72 * PAGE

/**
 * What was read of the file that is looked at, one at a time: allocating takes longer than reading. First its head, then
 * a window, in which pages are that follow each other.
 */
export const MEMORY = Buffer.allocUnsafeSlow(HEAD + WINDOW)
/** The same, for numbers. */
export const VIEW = new DataView(MEMORY.buffer)

const HEAD_MEMORY = MEMORY.subarray(0, HEAD)
/** Room for one page each; most files take the first one alone. */
const PAGES: Buffer[] = []

/** Reads the beginning of a file, whatever its size is said to be. @returns how much there is, now in MEMORY */
export function readHead(pread: Pread): number {
  return pread(HEAD_MEMORY, 0)
}

/** A file of which parts are read when they are asked for. What `at` says holds until the next part is asked for. */
export class Parts {
  readonly #head: number
  /** What of the file is in the window. */
  #start = 0
  #end = 0

  /** @param have so much of the head is in MEMORY already */
  constructor(
    readonly pread: Pread,
    /** Nothing is read past it. */
    readonly size: number,
    have = 0,
  ) {
    this.#head = Math.min(size, HEAD)
    if (have < this.#head) this.#fill(HEAD_MEMORY.subarray(have, this.#head), have)
  }

  /**
   * Where in MEMORY a part of the file is. It must be no longer than 64 pages.
   * @throws ElfError it is not in the file
   */
  at(position: number, length: number): number {
    if (!(position >= 0 && length >= 0 && position + length <= this.size))
      throw new ElfError('it refers to bytes past its own end')
    if (position + length <= this.#head) return position
    if (position < this.#start || position > this.#end) {
      this.#start = position - (position % PAGE)
      this.#end = this.#start
    } else if (position + length > this.#start + WINDOW) {
      this.#end = this.#start = position - (position % PAGE)
    }
    while (this.#end < position + length) this.#readPage()
    return HEAD + position - this.#start
  }

  #readPage(): void {
    const index = (this.#end - this.#start) / PAGE
    const place = HEAD + index * PAGE
    PAGES[index] ??= MEMORY.subarray(place, place + PAGE)
    const rest = this.size - this.#end
    this.#fill(rest < PAGE ? PAGES[index].subarray(0, rest) : PAGES[index], this.#end)
    this.#end += Math.min(rest, PAGE)
  }

  #fill(into: Buffer, position: number): void {
    for (let filled = 0; filled < into.length; ) {
      const got = this.pread(filled === 0 ? into : into.subarray(filled), position + filled)
      if (got <= 0) throw new ElfError('the file became shorter while it was read')
      filled += got
    }
  }

  /**
   * The string that begins there, ended by a NUL before `end`.
   * @throws ElfError it has no end, or not within `longest` bytes
   */
  string(position: number, end: number, longest: number): string {
    const limit = Math.min(end, this.size, position + longest)
    // Most lie in one page.
    for (let to = position; to < limit; ) {
      to = Math.min(limit, to - (to % PAGE) + PAGE)
      const from = this.at(position, to - position)
      const nul = MEMORY.indexOf(0, from)
      if (nul >= 0 && nul < from + to - position) return MEMORY.toString('utf8', from, nul)
    }
    throw new ElfError(limit < end ? 'a name in it is too long' : 'a name in it has no end')
  }
}
