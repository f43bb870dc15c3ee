import {createHash} from 'node:crypto'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, HOSTILE, hew, type Outcome, requires, run, scratch, shell, shellcheck} from '../support.ts'

/**
 * `--dry-run`: what it prints does what the command does. The command is run, what it made is noted and removed, and then
 * the script is run in its place, by dash with coreutils and by BusyBox.
 */

const here = scratch()
const asRoot = requires(test, 'root', 'busybox', 'setcap', 'native')

/** Only BusyBox, and under its own names. */
const applets = `${here}/applets`
fs.mkdirSync(applets)
run('busybox', ['--install', '-s', applets])

interface Shell {
  name: string
  words: string[]
  /** BusyBox' cp and tar keep whole seconds and no attributes. */
  coarse: boolean
}
const SHELLS: Shell[] = [
  {name: 'dash', words: ['dash'], coarse: false},
  {name: 'busybox', words: ['env', '-i', `PATH=${applets}`, `${applets}/sh`], coarse: true},
]

const NAMES = [...HOSTILE, '$HOME']

/** A root, and a cgroup, that no other test makes. */
const UNIQUE = `by-hand-${process.pid}`

const STARTED = BigInt(Date.now()) * 1_000_000n

/** All there is to know of a tree, a line for each entry. Times are told of what is older than this test: the rest is new. */
function tree(root: string, coarse = false, untimed = false): string[] {
  const firsts = new Map<string, string>()
  const time = (ns: bigint): string => (ns > STARTED ? 'new' : `${coarse ? ns / 1_000_000_000n : ns}`)
  const look = (at: Buffer, name: string): string[] => {
    const st = fs.lstatSync(at, {bigint: true})
    const content = st.isFile()
      ? createHash('sha1').update(fs.readFileSync(at)).digest('hex')
      : st.isSymbolicLink()
        ? `-> ${fs.readlinkSync(at, 'latin1')}`
        : `${st.rdev}`
    const inode = `${st.dev}:${st.ino}`
    const first = firsts.get(inode) ?? name
    if (!st.isDirectory()) firsts.set(inode, first)
    const line = [
      name,
      st.mode.toString(8),
      `${st.uid}:${st.gid}`,
      (coarse && st.isSymbolicLink()) || (untimed && st.isDirectory()) ? '' : time(st.mtimeNs),
      content,
      first === name ? '' : `is ${first}`,
    ].join(' ')
    if (!st.isDirectory()) return [line]
    const names = fs.readdirSync(at, 'latin1').sort()
    return [
      line,
      ...names.flatMap(below =>
        look(Buffer.concat([at, Buffer.from(`/${below}`, 'latin1')]), `${name}/${below}`),
      ),
    ]
  }
  if (!fs.existsSync(root)) return ['nothing']
  const attributes = coarse
    ? []
    : run('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', root])
        .stdout.split('\n\n')
        .sort()
  return [...look(Buffer.from(root), ''), ...attributes]
}

const printed = `${here}/script`

