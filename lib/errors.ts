/** Exit statuses, as docker and env(1) have them; a command's own status is passed on as it is. */
export const EXIT = {
  /** copy-deps: something that a program needs is nowhere to be found. */
  missing: 1,
  /** The command line cannot be understood. */
  usage: 2,
  /** hew itself failed, before the command in the container was executed. */
  hew: 125,
  /** The command is there and cannot be executed. */
  cannotExecute: 126,
  /** The command is not there. */
  notFound: 127,
} as const

/** A failure that a person can do something about: one line (or a few) of text, never a stack trace. */
export class HewError extends Error {
  /** What a person reads: a path with a newline in it stays on its line. */
  readonly lines: string[]

  /** @param message what failed, on which path, why, what to do, as a line or several; @param status the exit status */
  constructor(
    message: string | string[],
    readonly status: number = EXIT.hew,
  ) {
    super([message].flat().join('\n'))
    this.lines = [message].flat()
    this.name = 'HewError'
  }
}

/** A command line that cannot be understood: exit status 2, nothing done. */
export class UsageError extends HewError {
  constructor(message: string) {
    super(message, EXIT.usage)
    this.name = 'UsageError'
  }
}

/** At the end of an error whose reason lies in the machine: there it is told in more than one line. */
export const SEE_CHECK = ": see 'hew check'"

/** errno(3) in words, for the errors of Node's fs that people meet. */
const WORDS: Record<string, string> = {
  EACCES: 'permission denied',
  EBUSY: 'it is in use',
  EEXIST: 'it exists already',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  ENOENT: 'it is not there',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'it is not a directory',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  EIO: 'input/output error',
  EPIPE: 'nobody reads it',
}

/** The reason of a failed system call, without Node's own wording around it. */
export function reason(error: unknown): string {
  const {code, message} = error as NodeJS.ErrnoException
  return (code && WORDS[code]) || message.replace(/^[A-Z]+: /, '')
}

/** Words in a sentence: `memory, cpu and pids`. */
export function series(words: string[]): string {
  return [words.slice(0, -1).join(', '), ...words.slice(-1)].filter(part => part !== '').join(' and ')
}
