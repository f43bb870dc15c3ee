import {spawn, spawnSync} from 'node:child_process'
import * as fs from 'node:fs'
import {test} from 'uvu'
import * as assert from 'uvu/assert'
import {checkId, claim, release} from '../../lib/containers/claim.ts'
import {fateOf, identityOf, identityText, ownIdentity, startOf} from '../../lib/containers/process.ts'
import {configurationOf, containers, STATE, type State} from '../../lib/containers/state.ts'
import {leftover, remove, sweep} from '../../lib/containers/sweep.ts'
import {scratch} from '../support.ts'

/** States as files: who claims a name, what is read, what is swept. */

const here = scratch()
const own = ownIdentity()

function states(): string {
  return fs.mkdtempSync(`${here}/states-`)
}

/** The state of a container that nobody runs. */
function write(
  at: string,
  id: string,
  state: Partial<State> & {supervisor?: string; cgroups?: string} = {},
): string {
  const {supervisor = identityText(own), cgroups = '', ...rest} = state
  const directory = `${at}/${id}`
  fs.mkdirSync(directory)
  const annotations = {
    [STATE.created]: 'now',
    [STATE.rootfs]: '/r',
    [STATE.supervisor]: supervisor,
    [STATE.cgroups]: cgroups,
  }
  const whole = {ociVersion: '1.2.0', id, bundle: directory, annotations, status: 'running', ...rest}
  fs.writeFileSync(`${directory}/state.json`, JSON.stringify(whole))
  fs.writeFileSync(`${directory}/config.json`, '{}')
  return directory
}

const lives = (at: string) => Object.fromEntries(containers(at).containers.map(({id, life}) => [id, life]))

test('a process: its start tells it from another with its PID', () => {
  assert.equal(identityOf(identityText(own)), own)
  assert.is(startOf(process.pid), own.start)
  assert.is(fateOf(own), 'lives')
  assert.is(fateOf({...own, start: '1'}), 'gone')
  assert.is(fateOf({...own, boot: 'another'}), 'gone')
  assert.is(fateOf({...own, namespace: '1'}), 'foreign')
  for (const text of ['', '1', '1 2 3', 'x 2 3 4', undefined]) assert.is(identityOf(text), undefined)
})

test('a zombie is gone', async () => {
  // The shell's child is a zombie: the shell has become a program that asks for no children.
  const parent = spawn('sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'])
  process.on('exit', () => parent.kill('SIGKILL'))
  const pid = Number(await new Promise(resolve => parent.stdout.once('data', resolve)))
  while (!/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))) await new Promise(r => setTimeout(r, 5))
  assert.is(startOf(pid), undefined)
  parent.kill('SIGKILL')
})

test('alive, ended, dead, foreign; broken ones are named and do not stop the others', () => {
  const at = states()
  write(at, 'alive')
  write(at, 'ended', {status: 'stopped', supervisor: `1 1 ${own.namespace} ${own.boot}`})
  write(at, 'recycled', {supervisor: identityText({...own, start: '1'})})
  write(at, 'rebooted', {supervisor: identityText({...own, boot: 'before'})})
  write(at, 'foreign', {supervisor: identityText({...own, namespace: '1', pid: 4194303})})
  fs.writeFileSync(`${write(at, 'broken')}/state.json`, '{"id":"brok')
  fs.writeFileSync(`${write(at, 'other')}/state.json`, fs.readFileSync(`${at}/alive/state.json`))
  fs.mkdirSync(`${at}/vanishing`)
  assert.equal(lives(at), {
    alive: 'alive',
    ended: 'ended',
    recycled: 'dead',
    rebooted: 'dead',
    foreign: 'foreign',
  })
  const {broken} = containers(at)
  assert.is(broken.length, 2)
  assert.is(broken[0]!.id, 'broken')
  assert.match(broken[0]!.why, new RegExp(`^the state ${at}/broken/state.json is broken: `))
  assert.equal(containers(`${here}/nowhere`), {containers: [], broken: []})
})

