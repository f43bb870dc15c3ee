import {quote} from '../shell.ts'

/** What runs the lines of outside programs. */
export const SHELL = '/bin/sh'

/** zx, for the few outside programs that hew runs; loaded only then, since it takes as long to start as half of Node. */
export async function outside() {
  // The caller's ZX_* would change what hew does.
  for (const name of Object.keys(process.env)) if (name.startsWith('ZX_')) delete process.env[name]
  const {$} = await import('zx/core')
  // zx would look for bash, which not every machine has.
  return $({shell: SHELL, prefix: '', postfix: '', quote, quiet: true, nothrow: true})
}
