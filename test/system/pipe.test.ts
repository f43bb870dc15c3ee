import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {HEW, requires, run, scratch, shell} from '../support.ts'

/** The document in the pipe is an OCI configuration: other runtimes run hew's, and hew runs theirs. */

const here = scratch()
const asRoot = requires(test, 'root')
process.env.XDG_DATA_HOME = here

/** crun refuses hosts that have cgroup v2 beside v1: there the v2 mount is hidden from it, in a namespace of its own. */
const HIDE = 'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi'

for (const runtime of ['runc', 'crun'])
  requires(
    test,
    'root',
    runtime,
  )(`${runtime} runs what the pipe describes`, () => {
    const bundle = `${here}/${runtime}`
    const root = `${here}/${runtime}-root`
    fs.mkdirSync(bundle)
    const line = `${HIDE}; hew mkroot '${root}' | hew copy-deps bash ls > '${bundle}/config.json' && echo 'id -u; hostname; ls -d /proc/1; echo $BASH_VERSION | wc -l' | ${runtime} run -b '${bundle}' hew-pipe-$$`
    const outcome = run('unshare', ['--mount', 'sh', '-c', `hew() { '${HEW}' "$@"; }; ${line}`])
    assert.is(outcome.stderr, '')
    assert.is(outcome.stdout, `0\n${runtime}-root\n/proc/1\n1\n`)
    assert.is(outcome.status, 0)
  })

requires(
  test,
  'root',
  'runc',
)('enter runs what `runc spec` prints, and names what it does not honour', () => {
  const bundle = `${here}/spec`
  fs.mkdirSync(bundle)
  const line = `cd '${bundle}' && runc spec && hew mkroot -q rootfs > /dev/null && hew enter -- sh -c 'hostname; id -u; touch /x 2>&1; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status; ulimit -n' < config.json`
  const {stdout, stderr, status} = shell(line)
  assert.is(
    stdout,
    "runc\n0\ntouch: cannot touch '/x': Read-only file system\nCapEff:\t0000000020000420\nNoNewPrivs:\t1\n1024\n",
  )
  const cgroups = fs.existsSync('/sys/fs/cgroup/cgroup.controllers')
    ? []
    : ['hew enter: not honoured: mounts[6] (/sys/fs/cgroup): hew mounts no cgroup v1 hierarchies']
  assert.equal(stderr.trim().split('\n'), [
    ...cgroups,
    'hew enter: not honoured: linux.resources.devices: the command can make no device nodes anyway',
  ])
  assert.is(status, 0)
})

asRoot('each command of the pipe adds to the document', () => {
  const root = `${here}/adds`
  const {stdout} = shell(`hew mkroot --empty '${root}' | hew copy-deps bash ls`)
  const document = JSON.parse(stdout)
  assert.match(document.ociVersion, /^1\.[2-9]/)
  assert.is(document.root.path, root)
  assert.equal(document.process.args, ['bash'])
  assert.is(stdout.split('\n').length, 2)
})

asRoot('--quiet is the path alone', () => {
  const {stdout} = shell(`chroot "$(hew mkroot -q '${here}/quiet')" sh -c 'echo $PWD; id -u'`)
  assert.is(stdout, '/\n0\n')
})

asRoot('the lesson in one line', () => {
  const {stdout, stderr} = shell(
    `hew mkroot --empty '${here}/lesson' | hew copy-deps bash ls | hew enter -- bash -c 'pwd; ls /'`,
  )
  assert.is(stderr, '')
  assert.is(
    stdout,
    '/\nbin\ndev\netc\nhome\nlib\nlib64\nmedia\nmnt\nopt\nproc\nroot\nrun\nsbin\nsrv\nsys\ntmp\nusr\nvar\n',
  )
})

asRoot(
  '--rm: the root goes when its container has ended, whatever the status; a bind mount in it survives',
  () => {
    fs.mkdirSync(`${here}/kept`)
    fs.writeFileSync(`${here}/kept/file`, 'precious')
    const root = `${here}/removed`
    const outcome = shell(
      `hew mkroot --rm --with sh,cat '${root}' | hew enter --bind '${here}/kept:/mnt' -- sh -c 'cat /mnt/file; exit 3'`,
    )
    assert.equal(outcome, {stdout: 'precious', stderr: '', status: 3})
    assert.not.ok(fs.existsSync(root))
    assert.is(fs.readFileSync(`${here}/kept/file`, 'utf8'), 'precious')
  },
)

asRoot('--rm: a root that no container came to use goes, too', () => {
  const {status} = shell(`hew mkroot --rm --with sh '${here}/unused' | hew enter frobnicate`)
  assert.is(status, 127)
  assert.not.ok(fs.existsSync(`${here}/unused`))
})

asRoot('--rm never removes another directory that has taken the place', () => {
  const root = `${here}/swapped`
  const document = shell(`hew mkroot --rm --with sh '${root}'`).stdout
  fs.renameSync(root, `${root}-away`)
  fs.cpSync(`${root}-away`, root, {recursive: true, verbatimSymlinks: true})
  const {stderr} = run(HEW, ['enter', '--', 'sh', '-c', ':'], {input: document})
  assert.match(stderr, /swapped stays: it is another directory by now/)
  assert.ok(fs.existsSync(`${root}/usr`))
})

test.run()