test('a supervisor that hands over while its state is read is not taken for dead', async () => {
  const at = states()
  const directory = write(at, 'one', {supervisor: identityText({...own, start: '1'})})
  const file = `${directory}/state.json`
  const [before, after] = [`${at}/.before`, `${at}/.after`]
  fs.renameSync(file, before)
  fs.writeFileSync(after, fs.readFileSync(before, 'utf8').replace(' 1 ', ` ${own.start} `))
  // The first read ends with what was there before, once that has been replaced.
  spawnSync('mkfifo', [file])
  spawn('sh', ['-c', `exec 3>'${file}'; cat '${before}' >&3; mv '${after}' '${file}'; exec 3>&-`])
  assert.equal(lives(at), {one: 'alive'})
})

test('what a state says', () => {
  const at = states()
  const directory = write(at, 'one', {pid: 7, cgroups: '/a\n/b'})
  const text = fs
    .readFileSync(`${directory}/state.json`, 'utf8')
    .replace('"dev.hew.cgroups"', '"dev.hew.start":"99","dev.hew.cgroups"')
  fs.writeFileSync(`${directory}/state.json`, text)
  const [one] = containers(at).containers
  assert.equal(
    [one!.first, one!.cgroups, one!.root, one!.detached],
    [{pid: 7, start: '99'}, ['/a', '/b'], '/r', false],
  )
})

test('sweep: the dead go, and what was left in the middle; nothing else', () => {
  const at = states()
  const dead = identityText({...own, start: '1'})
  write(at, 'alive')
  write(at, 'ended', {status: 'stopped', supervisor: dead})
  write(at, 'foreign', {supervisor: identityText({...own, namespace: '1', pid: 4194303})})
  write(at, 'dead', {supervisor: dead})
  // Another sweep was killed when it had taken this one.
  fs.renameSync(`${write(at, 'half', {supervisor: dead})}/state.json`, `${at}/half/.taken-${own.pid}-1`)
  fs.renameSync(
    `${write(at, 'held', {supervisor: dead})}/state.json`,
    `${at}/held/.taken-${own.pid}-${own.start}`,
  )
  const work = {
    mine: leftover('new', own),
    abandoned: leftover('new', {...own, start: '1'}),
    foreign: leftover('new', {...own, start: '1', namespace: '1'}),
    old: leftover('old', {...own, start: '1'}, 3),
  }
  for (const name of Object.values(work)) fs.mkdirSync(`${at}/${name}`)
  assert.equal(
    sweep(at)
      .map(({id, left}) => [id, left])
      .sort(),
    [
      [work.abandoned, []],
      [work.old, []],
      ['dead', []],
      ['half', []],
    ].sort(),
  )
  assert.equal(
    fs.readdirSync(at).sort(),
    [work.mine, work.foreign, 'alive', 'ended', 'foreign', 'held'].sort(),
  )
})

test('a container that was read before it said when it was created is the one that is removed', () => {
  const at = states()
  const directory = write(at, 'x', {supervisor: identityText(own)})
  const state = JSON.parse(fs.readFileSync(`${directory}/state.json`, 'utf8'))
  const put = (annotations: object): void =>
    fs.writeFileSync(
      `${directory}/state.json`,
      JSON.stringify({...state, annotations: {...state.annotations, ...annotations}}),
    )
  put({[STATE.created]: undefined})
  const [read] = containers(at).containers
  put({[STATE.created]: 'later', [STATE.supervisor]: identityText({...own, start: '1'})})
  assert.is(remove(read!)?.id, 'x')
  assert.equal(fs.readdirSync(at), [])
})

test('names', () => {
  assert.is(checkId('web_1-b'), 'web_1-b')
  for (const id of ['1', '', '.', '..', 'a/b', '-a', 'a.b', 'a b', 'ä', 'x'.repeat(101)])
    assert.throws(() => checkId(id))
})

