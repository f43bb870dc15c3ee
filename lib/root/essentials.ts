/** What a root that a person can work in consists of. */

/** The directories of hier(7), with their modes where these are not 0755. */
export const DIRECTORIES: [path: string, mode?: number][] = [
  ['/usr'],
  ['/usr/bin'],
  ['/usr/sbin'],
  ['/usr/lib'],
  ['/usr/share'],
  ['/usr/local'],
  ['/usr/local/bin'],
  ['/bin'],
  ['/sbin'],
  ['/lib'],
  ['/dev'],
  ['/etc'],
  ['/home'],
  ['/media'],
  ['/mnt'],
  ['/opt'],
  ['/proc', 0o555],
  ['/root', 0o700],
  ['/run'],
  ['/srv'],
  ['/sys', 0o555],
  ['/tmp', 0o1777],
  ['/var'],
  ['/var/cache'],
  ['/var/lib'],
  ['/var/log'],
  ['/var/tmp', 0o1777],
]

/** Links that a system has beside the ones of a merged /usr. */
export const LINKS: [path: string, target: string][] = [
  ['/var/run', '/run'],
  ['/var/lock', '/run/lock'],
  ['/etc/mtab', '../proc/self/mounts'],
]

/** The programs of a first lesson in containers. */
export const PROGRAMS = `
  sh bash ls cat cp mv rm mkdir rmdir ln chmod chown pwd echo printf env id whoami ps kill sleep seq yes tr head tail
  grep sed awk sort uniq wc cut tee find xargs date df du touch stat dd mount umount hostname uname tty stty clear
  less vi top free which true false test ip`
  .trim()
  .split(/\s+/)

/** Where ncurses looks for a terminal's description: terminfo(5). */
export const TERMINFO = ['/etc/terminfo', '/lib/terminfo', '/usr/share/terminfo']

export const TERMINALS = [
  'ansi',
  'dumb',
  'linux',
  'rxvt',
  'rxvt-unicode',
  'rxvt-unicode-256color',
  'screen',
  'screen-256color',
  'tmux',
  'tmux-256color',
  'vt100',
  'vt102',
  'vt220',
  'xterm',
  'xterm-256color',
]

/** C.UTF-8 as a directory of its own; a locale-archive holds all of a machine's languages, and is left. */
export const LOCALES = ['/usr/lib/locale/C.utf8', '/usr/lib/locale/C.UTF-8']

/** What libc opens with dlopen(3) to look up users and hosts; newer ones have it built in. */
export const NAME_SERVICES = ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2']

/** Vim without its runtime files complains at every start, unless it finds an .exrc of vi's. */
export const EXRC: [path: string, content: string] = [
  '/root/.exrc',
  '" vi: the runtime files of Vim are not here\n',
]

/** The files in /etc, all of them hew's own: the machine's users and addresses are none of the root's business. */
export function configurationFiles(hostname: string, shell: string): [path: string, content: string][] {
  return [
    ['/etc/passwd', `root:x:0:0:root:/root:${shell}\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n`],
    ['/etc/group', 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n'],
    ['/etc/hosts', '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n'],
    ['/etc/hostname', `${hostname}\n`],
    [
      '/etc/nsswitch.conf',
      ['passwd: files', 'group: files', 'shadow: files', 'hosts: files dns', 'networks: files']
        .concat(['protocols: files', 'services: files'])
        .map(line => `${line}\n`)
        .join(''),
    ],
    ['/etc/shells', `${shell}\n`],
  ]
}
