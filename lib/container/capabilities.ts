import {UsageError} from '../errors.ts'
import {nearest} from '../nearest.ts'

/** capabilities(7), each at the place of its number in <linux/capability.h>. */
const NAMES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP'],
  ...[
    'LINUX_IMMUTABLE',
    'NET_BIND_SERVICE',
    'NET_BROADCAST',
    'NET_ADMIN',
    'NET_RAW',
    'IPC_LOCK',
    'IPC_OWNER',
  ],
  ...[
    'SYS_MODULE',
    'SYS_RAWIO',
    'SYS_CHROOT',
    'SYS_PTRACE',
    'SYS_PACCT',
    'SYS_ADMIN',
    'SYS_BOOT',
    'SYS_NICE',
  ],
  ...[
    'SYS_RESOURCE',
    'SYS_TIME',
    'SYS_TTY_CONFIG',
    'MKNOD',
    'LEASE',
    'AUDIT_WRITE',
    'AUDIT_CONTROL',
    'SETFCAP',
  ],
  ...['MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF'],
  'CHECKPOINT_RESTORE',
].map(name => `CAP_${name}`)

/**
 * The capabilities that a word means: `net_admin`, `CAP_NET_ADMIN` or `ALL`.
 * @throws UsageError there is none of that name
 */
export function capabilitiesOf(word: string): string[] {
  const upper = word.toUpperCase()
  if (upper === 'ALL') return NAMES
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (NAMES.includes(name)) return [name]
  const meant = nearest(name, NAMES)
  throw new UsageError(
    `unknown capability ${word}${meant ? `: did you mean ${meant}?` : ' (see capabilities(7))'}`,
  )
}

/** Whether a document's word is the name of a capability. */
export function isCapability(name: string): boolean {
  return NAMES.includes(name)
}

/** A set of capabilities, by their full names, as the kernel writes it: one bit each. */
export function mask(names: readonly string[] = []): bigint {
  return names.reduce((set, name) => set | (1n << BigInt(NAMES.indexOf(name))), 0n)
}
