/** What the launcher (lib/stage/launch.c) knows about the start and the program cannot see any more. */

declare const HEW_BINARY: boolean | undefined
declare const HEW_VERSION: string | undefined

/** True in dist/hew, false while developing (`npx tsx scripts/mkroot.ts`). */
export const packaged: boolean = typeof HEW_BINARY !== 'undefined' && HEW_BINARY

/** hew's version, of package.json. */
export const version: string = typeof HEW_VERSION !== 'undefined' ? HEW_VERSION : 'development'

/** RLIMIT_NOFILE as the caller has it, "soft:hard": Node raises the soft limit at its start. */
export const callersFileLimit: string | undefined = process.env.HEW_LAUNCH?.slice('nofile='.length)

/** HEW_EXPLAIN=1, for all commands of a pipe: each step is said when it is done. */
export const explaining: boolean = ['', '0', undefined].indexOf(process.env.HEW_EXPLAIN) < 0

/** Where the launcher has put the descriptor of `--verdict FD`, out of Node's reach. */
export const VERDICT_FD = 99

// Nothing of hew's own is handed to a program that it starts.
delete process.env.HEW_LAUNCH
delete process.env.HEW_EXPLAIN
