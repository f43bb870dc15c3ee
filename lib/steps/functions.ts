import type {Line} from './line.ts'

/**
 * Functions of the printed scripts (lib/script.ts), for what takes more than a line. POSIX sh with the tools of coreutils or of
 * BusyBox; "$root" is the root in force, and every path absolute.
 */
const FUNCTIONS = {
  refuse: {
    does: 'refuse WHY',
    needs: [],
    text: `
refuse() {
    printf '%s\\n' "$1" >&2
    exit 125
}`,
  },
  beneath: {
    does: 'beneath PATH: "$at" is where it is in the root. Links are followed as if the root were /, all but the last: a root\nmay hold lib -> /etc, and that is not the machine\'s (openat2(2): RESOLVE_IN_ROOT).\nNo shell can keep them from being changed meanwhile.',
    needs: ['refuse'],
    text: `
beneath() {
    at=$root
    rest=$1
    hops=0
    while [ -n "$rest" ]; do
        name=\${rest%%/*}
        case $rest in
            */*) rest=\${rest#*/} ;;
            *) rest= ;;
        esac
        case $name in
            '' | .) continue ;;
            ..)
                [ "$at" = "$root" ] || at=\${at%/*}
                continue
                ;;
        esac
        at=$at/$name
        if [ -n "$rest" ] && [ -L "$at" ]; then
            hops=$((hops + 1))
            [ "$hops" -le 40 ] || refuse "$root$1: too many links"
            target=$(readlink -n "$at" && echo /)
            at=\${at%/*}
            case $target in /*) at=$root ;; esac
            rest=$target$rest
        fi
    done
}`,
  },
  is_there: {
    does: 'is_there PATH: also a link to nothing is',
    needs: [],
    text: `
is_there() {
    [ -e "$1" ] || [ -L "$1" ]
}`,
  },
  must_be_directory: {
    does: 'must_be_directory PATH: or a link to one in the root',
    needs: ['beneath', 'refuse'],
    text: `
must_be_directory() {
    beneath "$1/."
    [ -d "$at" ] || refuse "$at is there already, and is no directory"
}`,
  },
  new_root: {
    does: 'new_root DIR: with its parents; one that is there must be empty',
    needs: ['is_there', 'refuse'],
    text: `
new_root() {
    root=$1
    if [ ! -d "$root" ]; then
        (umask 022 && mkdir -p "$root")
        chmod 00755 "$root"
    fi
    for entry in "$root"/* "$root"/.[!.]* "$root"/..?*; do
        if is_there "$entry"; then refuse "$root is not empty"; fi
    done
}`,
  },
  directory: {
    does: 'directory MODE PATH: one that is there stays as it is. (Of five digits the first ones take a setgid bit away that the\nparent gives.)',
    needs: ['beneath', 'is_there', 'must_be_directory'],
    text: `
directory() {
    beneath "$2"
    if is_there "$at"; then
        must_be_directory "$2"
    else
        mkdir -m "0$1" "$at"
    fi
}`,
  },
  directory_like: {
    does: 'directory_like DIR: the same directory in the root. It gets its attributes at the end: by then everything is in it.',
    needs: ['beneath', 'is_there', 'must_be_directory'],
    text: `
made=//
directory_like() {
    beneath "$1"
    if is_there "$at"; then
        must_be_directory "$1"
    else
        mkdir -m 700 "$at"
        made=$made$1//
    fi
}`,
  },
  finish: {
    does: 'finish DIR: the attributes of one that was made',
    needs: ['directory_like'],
    text: `
finish() {
    case $made in *"//$1//"*) ;; *) return ;; esac
    beneath "$1"
    mode=$(stat -Lc %a "$1")
    # An ordinary user gives nothing away.
    chown "$(stat -Lc %u:%g "$1")" "$at" 2>/dev/null || mode=$(printf %o $((0$mode & 01777)))
    case $(tar --version 2>/dev/null) in
        *GNU*) tar -C "$1" --no-recursion --xattrs --acls -cf - . | tar -C "$at" --xattrs --xattrs-include='*' --acls -xf - ;;
    esac
    chmod "00$mode" "$at"
    touch -r "$1" "$at"
}`,
  },
  same_file: {
    does: 'same_file SOURCE COPY MODE',
    needs: [],
    text: `
same_file() {
    [ -f "$2" ] && [ ! -L "$2" ] && [ "$(stat -c %a "$2")" = "$3" ] && cmp -s "$1" "$2"
}`,
  },
  copy: {
    does: "copy [-s] [-f] [-l] FILE: the same file in the root, with owner, mode, times and attributes (BusyBox' cp keeps whole\nseconds, and no attributes); of a second name of the same file it is a link. -s: with setuid and setgid bits. -f: what is\nthere and differs is replaced. -l: a hard link, where there can be one.",
    needs: ['beneath', 'is_there', 'same_file', 'refuse'],
    text: `
copied=
copy() {
    keep=01777
    force=
    link=
    while :; do
        case $1 in
            -s) keep=07777 ;;
            -f) force=yes ;;
            -l) link=yes ;;
            *) break ;;
        esac
        shift
    done
    beneath "$1"
    about=$(stat -Lc '%a %h %d:%i' "$1")
    own=\${about%% *}
    mode=$(printf %o $((0$own & keep)))
    first=
    case $about in
        *' 1 '*) ;;
        *)
            inode=\${about##* }
            case $copied in
                *"//$inode "*)
                    first=\${copied##*"//$inode "}
                    first=\${first%%//*}
                    ;;
                *) copied="$copied//$inode $at//" ;;
            esac
            ;;
    esac
    if is_there "$at"; then
        if same_file "$1" "$at" "$mode"; then return; fi
        if [ -d "$at" ] && [ ! -L "$at" ]; then refuse "$at is a directory already"; fi
        [ -n "$force" ] || refuse "$at exists and differs from $1"
        rm -f "$at"
    elif [ -n "$first" ]; then
        ln "$first" "$at"
        return
    fi
    if [ -n "$link" ] && [ "$mode" = "$own" ] && ln "$1" "$at"; then return; fi
    cp -aL "$1" "$at"
    [ "$keep" = 07777 ] || chmod "$mode" "$at"
    touch -r "$1" "$at"
}`,
  },
  is_link_to: {
    does: 'is_link_to LINK TARGET',
    needs: [],
    text: `
is_link_to() {
    [ -L "$1" ] && [ "$(readlink -n "$1" && echo /)" = "$2/" ]
}`,
  },
  symlink: {
    does: 'symlink [-f] TARGET PATH. -f: what is there goes, but for a directory.',
    needs: ['beneath', 'is_there', 'is_link_to', 'refuse'],
    text: `
symlink() {
    force=
    if [ $# -eq 3 ]; then
        force=yes
        shift
    fi
    beneath "$2"
    if is_link_to "$at" "$1"; then return; fi
    if is_there "$at"; then
        if [ -d "$at" ] && [ ! -L "$at" ]; then refuse "$at is a directory"; fi
        [ -n "$force" ] || refuse "$at is there already, and is no link to $1"
        rm -f "$at"
    fi
    ln -s -- "$1" "$at"
}`,
  },
  write: {
    does: 'write MODE PATH TEXT: a new file',
    needs: ['beneath', 'is_there', 'refuse'],
    text: `
write() {
    beneath "$2"
    if is_there "$at"; then refuse "$at is there already"; fi
    printf %s "$3" >"$at"
    chmod "$1" "$at"
}`,
  },
  put: {
    does: 'put MODE PATH TEXT: a file, where nothing is',
    needs: ['beneath', 'is_there'],
    text: `
put() {
    beneath "$2"
    if is_there "$at"; then return; fi
    printf %s "$3" >"$at"
    chmod "$1" "$at"
}`,
  },
  copy_tree: {
    does: 'copy_tree DIR: all that is in it, but sockets. In a root that holds something nothing is overwritten, and hard links\nbetween what was there and what was not are lost.',
    needs: ['refuse', 'merge', 'without_sockets'],
    text: `
copy_tree() {
    [ ! -e "$1/.hew-unfinished" ] || refuse "$1 is unfinished itself"
    # What the kernel makes up has no contents to keep, and some of it has no end: <linux/magic.h>
    for type in $(find "$1" -type d -exec stat -f -c %t {} + | sort -u); do
        case $type in
            9fa0 | 62656572 | 27e0eb | 63677270 | 1cd1 | 64626720 | 74726163 | 73636673 | cafe4a11 | 42494e4d | 187 | 19800202)
                refuse "a file system of the kernel (type $type) is mounted in $1: unmount it first"
                ;;
        esac
    done
    if [ -z "$(ls -A "$root")" ]; then
        cp -a "$1"/. "$root"/
        without_sockets "$1" "$root"
    else
        merge "$1" ''
    fi
}`,
  },
  without_sockets: {
    does: 'without_sockets DIR COPY',
    needs: [],
    text: `
without_sockets() {
    # shellcheck disable=SC2016 # for the shell that is started
    find "$1" -type s -exec sh -c '
        from=$1 to=$2
        shift 2
        for socket; do
            copy=$to\${socket#"$from"}
            rm -f "$copy"
            touch -r "\${socket%/*}" "\${copy%/*}"
        done' sh "$1" "$2" {} +
}`,
  },
  links_stay: {
    does: 'links_stay: tar would follow a link to a directory outside; a shell cannot have it resolved beneath the root.',
    needs: ['refuse'],
    text: `
links_stay() {
    # shellcheck disable=SC2016 # for the shell that is started
    find "$root" -type l -exec sh -c '
        root=$(realpath "$0")
        for link; do
            if [ ! -d "$link" ]; then continue; fi
            case $(realpath "$link") in
                "$root"/*) ;;
                *) printf "%s\\\\n" "$link leads out of the root" >&2; exit 1 ;;
            esac
        done' "$root" {} + || exit 125
}`,
  },
  contents: {
    does: 'contents ARCHIVE: whatever it is compressed with',
    needs: [],
    text: `
contents() {
    case $(od -An -tx1 -N4 "$1" | tr -d ' \\n') in
        1f8b*) gzip -dc "$1" ;;
        fd377a58) xz -dc "$1" ;;
        28b52ffd) zstd -dc "$1" ;;
        425a68*) bzip2 -dc "$1" ;;
        *) cat "$1" ;;
    esac
}`,
  },
  unpack: {
    does: "unpack ARCHIVE (BusyBox' tar keeps whole seconds, no times of directories, and no attributes)",
    needs: ['refuse', 'contents', 'links_stay'],
    text: `
unpack() {
    if contents "$1" | tar -tf - | grep -Eq '(^|/)\\.\\.(/|$)'; then refuse "the archive has an entry that leads out of the root"; fi
    archive=$1
    set --
    case $(tar --version 2>/dev/null) in
        *GNU*) set -- --numeric-owner --same-owner --xattrs --xattrs-include='*' --acls --keep-directory-symlink ;;
    esac
    if [ -n "$(ls -A "$root")" ]; then
        links_stay
        # Directories that are there keep their attributes; not their times.
        if [ $# -gt 0 ]; then set -- "$@" --no-overwrite-dir; fi
    fi
    contents "$archive" | (umask 022 && tar -xpf - -C "$root" "$@")
}`,
  },
  merge: {
    does: 'merge DIR PATH: what that directory of the root does not have of DIR',
    needs: [
      'beneath',
      'is_there',
      'must_be_directory',
      'is_link_to',
      'same_file',
      'without_sockets',
      'refuse',
    ],
    text: `
merge() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if ! is_there "$entry" || [ -S "$entry" ]; then continue; fi
        beneath "$2/\${entry##*/}"
        if ! is_there "$at"; then
            cp -a "$entry" "$at"
            if [ -d "$entry" ] && [ ! -L "$entry" ]; then without_sockets "$entry" "$at"; fi
        elif [ -L "$entry" ]; then
            target=$(readlink -n "$entry" && echo /)
            is_link_to "$at" "\${target%/}" || refuse "$at is there already, and is no link to \${target%/}"
        elif [ -d "$entry" ]; then
            must_be_directory "$2/\${entry##*/}"
            merge "$entry" "$2/\${entry##*/}"
        elif [ -f "$entry" ]; then
            same_file "$entry" "$at" "$(stat -c %a "$entry")" || refuse "$at exists and differs from $entry"
        else
            [ "$(stat -c '%f %t %T' "$entry")" = "$(stat -c '%f %t %T' "$at")" ] || refuse "$at is there already"
        fi
    done
}`,
  },
  device: {
    does: 'device NAME...: of the machine, since nobody can make one in a user namespace. mknod(2)',
    needs: [],
    text: `
device() {
    for name; do
        [ -e "$root/dev/$name" ] || : >"$root/dev/$name"
        mount --bind -o nosuid,noexec "/dev/$name" "$root/dev/$name"
    done
}`,
  },
  mask: {
    does: 'mask PATH...: nothing can be read there',
    needs: [],
    text: `
mask() {
    for path; do
        if [ -d "$root$path" ]; then
            mount -t tmpfs -o ro,nosuid,nodev,noexec tmpfs "$root$path"
        elif [ -e "$root$path" ]; then
            mount --bind -o nosuid,noexec /dev/null "$root$path"
        fi
    done
}`,
  },
  read_only: {
    does: 'read_only PATH...',
    needs: ['remount_all'],
    text: `
read_only() {
    for path; do
        if [ -e "$root$path" ]; then
            mount --rbind "$root$path" "$root$path"
            remount_all "$path" ro
        fi
    done
}`,
  },
  remount_all: {
    does: 'remount_all PATH OPTIONS: with what is mounted in there. proc_pid_mountinfo(5)',
    needs: [],
    text: `
remount_all() {
    while read -r _ _ _ _ at _; do
        at=$(printf '%b/' "$at")
        case $at in "$root$1"/*) mount -o "remount,bind,$2" "\${at%/}" ;; esac
    done </proc/self/mountinfo
}`,
  },
  repair_cgroup: {
    does: 'repair_cgroup CGROUP: one that is "domain threaded" becomes a domain again, when nothing is enabled in it',
    needs: ['refuse'],
    text: `
repair_cgroup() {
    if [ ! -e "$1/cgroup.type" ]; then return; fi # the kernel's own root
    read -r type <"$1/cgroup.type"
    if [ "$type" = "domain threaded" ]; then
        off=
        enabled=$(cat "$1/cgroup.subtree_control")
        for controller in $enabled; do off="$off -$controller"; done
        if [ -n "$off" ]; then echo "\${off# }" >"$1/cgroup.subtree_control"; fi
        read -r type <"$1/cgroup.type"
    fi
    [ "$type" = domain ] || refuse "the cgroup $1 is \\"$type\\""
}`,
  },
  evacuate: {
    does: 'evacuate CGROUP TO: its processes move, again and again until none is left: they fork meanwhile, and end. 0 is a process\nof another PID namespace, and to write it would mean this one.',
    needs: ['refuse'],
    text: `
evacuate() {
    rounds=0
    while read -r first <"$1/cgroup.procs"; do
        rounds=$((rounds + 1))
        [ "$rounds" -le 1000 ] || refuse "processes keep coming to $1, $first is there now (0: one that belongs to another PID namespace)"
        [ -d "$2" ] || mkdir "$2"
        while read -r pid; do
            if [ "$pid" != 0 ]; then echo "$pid" >"$2/cgroup.procs" || :; fi
        done <"$1/cgroup.procs" 2>/dev/null
    done
}`,
  },
  enable_controllers: {
    does: 'enable_controllers CGROUP TO CONTROLLER...: those that there are. All or none are written, and EBUSY says that a process\nhas come in: it moves TO there.',
    needs: ['evacuate', 'refuse'],
    text: `
enable_controllers() {
    cgroup=$1
    to=$2
    shift 2
    on=
    for controller; do
        case " $(cat "$cgroup/cgroup.controllers") " in *" $controller "*) on="$on +$controller" ;; esac
    done
    tries=0
    until echo "\${on# }" 2>/dev/null >"$cgroup/cgroup.subtree_control"; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || refuse "cannot enable \${on# } in $cgroup"
        if [ -n "$to" ]; then evacuate "$cgroup" "$to"; fi
    done
}`,
  },
  processes: {
    does: 'processes CGROUP...: of another PID namespace it is 0',
    needs: [],
    text: `
processes() {
    find "$@" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | grep -vx 0 || :
}`,
  },
  freeze: {
    does: 'freeze CGROUP...: until all in them stand still; v2 has a file for it, and one hierarchy of v1',
    needs: ['until_it', 'says'],
    text: changing('freeze', 1, 'FROZEN'),
  },
  thaw: {
    does: 'thaw CGROUP...',
    needs: ['until_it', 'says'],
    text: changing('thaw', 0, 'THAWED'),
  },
  until_it: {
    does: 'until_it COMMAND...: holds, ten seconds at most',
    needs: ['refuse'],
    text: `
until_it() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || refuse "in vain: $*"
        sleep 0.1
    done
}`,
  },
  says: {
    does: 'says LINE FILE: or the cgroup is gone, once the last process in it has ended',
    needs: [],
    text: `
says() {
    [ ! -e "$2" ] || grep -qsx "$1" "$2"
}`,
  },
  signal_all: {
    does: 'signal_all SIGNAL CGROUP...: while none can fork',
    needs: ['processes', 'freeze', 'thaw'],
    text: `
signal_all() {
    signal=$1
    shift
    freeze "$@"
    for pid in $(processes "$@"); do kill -s "$signal" "$pid" || :; done
    thaw "$@"
}`,
  },
  kill_all: {
    does: 'kill_all CGROUP...: again and again until none is left: they fork meanwhile',
    needs: ['processes', 'until_it'],
    text: `
kill_all() {
    until_it none_left "$@"
}

none_left() {
    if [ -e "$1/cgroup.kill" ]; then # Linux 5.14
        { echo 1 >"$1/cgroup.kill"; } 2>/dev/null
    else
        for pid in $(processes "$@"); do kill -s KILL "$pid" 2>/dev/null || :; done
        # What is frozen in v1 does not even die.
        for cgroup; do
            if [ -e "$cgroup/freezer.state" ]; then echo THAWED >"$cgroup/freezer.state"; fi
        done
    fi
    [ -z "$(processes "$@")" ]
}`,
  },
  kill_one: {
    does: 'kill_one PID',
    needs: [],
    text: `
kill_one() {
    kill -s KILL "$1"
}`,
  },
  await_end: {
    does: 'await_end PID: until it is no more',
    needs: ['until_it', 'has_ended'],
    text: `
await_end() {
    until_it has_ended "$1"
}`,
  },
  has_ended: {
    does: 'has_ended PID: it is no more, or nobody has asked for its status yet',
    needs: [],
    text: `
has_ended() {
    [ ! -e "/proc/$1/status" ] || grep -qs '^State:.Z' "/proc/$1/status"
}`,
  },
  remove_tree: {
    does: 'remove_tree DIR DEV:INO: if it is the same one still; never what is mounted in there',
    needs: [],
    text: `
remove_tree() {
    if [ "$(stat -c %d:%i "$1" 2>/dev/null)" = "$2" ]; then
        find "$1" -xdev ! -type d -exec rm -f {} +
        find "$1" -xdev -depth -type d -exec rmdir {} \\;
    fi
}`,
  },
  verdict: {
    does: 'verdict CGROUP...: how it ended, and what the kernel has counted. (A shell has no other word for signal n than 128 + n.)',
    needs: [],
    text: `
verdict() {
    status=$?
    read -r now _ </proc/uptime
    for cgroup; do
        for file in memory.events memory.oom_control memory.peak memory.max_usage_in_bytes cpu.stat cpuacct.usage pids.events; do
            if [ -e "$cgroup/$file" ]; then sed "s/^/$file /" "$cgroup/$file"; fi
        done
    done | awk -v status="$status" -v wall="$started $now" '
        NF == 2 && !($1 in of) {of[$1] = $2}
        NF == 3 && !($1 " " $2 in of) {of[$1 " " $2] = $3}
        function either(v2, v1) {
            return v2 in of ? of[v2] : v1 in of ? of[v1] : "null"
        }
        function seconds(v2, v1) {
            return v2 in of ? sprintf("%.6f", of[v2] / 1e6) : v1 in of ? sprintf("%.6f", of[v1] / 1e9) : "null"
        }
        END {
            split(wall, at, " ")
            printf "{\\"exitStatus\\":%d,\\"signal\\":%s", status, (status > 128 ? status - 128 : "null")
            printf ",\\"oomKills\\":%s", either("memory.events oom_kill", "memory.oom_control oom_kill")
            printf ",\\"peakMemoryBytes\\":%s", either("memory.peak", "memory.max_usage_in_bytes")
            printf ",\\"cpuSeconds\\":%s", seconds("cpu.stat usage_usec", "cpuacct.usage")
            printf ",\\"throttledSeconds\\":%s", seconds("cpu.stat throttled_usec", "cpu.stat throttled_time")
            printf ",\\"forksRefused\\":%s", either("pids.events max", "")
            printf ",\\"wallSeconds\\":%.6f}\\n", at[2] - at[1]
        }'
}`,
  },
  family: {
    does: 'family PID: it, and all that it started and nobody else has adopted',
    needs: [],
    text: `
family() {
    grep -s '^PPid:' /proc/[0-9]*/status | awk -F '[/:\\t]' -v first="$1" '
        {parent[$3] = $NF}
        END {
            for (pid in parent) {
                at = pid
                while (at != first && at in parent) at = parent[at]
                if (at == first) print pid
            }
        }'
}`,
  },
  gather: {
    does: 'gather FROM TO PID CGROUP...: the family of PID, and what is in other cgroups, again and again until none is left: they fork\nmeanwhile, and end',
    needs: ['family', 'processes', 'refuse'],
    text: `
gather() {
    from=$1
    to=$2
    first=$3
    shift 3
    rounds=0
    left=yes
    while [ -n "$left" ]; do
        rounds=$((rounds + 1))
        [ "$rounds" -le 1000 ] || refuse "cannot move the process$left to $to"
        all=" $(family "$first" | tr '\\n' ' ')"
        if [ $# -gt 0 ]; then all="$all$(processes "$@" | tr '\\n' ' ')"; fi
        left=
        here=$(cat "$from/cgroup.procs")
        for pid in $here; do
            case $all in
                *" $pid "*)
                    left="$left $pid"
                    echo "$pid" 2>/dev/null >"$to/cgroup.procs" || :
                    ;;
            esac
        done
    done
    read -r first <"$to/cgroup.procs" || refuse "all have ended"
    chmod 1755 "$to" # a mark: the next hew limit removes it, once it is empty
}`,
  },
} as const satisfies Record<string, Shared>