/** A document, whichever inode its root has. */
const known = (text: string): string => text.replace(/("dev.hew.root":")\d+:\d+"/, '$1identity"')

function clear(root: string): void {
  fs.rmSync(root, {recursive: true, force: true})
}

interface Case {
  /** The directory that the command works on: all that is noted, and all that is removed. */
  place: string
  words: string[]
  /** What is there before. */
  prepare?: () => void
  env?: Record<string, string>
  /** Where directories have another time: BusyBox' tar sets none, and GNU's sets that of those which were there. */
  untimed?: 'coarse' | 'both'
  shells?: Shell[]
}

/** The command and its script, in the same place one after the other. */
function same({place, words, prepare = () => {}, env = {}, untimed, shells = SHELLS}: Case): Outcome {
  const start = (): void => {
    clear(place)
    prepare()
  }
  start()
  const before = tree(place)
  const dry = run(HEW, [...words, '--dry-run'], {env})
  assert.equal([dry.stderr, dry.status], ['', 0])
  assert.equal(tree(place), before, 'a dry run changes nothing')
  fs.writeFileSync(printed, dry.stdout)
  assert.is(shellcheck(dry.stdout), '')
  const done = run(HEW, words, {env})
  assert.is(done.status, 0, done.stderr)
  const wanted = {
    fine: tree(place, false, untimed === 'both'),
    coarse: tree(place, true, untimed !== undefined),
  }
  for (const {name, words, coarse} of shells) {
    start()
    const [program = '', ...rest] = words
    const {stdout, stderr, status} = run(program, [...rest, printed], {cwd: applets})
    assert.equal([stderr, status], ['', 0], name)
    assert.is(known(stdout), known(done.stdout), name)
    assert.equal(
      tree(place, coarse, untimed === 'both' || (coarse && untimed !== undefined)),
      coarse ? wanted.coarse : wanted.fine,
      name,
    )
  }
  assert.not.ok(fs.existsSync(`${applets}/pwned`))
  clear(place)
  return dry
}

const root = `${here}/place/root`
const mkroot = (...words: string[]): Case => ({place: `${here}/place`, words: ['mkroot', root, ...words]})

asRoot('mkroot of this machine', () => {
  const {stdout} = same(mkroot())
  assert.match(stdout, /^#!\/bin\/sh\n# hew mkroot /)
  assert.match(stdout, /\n# Files as on this machine: .*cp\(1\).*\ncopy \//)
})

asRoot('mkroot --empty, --with, --rm; its parents below a directory that gives its group on', () => {
  const setgid = (): void => {
    fs.mkdirSync(`${here}/place/root`, {recursive: true})
    fs.chownSync(`${here}/place/root`, 0, 5)
    fs.chmodSync(`${here}/place/root`, 0o2775)
  }
  same(mkroot('--empty'))
  same(mkroot('--with', 'bash,ls', '--rm'))
  same({...mkroot('--empty'), prepare: setgid})
  same({...mkroot('--with', 'sh', '-q'), prepare: setgid})
})

asRoot('a fresh root is only named', () => {
  const home = `${here}/home`
  fs.mkdirSync(home)
  fs.chmodSync(here, 0o755)
  fs.chownSync(home, 1000, 1000)
  const {stdout, status} = run(HEW, ['mkroot', '--empty', '--dry-run'], {
    uid: 1000,
    gid: 1000,
    env: {HOME: home},
    cwd: '/',
  })
  assert.is(status, 0)
  assert.match(stdout, new RegExp(`^new_root ${home}/.local/share/hew/roots/`, 'm'))
  assert.equal(fs.readdirSync(home), [])
})

/** A directory with one of everything. */
function everything(at: string): void {
  clear(at)
  fs.mkdirSync(`${at}/dir/deep`, {recursive: true})
  for (const [i, name] of NAMES.entries()) {
    fs.writeFileSync(`${at}/${name}`, name, {mode: 0o600 + i})
    fs.mkdirSync(`${at}/dir/${name}`)
    fs.symlinkSync(name, `${at}/dir/${name}/${name}`)
  }
  fs.linkSync(`${at}/a b`, `${at}/dir/deep/hard`)
  fs.linkSync(`${at}/a b`, `${at}/dir/deep/harder`)
  fs.symlinkSync('/nowhere', `${at}/dangling`)
  fs.copyFileSync('/bin/true', `${at}/setuid`)
  fs.chownSync(`${at}/setuid`, 12, 34)
  fs.chmodSync(`${at}/setuid`, 0o6755)
  fs.copyFileSync('/bin/true', `${at}/capable`)
  run('setcap', ['cap_net_raw+ep', `${at}/capable`])
  run('setfattr', ['-n', 'trusted.hew', '-v', 'dir', `${at}/dir`])
  run('mkfifo', ['-m', '640', `${at}/dir/fifo`])
  run('mknod', ['-m', '660', `${at}/dir/null`, 'c', '1', '3'])
  fs.chmodSync(`${at}/dir`, 0o1751)
  fs.chmodSync(`${at}/dir/deep`, 0o2500)
  run('find', [at, '-exec', 'touch', '-h', '-d', '2001-02-03 04:05:06.123456789', '{}', '+'])
}

const source = `${here}/source`
/** In a directory of its own, whose time is put back. */
function socket(): void {
  fs.mkdirSync(`${source}/sockets`)
  run('python3', ['-c', `import socket; socket.socket(socket.AF_UNIX).bind('${source}/sockets/it')`])
  run('touch', ['-d', '2001-02-03 04:05:06', `${source}/sockets`, source])
}

asRoot('mkroot --from DIR: contents, links, attributes, hostile names', () => {
  everything(source)
  socket()
  same(mkroot('--from', source))
  assert.is(hew('mkroot', root, '--from', source).status, 0)
  const lines = tree(root)
  assert.ok(lines.some(line => /security.capability/.test(line)))
  assert.ok(lines.some(line => / is /.test(line)))
  assert.not.ok(fs.existsSync(`${root}/sockets/it`))
})

asRoot('mkroot --from DIR --into: only what is not there', () => {
  everything(source)
  const prepare = (): void => {
    fs.mkdirSync(`${root}/real/deep`, {recursive: true})
    fs.symlinkSync('/real', `${root}/dir`)
    fs.chmodSync(`${root}/real`, 0o700)
    run('cp', ['-a', `${source}/it's`, `${source}/dangling`, `${source}/-rf`, root])
  }
  fs.rmSync(`${source}/dir/deep`, {recursive: true})
  same({...mkroot('--from', source, '--into'), prepare})
})

asRoot('mkroot --from TAR', () => {
  everything(source)
  const archive = `${here}/it's an archive.tar.gz`
  const packed = run('tar', [
    '-C',
    source,
    '--format=posix',
    '--xattrs',
    '--xattrs-include=*',
    '-czf',
    archive,
    '.',
  ])
  assert.is(packed.status, 0, packed.stderr)
  same({...mkroot('--from', archive), untimed: 'coarse'})
})

asRoot('mkroot --from TAR --into: an archive is not followed out of the root', () => {
  everything(source)
  const archive = `${here}/archive.tar`
  const prepare = (): void => {
    fs.mkdirSync(`${root}/dir`, {recursive: true, mode: 0o711})
    fs.writeFileSync(`${root}/dangling`, 'replaced')
    fs.symlinkSync('dir', `${root}/link`)
  }
  run('tar', ['-C', source, '-cf', archive, '--exclude=./capable', 'dir', 'dangling', 'setuid'])
  // BusyBox' tar gives directories that are there the archive's attributes.
  same({...mkroot('--from', archive, '--into'), prepare, untimed: 'both', shells: SHELLS.slice(0, 1)})
  prepare()
  const {stdout} = hew('mkroot', root, '--from', archive, '--into', '--dry-run')
  for (const {words} of SHELLS) {
    clear(root)
    fs.mkdirSync(root, {recursive: true})
    fs.symlinkSync(here, `${root}/dir`)
    const [program = '', ...rest] = words
    const refused = run(program, rest, {input: stdout})
    assert.is(refused.status, 125)
    assert.match(refused.stderr, /^\/.*\/root\/dir leads out of the root\n$/)
    assert.not.ok(fs.existsSync(`${here}/deep`))
  }
  clear(root)
})

asRoot('hostile names of roots', () => {
  for (const name of NAMES)
    same({place: `${here}/place`, words: ['mkroot', `${here}/place/${name}`, '--empty']})
})

asRoot('copy-deps: into a root with links of its own; a second time; --force, --keep-setuid', () => {
  const program = `${here}/tools/${NAMES.find(name => name.includes('touch'))}`
  fs.mkdirSync(`${here}/tools`, {mode: 0o2751})
  fs.chownSync(`${here}/tools`, 12, 34)
  fs.copyFileSync('/bin/true', program)
  fs.chownSync(program, 12, 34)
  fs.chmodSync(program, 0o6755)
  run('setcap', ['cap_net_raw+ep', program])
  run('setfattr', ['-n', 'trusted.hew', '-v', 'dir', `${here}/tools`])
  run('touch', ['-d', '2001-02-03 04:05:06.123456789', program, `${here}/tools`])
  const copy = (...words: string[]): Case => ({
    place: `${here}/place`,
    words: ['copy-deps', '-r', root, ...words],
  })
  const empty = (): void => {
    fs.mkdirSync(root, {recursive: true})
  }
  same({...copy('bash', 'ls', program), prepare: empty})
  same({...copy('--keep-setuid', program), prepare: empty})
  // What needs no library: these may be on another file system than the root.
  const names = [1, 2, 3].map(n => `${here}/tools/name ${n}`) as [string, string, string]
  fs.writeFileSync(names[0], 'a shell runs this\n', {mode: 0o755})
  fs.linkSync(names[0], names[1])
  fs.linkSync(names[0], names[2])
  same({...copy('ls', ...names), prepare: empty})
  same({...copy('--hardlink', ...names), prepare: empty})
  fs.chmodSync(names[0], 0o4755)
  same({...copy('--hardlink', ...names), prepare: empty})
  same({...copy('--hardlink', '--keep-setuid', ...names), prepare: empty})
  const linked = (): void => {
    for (const directory of ['usr/lib/x86_64-linux-gnu', 'usr/lib64', 'usr/bin', 'elsewhere'])
      fs.mkdirSync(`${root}/${directory}`, {recursive: true, mode: 0o700})
    fs.symlinkSync('usr/lib', `${root}/lib`)
    fs.rmdirSync(`${root}/usr/lib/x86_64-linux-gnu`)
    fs.symlinkSync('/elsewhere', `${root}/usr/lib/x86_64-linux-gnu`)
    fs.symlinkSync('../../../../../../usr/bin', `${root}/usr/sbin`)
    fs.symlinkSync('//usr/./lib/../bin/', `${root}/usr/local`)
    fs.symlinkSync('/elsewhere', `${root}/tmp`)
  }
  same({...copy('bash', 'ls', program), prepare: linked})
  const before = (): void => {
    linked()
    hew('copy-deps', '-q', '-r', root, 'bash')
    fs.writeFileSync(`${root}/usr/bin/ls`, 'mine')
    fs.symlinkSync('/nowhere', `${root}/usr/bin/cat`)
  }
  same({...copy('--force', 'bash', 'ls', 'cat'), prepare: before})
})

asRoot('link', () => {
  const directory = `${here}/place/$(touch pwned) bin`
  same({
    place: `${here}/place`,
    words: ['link', directory],
    prepare: () => {
      fs.mkdirSync(directory, {recursive: true})
      fs.symlinkSync(HEW, `${directory}/enter`)
    },
  })
})

asRoot('what would be overwritten: the script stops there as the command does', () => {
  fs.mkdirSync(`${root}/usr/bin`, {recursive: true})
  const {stdout} = hew('copy-deps', '--dry-run', '-r', root, 'ls')
  fs.writeFileSync(`${root}/usr/bin/ls`, 'mine')
  const fresh = `${here}/place/fresh`
  const made = hew('mkroot', '--dry-run', '--empty', fresh).stdout
  fs.mkdirSync(fresh)
  fs.writeFileSync(`${fresh}/-mine\n`, '')
  assert.is(hew('mkroot', '--dry-run', '--empty', fresh).status, 125)
  for (const {words} of SHELLS) {
    const [program = '', ...rest] = words
    const refused = run(program, rest, {input: stdout})
    assert.match(refused.stderr, /^\/.*\/root\/usr\/bin\/ls exists and differs from \/usr\/bin\/ls\n$/)
    assert.is(refused.status, 125)
    assert.is(fs.readFileSync(`${root}/usr/bin/ls`, 'utf8'), 'mine')
    const full = run(program, rest, {input: made})
    assert.equal([full.stderr, full.status], [`${fresh} is not empty\n`, 125])
    assert.equal(fs.readdirSync(fresh), ['-mine\n'])
  }
  clear(`${here}/place`)
})

asRoot('--explain, and HEW_EXPLAIN for a whole pipe', () => {
  const quiet = shell(`hew mkroot ${root} --empty`)
  clear(root)
  const told = shell(`hew mkroot ${root} --empty --explain`)
  assert.is(known(told.stdout), known(quiet.stdout))
  assert.match(told.stderr, /^hew mkroot: directory 0755 \/usr {2}# ok$/m)
  clear(root)
  const pipe = shell(
    `hew mkroot ${root} --empty | hew copy-deps env /bin/sh | hew enter --env SECRET=1 -- env`,
    {
      env: {HEW_EXPLAIN: '1'},
    },
  )
  assert.is(pipe.status, 0)
  assert.not.match(pipe.stdout, /HEW_/)
  for (const line of ['mkroot: new_root .*', 'copy-deps: copy .*/env', 'enter: unshare .*'])
    assert.match(pipe.stderr, new RegExp(`^hew ${line}  # ok$`, 'm'))
  assert.match(pipe.stderr, /^hew enter: env$/m)
  clear(root)
  const one = `mkroot ${root} --empty | copy-deps env /bin/sh | limit --pids 30 | enter -- env`
  const inOne = run(HEW, ['-c', one], {env: {HEW_EXPLAIN: '1'}})
  for (const {stderr} of [pipe, inOne]) assert.match(stderr, /^(hew (mkroot|copy-deps|enter): .+\n)+$/)
  fs.writeFileSync(`${root}/usr/bin/ls`, 'mine')
  const failed = hew('copy-deps', '--explain', '-r', root, 'ls')
  assert.match(
    failed.stderr,
    /\nhew copy-deps: copy \/usr\/bin\/ls {2}# .*\/usr\/bin\/ls exists and differs from .*\n$/,
  )
  clear(`${here}/place`)
})

/** What a process can say about itself. */
const ABOUT = `
  for kind in user mnt uts ipc net pid cgroup time; do
    if [ "$(readlink /real/proc/self/ns/$kind)" = "$(cat /outside/$kind)" ]; then echo "$kind: shared"; else echo "$kind: own"; fi
  done
  cat /real/proc/self/uid_map /real/proc/self/gid_map /real/proc/self/setgroups
  grep -E '^(Uid|Gid|Groups|NSpid|Cap|NoNewPrivs|Seccomp|Sig(Ign|Cgt|Blk))' /real/proc/self/status
  cut -d ' ' -f 3- /real/proc/self/mountinfo | cut -d ' ' -f 1-6 | sort
  cat /real/proc/self/limits
  env | grep -v '^_=' | sort
  pwd; umask; echo $$; hostname
  exit 7`

requires(
  test,
  'root',
  'native',
)('enter --by-hand: the one line of the lesson', () => {
  const outer = `${here}/by hand's`
  fs.mkdirSync(`${here}/outside`)
  for (const kind of ['user', 'mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup', 'time'])
    fs.writeFileSync(`${here}/outside/${kind}`, fs.readlinkSync(`/proc/self/ns/${kind}`))
  const made = hew('mkroot', outer, '--with', 'sh,cat,grep,readlink,cut,sort,env,hostname')
  assert.is(made.status, 0, made.stderr)
  fs.mkdirSync(`${outer}/real`)
  fs.mkdirSync(`${outer}/outside`)
  // Bind mounts are there for both, in a mount namespace of this test's own; /proc is not of the container's PID namespace.
  const both = (line: string): Outcome =>
    run('unshare', [
      '--mount',
      'sh',
      '-c',
      `mkdir -p "$0/real/proc" && mount --rbind /proc "$0/real/proc" && mount --bind '${here}/outside' "$0/outside" && ${line}`,
      outer,
    ])
  const words = ['enter', '--by-hand', '-r', outer]
  const dry = run(HEW, [...words, '--dry-run', 'sh', '-c', ABOUT])
  assert.equal([dry.stderr, dry.status], ['', 0])
  fs.writeFileSync(printed, dry.stdout)
  assert.is(shellcheck(dry.stdout), '')
  fs.writeFileSync(`${here}/about`, ABOUT)
  const command = both(`exec '${HEW}' enter --by-hand -r "$0" -- sh -c "$(cat '${here}/about')"`)
  assert.is(command.status, 7, command.stderr)
  const script = both(`exec dash '${printed}'`)
  assert.is(script.stderr, '')
  // make(1) leaves the signal 32 ignored to all that it starts, and no shell can change that.
  const inner = ({stdout}: Outcome): string =>
    stdout.replace(/^(NSpid:\t)\d+/m, '$1').replace(/^(SigIgn:\t0{8})8/m, (_, before) => `${before}0`)
  assert.is(inner(script), inner(command))
  assert.is(script.status, 7)
  const plain = run(HEW, [...words, '--dry-run', 'sh']).stdout
  assert.match(
    plain.replace(/ \\\n +/g, ' '),
    /^unshare --mount --uts --ipc --net --pid --fork --user --map-root-user chroot "\$root" sh$/m,
  )
  const limited = shell(
    `hew mkroot '${here}/${UNIQUE}' --with sh | hew limit --pids 30 | hew enter --by-hand --dry-run -- sh -c 'exit 3'`,
  )
  if (limited.status === 0) {
    assert.match(limited.stdout, /^echo 30 >\/sys\/fs\/cgroup\/.*\/pids.max$/m)
    assert.equal(run('dash', [], {input: limited.stdout}), {stdout: '', stderr: '', status: 3})
    assert.is(run('find', ['/sys/fs/cgroup', '-name', UNIQUE]).stdout, '')
  } else assert.match(limited.stderr, /run 'hew cgroup-init' first/)
  assert.is(run(HEW, [...words, '--dry-run', 'nothing']).status, 127)
})

test.run()
