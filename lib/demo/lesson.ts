import {type Above, above, type Lacking, type Topmost, topmost, version} from './machine.ts'

/** A line as it is typed, and what must come of it. */
export interface Turn {
  line: string
  /** What must be in what it prints, stdout and stderr together. */
  says: RegExp
  /** What must not be. */
  not?: RegExp
  /** Its exit status; 0 unless another is named. */
  status?: number | 'any'
  /** Its stdout is a terminal. */
  terminal?: true
  /** What the machine must have for it, by the names of Lacking (machine.ts). */
  needs?: string[]
  /** How much of a long output is shown. */
  most?: number
}

/** What is seen in two outputs together, and whether it is as it should be. */
export interface Seen {
  right: boolean
  text: string
}

/** A thing that the lesson shows: typed by hand, and done by hew. */
export interface Step {
  title: string
  why: string
  hand?: Turn
  hew?: Turn
  /** Looked at when both lines were typed. */
  seen?(hand: string, hew: string): Seen
}

/** Its steps are made when it begins: they depend on what those before have changed. */
export interface Chapter {
  title: string
  steps(own: Own, here: Lacking): Step[]
}

/** What belongs to this run alone. */
export interface Own {
  /** The name of the container, and of all else that others can see. */
  name: string
  /** How many seconds something is looked at. */
  seconds: number
}

const COPIED = ['bash', 'ls', 'cat', 'mount']
const UNSHARE =
  'unshare --mount --uts --ipc --net --pid --fork --user --map-root-user \\\n  chroot my-new-root'
const LOOK = 'for n in mnt uts ipc net pid user cgroup; do readlink /proc/self/ns/$n; done'
const MOUNTS =
  'mount -t proc none /proc; mount -t sysfs none /sys; mount -t tmpfs none /tmp\n  cat /proc/mounts; echo $$'
const MOUNTED = /^none \/proc proc [\s\S]*^none \/sys sysfs [\s\S]*^none \/tmp tmpfs [\s\S]*^1$/m