test('claim: whole, with all that the stage needs to go on; given back', () => {
  const at = states()
  const first = claim(undefined, '/roots/web.1', {ociVersion: '1', hostname: 'h'}, {detached: true}, at)
  assert.is(first.id, 'web-1')
  const [one] = containers(at).containers
  assert.equal(
    [one!.life, one!.state.status, one!.root, one!.detached],
    ['alive', 'creating', '/roots/web.1', true],
  )
  assert.equal(one!.supervisor, own)
  assert.equal(configurationOf(one!).hostname, 'h')
  const volatile = `"dev.hew.supervisor":"${identityText(own)}","dev.hew.cgroups":"/a\\n/b","dev.hew.start":"9"},"status":"running","pid":7}`
  fs.writeFileSync(`${at}/web-1/state.json`, `${first.head}${volatile}\n`)
  const [running] = containers(at).containers
  assert.equal([running!.first, running!.cgroups], [{pid: 7, start: '9'}, ['/a', '/b']])
  assert.is(claim(undefined, '/roots/web.1', {ociVersion: '1'}, {detached: false}, at).id, 'web-1-2')
  assert.is(claim(undefined, '/roots/12', {ociVersion: '1'}, {detached: false}, at).id, 'root-12')
  assert.throws(
    () => claim('web-1', '/', {ociVersion: '1'}, {detached: false}, at),
    /^the name web-1 is taken by a container that runs: /,
  )
  release(first)
  assert.equal(fs.readdirSync(at), ['root-12', 'web-1-2'])
})

test("claim: a dead one is in nobody's way, one that has ended is", () => {
  const at = states()
  const gone = identityText({...own, start: '1'})
  write(at, 'dead', {supervisor: gone})
  write(at, 'ended', {supervisor: gone, status: 'stopped'})
  assert.is(claim('dead', '/', {ociVersion: '1'}, {detached: false}, at).id, 'dead')
  assert.throws(
    () => claim('ended', '/', {ociVersion: '1'}, {detached: false}, at),
    /: 'hew rm ended' frees it$/,
  )
})

test('of many who want a name at once exactly one gets it; of many who want any, each', async () => {
  const at = states()
  write(at, 'web', {supervisor: identityText({...own, start: '1'})})
  const script = `
    import {claim} from ${JSON.stringify(`${import.meta.dirname}/../../lib/containers/claim.ts`)}
    const wanted = process.argv[1] || undefined
    for (let i = 0; i < (wanted ? 1 : 20); i++)
      try { console.log(claim(wanted, '/box', {ociVersion: '1'}, {detached: false}, ${JSON.stringify(at)}).id) }
      catch (error) { console.log(error.message) }
    process.stdin.resume() // its names are its own as long as it lives
    process.stdin.on('end', () => process.exit())`
  const people = Array.from({length: 6}, (_, i) =>
    spawn(process.execPath, [
      '--no-warnings',
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      script,
      i < 3 ? 'web' : '',
    ]),
  )
  process.on('exit', () => {
    for (const person of people) person.kill('SIGKILL')
  })
  const told = await Promise.all(
    people.map(
      (person, i) =>
        new Promise<string[]>(resolve => {
          let text = ''
          person.stderr.pipe(process.stderr)
          person.stdout.on('data', data => {
            text += data
            if (text.split('\n').length > (i < 3 ? 1 : 20)) resolve(text.trim().split('\n'))
          })
        }),
    ),
  )
  const names = told.slice(0, 3).flat()
  assert.is(names.filter(name => name === 'web').length, 1, names.join())
  assert.is(
    names.filter(name => name.startsWith('the name web is taken by a container that runs')).length,
    2,
    names.join(),
  )
  assert.equal(
    told.slice(3).flat().sort(),
    ['box', ...Array.from({length: 59}, (_, i) => `box-${i + 2}`)].sort(),
  )
  const {containers: all, broken} = containers(at)
  assert.equal([all.length, all.filter(({life}) => life === 'alive').length, broken], [61, 61, []])
  // All of them are killed, and all the others clean up at once.
  const ends = people.map(person => new Promise(resolve => person.on('exit', resolve)))
  for (const person of people) person.kill('SIGKILL')
  await Promise.all(ends)
  sweep(at)
  assert.equal(fs.readdirSync(at), [])
})

test.run()