/** A function of a printed script: what it is for, what it calls, its text. */
interface Shared {
  does: string
  needs: string[]
  text: string
}

/** The function that stops what is in a cgroup, or lets it go on: v2's number and v1's word for it. */
function changing(name: string, frozen: 0 | 1, state: 'FROZEN' | 'THAWED'): string {
  return `
${name}() {
    for cgroup; do
        if [ -e "$cgroup/cgroup.freeze" ]; then
            echo ${frozen} >"$cgroup/cgroup.freeze"
            until_it says 'frozen ${frozen}' "$cgroup/cgroup.events"
        elif [ -e "$cgroup/freezer.state" ]; then
            echo ${state} >"$cgroup/freezer.state"
            until_it says ${state} "$cgroup/freezer.state"
        fi
    done
}`
}

export type FunctionName = keyof typeof FUNCTIONS

/** The text of the functions that lines call, and of those that these call, in their usual order. */
export function functionsOf(lines: Line[]): string {
  const used = new Set<string>()
  const use = (name: string): void => {
    if (used.has(name)) return
    used.add(name)
    for (const needed of FUNCTIONS[name as FunctionName].needs) use(needed)
  }
  for (const line of lines) if (typeof line !== 'string' && 'name' in line) use(line.name)
  return Object.entries(FUNCTIONS)
    .filter(([name]) => used.has(name))
    .map(([, {does, text}]) => `${does.replace(/^/gm, '# ')}${text}\n\n`)
    .join('')
}