const root: Chapter = {
  title: 'A root of one’s own',
  steps: () => [
    {
      title: 'This machine',
      why: 'What can be done here, and what is in the way: hew finds it out by trying.',
      hand: {line: 'uname -sr; id -u', says: /^Linux \d/},
      hew: {
        line: "hew check | sed -n '/^in short/,/^$/p; $p'",
        says: /^'hew enter' works here\.$/m,
        needs: ['sed'],
      },
    },
    {
      title: 'A root is a directory',
      why: 'By hand it is empty; mkroot adds the directories that every system has.',
      hand: {line: 'mkdir my-new-root; ls my-new-root', says: /^$/},
      hew: {line: 'hew mkroot --empty --quiet my-new-root; ls -C my-new-root', says: /\betc\b.*\busr\b/s},
    },
    {
      title: 'With something in it',
      why: 'A file, to know the place by.',
      hand: secret(),
      hew: secret(),
    },
    {
      title: 'Entering fails',
      why: 'There is no bash in it. hew says so, and what to do about it.',
      hand: {
        line: 'chroot my-new-root bash',
        says: /bash.*No such file|No such file.*bash/i,
        status: 127,
        needs: ['root', 'chroot'],
      },
      hew: {line: 'hew enter -r my-new-root', says: /has no bash: add it with 'hew copy-deps/, status: 127},
    },
    {
      title: 'What bash needs',
      why: 'ldd executes the loader to find out; hew reads the files, also those it should not execute.',
      hand: {line: 'ldd "$(command -v bash)"', says: /libc/, needs: ['bash', 'ldd']},
      hew: {line: 'hew copy-deps --list bash', says: /libc.*DT_NEEDED/, needs: ['bash']},
      seen: (hand, hew) => {
        const libraries = [...hand.matchAll(/(?:^|=> )\s*\/\S*?([^/\s]+) \(/gm)].map(([, name]) => name!)
        const missing = libraries.filter(name => !hew.includes(`/${name}`))
        return missing.length === 0 && libraries.length > 0
          ? {right: true, text: `both name ${libraries.join(', ')}`}
          : {right: false, text: `ldd alone names ${missing.join(', ') || 'nothing'}`}
      },
    },
    {
      title: 'And copied',
      why: 'Each program with its libraries and its loader, under the same paths.',
      hand: {
        line: [
          `for p in ${COPIED.join(' ')}; do`,
          '  p=$(command -v $p); cp -L --parents "$p" $(ldd "$p" | grep -o "/[^ ]*") my-new-root',
          'done; ls my-new-root',
        ].join('\n'),
        says: /^lib/m,
        needs: ['bash', 'ldd', 'mount'],
      },
      hew: {
        line: `hew copy-deps --quiet -r my-new-root ${COPIED.join(' ')}`,
        says: /my-new-root$/m,
        needs: ['bash', 'mount'],
      },
    },
    {
      title: 'Inside',
      why: 'The directory is /, and the files of the machine are out of sight.',
      hand: {...inside('chroot my-new-root'), needs: ['root', 'chroot', 'bash', 'ldd', 'mount']},
      hew: {...inside('hew enter -r my-new-root --'), needs: ['bash', 'mount']},
    },
  ],
}

function secret(): Turn {
  const line = 'echo "my super secret thing" > my-new-root/secret.txt; ls my-new-root/secret.txt'
  return {line, says: /secret\.txt$/m}
}

function inside(enter: string): Turn {
  return {
    line: `${enter} bash -c 'pwd; ls -x; cat secret.txt; ls /etc/passwd'`,
    says: /^\/$[\s\S]*^my super secret thing$[\s\S]*passwd.*No such file/m,
    status: 2,
  }
}

const namespaces: Chapter = {
  title: 'What chroot does not do',
  steps: () => [
    {
      title: 'A process of the machine',
      why: 'From a chroot it is seen and killed. From a container it is not there.',
      hand: {
        line: [
          'mkdir -p my-new-root/proc; mount -t proc proc my-new-root/proc; sleep 30 &',
          `chroot my-new-root bash -c "cat /proc/$!/comm; kill $!"; wait $!; echo "sleep ended: $?"`,
          'umount my-new-root/proc',
        ].join('\n'),
        says: /^(sleep|sh)$[\s\S]*^sleep ended: 143$/m,
        needs: ['root', 'chroot', 'bash', 'ldd', 'mount', 'umount'],
      },
      hew: {
        line: [
          'sleep 30 &',
          'hew enter -r my-new-root -- bash -c "cat /proc/$!/comm; kill $!"',
          'kill $! && echo "sleep was alive"',
        ].join('\n'),
        says: /No such file[\s\S]*No such process[\s\S]*^sleep was alive$/m,
        needs: ['bash', 'mount'],
      },
    },
    {
      title: 'Namespaces',
      why: 'What a process can see of the machine. Two with the same number see the same.',
      hand: {line: LOOK, says: /^mnt:\[\d+\]$[\s\S]*^cgroup:\[\d+\]$/m, needs: ['readlink']},
      hew: {
        line: `hew mkroot --rm --with sh,readlink | hew enter -- sh -c '\n  ${LOOK}'`,
        says: /^mnt:\[\d+\]$[\s\S]*^cgroup:\[\d+\]$/m,
        needs: ['readlink'],
      },
      seen: (hand, hew) => {
        const ours = hand.split('\n')
        const theirs = hew.split('\n')
        const other = theirs.filter(line => /^\w+:\[/.test(line) && !ours.includes(line))
        return {right: other.length === 7, text: `${other.length} of 7 are others inside`}
      },
    },
    {
      title: 'unshare',
      why: 'The line of the lesson. --by-hand does just that, and nothing more.',
      hand: {
        line: `${UNSHARE} bash -c 'echo "I am process $$, user $UID"'`,
        says: /^I am process 1, user 0$/m,
        needs: ['root', 'unshare', 'chroot', 'bash', 'ldd', 'mount'],
      },
      hew: {
        line: `hew enter --by-hand -r my-new-root -- bash -c 'echo "I am process $$, user $UID"'`,
        says: /^I am process 1, user 0$/m,
        needs: ['bash', 'mount'],
      },
    },
    {
      title: 'And the mounts',
      why: 'A PID namespace takes a /proc of its own, a network namespace a /sys.',
      hand: {
        line: `mkdir -p my-new-root/proc my-new-root/sys my-new-root/tmp\n${UNSHARE} bash -c '\n  ${MOUNTS}'`,
        says: MOUNTED,
        needs: ['root', 'unshare', 'chroot', 'bash', 'ldd', 'mount'],
      },
      hew: {
        line: `hew enter --by-hand -r my-new-root -- bash -c '\n  ${MOUNTS}'`,
        says: MOUNTED,
        needs: ['bash', 'mount'],
      },
    },
    {
      title: 'enter',
      why: 'All that a container takes, each step as a line of a shell when it is done.',
      hew: {
        line: "hew enter --explain -r my-new-root -- bash -c 'echo I am process $$'",
        says: /unshare[\s\S]*mount[\s\S]*pivot_root[\s\S]*^I am process 1$/m,
        most: 14,
        needs: ['bash', 'mount'],
      },
    },
    {
      title: 'A better root',
      why: 'A whole Debian, from a mirror. (By hand the same: the line is not typed, as it takes as long.)',
      hew: {
        line: 'hew mkroot --quiet --debootstrap bookworm --variant minbase better-root 2>/dev/null',
        says: /better-root$/m,
        needs: ['root', 'debootstrap', 'mirror'],
      },
    },
  ],
}

/** What v1 and v2 call the same. */
const FILES = {
  1: {
    memory: 'memory.limit_in_bytes',
    swap: (bytes: number) => ` &&\n  echo ${bytes} > "$memory/memory.memsw.limit_in_bytes"`,
    peak: 'memory.max_usage_in_bytes',
    kills: 'memory.oom_control',
    cpu: 'echo 100000 > "$cpu/cpu.cfs_period_us" && echo 5000 > "$cpu/cpu.cfs_quota_us"',
  },
  2: {
    memory: 'memory.max',
    swap: () => ' &&\n  echo 0 > "$memory/memory.swap.max"',
    peak: 'memory.peak',
    kills: 'memory.events',
    cpu: 'echo 5000 100000 > "$cpu/cpu.max"',
  },
} as const

const MIB = 1024 * 1024
const ENOUGH = 512 * MIB
const LITTLE = 80 * MIB
/** grep(1) takes in a whole line, and this one has no end. */
const HOG = 'yes | tr \\\\n x | head -c 100000000 | grep -c x'
const HOG_TOOLS = 'sh,yes,tr,head,grep'
const FIVE = 'for i in 1 2 3 4 5; do sleep 2 & echo $i; done; wait'
const BOMB = 'fork() { fork | fork & }; fork; wait'

const ready: Chapter = {
  title: 'Limits: getting ready',
  steps: (_, here) => {
    const v2 = here('limits') === undefined ? topmost() : undefined
    return [
      {
        title: 'v1 or v2',
        why: 'v2 is one tree of cgroups with all controllers; v1 is one tree for each.',
        hand: {line: 'grep -c cgroup /proc/mounts', says: v2 ? /^\d+$/m : /^([2-9]|\d\d)$/m, needs: ['grep']},
        hew: {
          line: "hew check | sed -n '/^cgroups/,/^$/p'",
          says: v2 ? /hierarch.* v2/ : /hierarch.* v1/,
          most: 16,
          needs: ['limits', 'sed'],
        },
      },
      v2 ? missing(v2) : nothingMissing(),
    ]
  },
}

function nothingMissing(): Step {
  return {
    title: 'Controllers',
    why: 'With v1 none has to be enabled: each is there for all of its tree.',
    hand: {line: 'cat /proc/self/cgroup', says: /:memory:[\s\S]*:pids:|:pids:[\s\S]*:memory:/},
    hew: {line: 'hew cgroup-init', says: /v1, whose controllers need no preparation/, needs: ['limits']},
  }
}

function missing({directory, controllers, evacuate, busy}: Topmost): Step {
  const all = controllers.map(name => `+${name}`).join(' ')
  return {
    title: 'Controllers that are missing',
    why: evacuate
      ? 'None can be enabled for the cgroups below one that holds processes: first those move out.'
      : 'They are enabled for the cgroups below. In the kernel’s own root nobody is in the way.',
    hand: {
      line: [
        `cd ${directory}`,
        ...(busy ? ['/bin/echo +memory > cgroup.subtree_control', 'mkdir -p other-procs', MOVE] : []),
        `echo "${all}" > cgroup.subtree_control; cat cgroup.subtree_control`,
      ].join('\n'),
      says: busy ? /busy[\s\S]*memory/i : /memory/,
      needs: ['limits'],
    },
    hew: {line: 'hew cgroup-init', says: /enabled.*memory.*pids/, needs: ['limits']},
  }
}

/** Some of them have ended before they can be moved. */
const MOVE = 'for p in $(cat cgroup.procs); do echo $p > other-procs/cgroup.procs; done 2>/dev/null'

const limits: Chapter = {
  title: 'Limits: three exercises',
  steps: own => {
    const files = FILES[version()]
    const memory = (bytes: number): string =>
      `echo ${bytes} > "$memory/${files.memory}"${files.swap(bytes)} &&\n  cat "$memory/${files.memory}" &&\n  `
    const byHand = (line: string): string => `sh -c 'echo $$ > "$memory/cgroup.procs" &&\n  ${line}'`
    const needs = ['cgroups', 'yes', 'tr', 'head', 'grep']
    const cpu = `yes > /dev/null & sleep ${own.seconds}; kill $!; wait`
    const burn = (before: string): string =>
      `${before}sh -c 'echo $$ > "$cpu/cgroup.procs" && { ${cpu}; times; }'`
    const five = `sh -c 'echo $$ > "$pids/cgroup.procs" && {\n  ${FIVE}; }'`
    const verdict = (field: string): string => `grep -o '"${field}":[0-9.]*' verdict`
    const used: {hand: number; hew: number}[] = []
    return [
      {
        title: 'A cgroup',
        why: 'By hand it is a directory, into which the process that is to be limited gets written. enter makes one for each container.',
        hand: {
          line: 'mkdir -p "$memory" "$cpu" "$pids"; ls -d "$memory" "$cpu" "$pids"',
          says: /by-hand/,
          needs,
        },
        hew: {
          line: `hew mkroot --with sh,sleep ${own.name} | hew limit --memory 512M --pids 100 |\n  hew enter --detach --name ${own.name} -- sleep 600 > state\ngrep -o '"status":"[a-z]*"' state`,
          says: /^"status":"running"$/m,
          needs,
        },
      },
      {
        title: 'Memory: before',
        why: 'A line of 100 MB, which grep takes in. (512 MiB are a net, should it take more.)',
        hand: {
          line: `${memory(ENOUGH)}${byHand(HOG)}\ncat "$memory/${files.peak}"`,
          says: /^536870912$[\s\S]*^1$/m,
          status: 'any',
          needs,
        },
        hew: {
          line: `hew mkroot --rm --with ${HOG_TOOLS} | hew limit --memory 512M |\n  hew enter --verdict verdict -- sh -c '${HOG}'\n${verdict('peakMemoryBytes')}`,
          says: /^1$[\s\S]*peakMemoryBytes":\d/m,
          needs,
        },
      },
      {
        title: 'Memory: after, with 80 MiB',
        why: 'The same line: the kernel kills what does not fit.',
        hand: {
          line: `${memory(LITTLE)}${byHand(HOG)}\ngrep '^oom_kill ' "$memory/${files.kills}"`,
          says: /^83886080$[\s\S]*^oom_kill [1-9]/m,
          not: /^1$/m,
          needs,
        },
        hew: {
          line: `hew mkroot --rm --with ${HOG_TOOLS} | hew limit --memory 80M |\n  hew enter --verdict verdict -- sh -c '${HOG}'\n${verdict('peakMemoryBytes')}`,
          says: /killed by its memory limit \(80 MiB, \d+ kills?\)[\s\S]*peakMemoryBytes":\d/,
          not: /^1$/m,
          needs,
        },
        seen: (_, hew) => {
          const peak = Number(/peakMemoryBytes":(\d+)/.exec(hew)?.[1] ?? 'NaN')
          return {
            right: peak <= LITTLE,
            text: `at the most ${(peak / MIB).toFixed(0)} MiB of 80 MiB were in use`,
          }
        },
      },
      {
        title: 'CPU: before',
        why: `yes runs for ${own.seconds} s, as fast as it can.`,
        hand: {line: burn(''), says: /^\d+m[\d.]+s/m, needs},
        hew: {
          line: `hew mkroot --rm --with sh,yes,sleep |\n  hew enter --verdict verdict -- sh -c '${cpu}'\n${verdict('cpuSeconds')}`,
          says: /cpuSeconds":\d/,
          needs,
        },
        seen: (hand, hew) => {
          const both = {hand: times(hand), hew: cpuSeconds(hew)}
          used.push(both)
          return {right: both.hand > 0 && both.hew > 0, text: seconds(both)}
        },
      },
      {
        title: 'CPU: after, with 5% of a core',
        why: '5 ms in each 100 ms; then it has to wait.',
        hand: {
          line: burn(`${files.cpu} &&\n  `).concat('\ngrep nr_throttled "$cpu/cpu.stat"'),
          says: /^nr_throttled [1-9]/m,
          needs,
        },
        hew: {
          line: `hew mkroot --rm --with sh,yes,sleep | hew limit --cpu 5% |\n  hew enter --verdict verdict -- sh -c '${cpu}'\n${verdict('cpuSeconds')}`,
          says: /held back \d[\d.]* s of CPU \(limit 5% of a CPU\)[\s\S]*cpuSeconds":\d/,
          needs,
        },
        seen: (hand, hew) => {
          const now = {hand: times(hand), hew: cpuSeconds(hew)}
          const before = used[0]
          if (!before) return {right: false, text: 'there is no before'}
          return {
            right: now.hand < before.hand && now.hew < before.hew,
            text: `${seconds(now)} (before: ${before.hand.toFixed(2)} and ${before.hew.toFixed(2)})`,
          }
        },
      },
      {
        title: 'Meanwhile',
        why: 'The container from before is still there. Who is in it, and what does it use?',
        hand: {
          line: 'cat "$limited/cgroup.procs"; cat "$limited/pids.max"',
          says: /^\d+$[\s\S]*^100$/m,
          needs,
        },
        hew: {
          line: `hew ps ${own.name}`,
          says: /memory .* of 512 MiB[\s\S]*pids 1 of 100[\s\S]*sleep 600/,
          terminal: true,
          needs: [...needs, 'script'],
        },
      },
      {
        title: 'Processes: before',
        why: 'Five in the background.',
        hand: {line: five, says: /^1\n2\n3\n4\n5$/m, needs},
        hew: {line: `hew enter -t ${own.name} -- sh -c '\n  ${FIVE}'`, says: /^1\n2\n3\n4\n5$/m, needs},
      },
      {
        title: 'A limit is changed while it runs',
        why: 'Three processes. The kernel is asked what it has understood.',
        hand: {line: 'echo 3 > "$pids/pids.max"; cat "$pids/pids.max"', says: /^3$/m, needs},
        hew: {
          line: `hew limit --pids 3 ${own.name} && cat "$limited/pids.max"`,
          says: /processes\s+\d+ of 3[\s\S]*^3$/m,
          needs,
        },
      },
      {
        title: 'Processes: after, with 3',
        why: 'The shell is one of them; and in the container, so is what it runs.',
        hand: {line: five, says: /fork/i, not: /^5$/m, status: 'any', needs},
        hew: {
          line: `hew enter -t ${own.name} -- sh -c '\n  ${FIVE}'`,
          says: /fork/i,
          not: /^5$/m,
          status: 'any',
          needs,
        },
      },
      {
        title: 'A fork bomb',
        why: 'It begins only when the shell that it is in has read the limit back, and finds itself in that cgroup. Three processes, and it fizzles out.',
        hand: {
          line: [
            `sh -c 'echo $$ > "$pids/cgroup.procs" && read max < "$pids/pids.max" &&`,
            `  [ "$max" = 3 ] && grep -qx $$ "$pids/cgroup.procs" || exit 9`,
            `  exec unshare --pid --fork sh -c "${BOMB}"'`,
            'grep max "$pids/pids.events"',
          ].join('\n'),
          says: /^max [1-9]/m,
          needs: [...needs, 'unshare'],
        },
        hew: {
          line: [
            'hew mkroot --rm --with sh | hew limit --pids 3 |',
            `  hew enter --name ${own.name}-bomb --bind "$above:/limit:ro" -- sh -c '`,
            `  cd /limit/${own.name}-bomb && read max < pids.max && read pid < cgroup.procs &&`,
            `  [ "$max $pid" = "3 $$" ] || exit 9`,
            `  ${BOMB}'`,
          ].join('\n'),
          says: /refused \d+ forks? \(pids limit 3\)/,
          status: 'any',
          needs,
        },
      },
    ]
  },
}

/** What `times` says about children, in its second line: user and system time. */
function times(text: string): number {
  const all = [...text.matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => 60 * Number(m) + Number(s))
  return (all[2] ?? Number.NaN) + (all[3] ?? Number.NaN)
}

function cpuSeconds(text: string): number {
  return Number(/cpuSeconds":([\d.]+)/.exec(text)?.[1] ?? 'NaN')
}

function seconds({hand, hew}: {hand: number; hew: number}): string {
  return `${hand.toFixed(2)} s of CPU by hand, ${hew.toFixed(2)} s with hew`
}

const end: Chapter = {
  title: 'The same in one line, and the end',
  steps: ({name}) => [
    {
      title: 'One line',
      why: 'Each command does one step, and hands on a document.',
      hew: {
        line: [
          'hew mkroot --rm --empty | hew copy-deps bash ls | hew cgroup-init |',
          `  hew limit --memory 80M --cpu 5% --pids 3 |`,
          `  hew enter -- bash -c 'pwd; ls -x; echo "I am process $$"'`,
        ].join('\n'),
        says: /^\/$[\s\S]*^I am process 1$/m,
        needs: ['bash', 'cgroups'],
      },
    },
    {
      title: 'The end',
      why: 'By hand a cgroup is removed like a directory, once nobody is in it.',
      hand: {
        line: 'for at in "$memory" "$cpu" "$pids"; do [ ! -d "$at" ] || rmdir "$at"; done',
        says: /^$/,
        needs: ['cgroups'],
      },
      hew: {
        line: `hew kill ${name}; hew wait ${name} > verdict; hew rm --root ${name}\ngrep -o '"signal":[0-9]*' verdict`,
        says: /^"signal":(9|15)$/m,
        needs: ['cgroups', 'yes', 'tr', 'head', 'grep'],
      },
    },
    {
      title: 'Nothing is left',
      why: 'No cgroup, no state, no process.',
      hand: {
        line: `find /sys/fs/cgroup -name 'by-hand-*' -path "*\${memory##*/}*"`,
        says: /^$/,
        needs: ['cgroups', 'find'],
      },
      hew: {
        line: `hew ps ${name}; find /sys/fs/cgroup /run/hew /var/lib/hew -name '${name}*'`,
        says: new RegExp(`${name}`),
        not: new RegExp(`/${name}`),
        status: 'any',
        needs: ['cgroups', 'find'],
      },
    },
  ],
}

/** The lesson, in the order in which a class sees it. */
export const LESSON: Chapter[] = [root, namespaces, ready, limits, end]

/** The cgroups that lines make by hand; none where that cannot be done. */
export function madeByHand({name}: Own): string[] {
  const at = attempt()
  const made = name.replace(/^[a-z]+/, 'by-hand')
  return at ? [at.memory, at.cpu, at.pids].map(directory => `${directory}/${made}`) : []
}

/** What lines call the directories of cgroups: those made by hand, that of the container, and where they are. */
export function variables(own: Own): Record<string, string> {
  const [memory, cpu, pids] = madeByHand(own)
  const above = attempt()?.pids
  if (memory === undefined || cpu === undefined || pids === undefined || above === undefined) return {}
  return {memory, cpu, pids, above, limited: `${above}/${own.name}`}
}

function attempt(): Above | undefined {
  try {
    return above()
  } catch {
    return undefined
  }
}
