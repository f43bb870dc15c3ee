import {HewError} from '../errors.ts'

/**
 * The version of the runtime specification that hew's documents follow. crun before 1.9 takes only a version in which
 * "1.0" occurs; semver.org allows such a remark behind a plus sign.
 */
export const OCI_VERSION = '1.2.0+since.1.0'

/**
 * An OCI runtime configuration: what travels through the pipe. Only the fields that hew reads or writes have a type;
 * others are kept as they are. https://github.com/opencontainers/runtime-spec: config.md, config-linux.md
 */
export interface Configuration {
  ociVersion: string
  process?: Process
  root?: {path: string; readonly?: boolean}
  hostname?: string
  domainname?: string
  mounts?: Mount[]
  annotations?: Record<string, string>
  linux?: Linux
}

export interface Process {
  terminal?: boolean
  user?: {uid: number; gid: number; umask?: number; additionalGids?: number[]}
  args?: string[]
  env?: string[]
  cwd: string
  capabilities?: Partial<Record<CapabilitySet, string[]>>
  rlimits?: {type: string; soft: number; hard: number}[]
  noNewPrivileges?: boolean
  oomScoreAdj?: number
}

export type CapabilitySet = 'bounding' | 'effective' | 'inheritable' | 'permitted' | 'ambient'

export interface Mount {
  destination: string
  type?: string
  source?: string
  options?: string[]
}

/** config-linux.md's names; namespaces(7) calls mount `mnt` and network `net`. */
export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time'

export interface IdMapping {
  containerID: number
  hostID: number
  size: number
}

export interface Linux {
  namespaces?: {type: NamespaceType; path?: string}[]
  uidMappings?: IdMapping[]
  gidMappings?: IdMapping[]
  devices?: {type: string; path: string; major?: number; minor?: number}[]
  resources?: Resources
  sysctl?: Record<string, string>
  rootfsPropagation?: string
  maskedPaths?: string[]
  readonlyPaths?: string[]
}

/** config-linux.md, Control groups: limits. -1 lifts one. */
export interface Resources {
  devices?: object[]
  memory?: {limit?: number; swap?: number; reservation?: number; disableOOMKiller?: boolean}
  cpu?: {
    shares?: number
    quota?: number
    period?: number
    burst?: number
    idle?: number
    cpus?: string
    mems?: string
  }
  pids?: {limit?: number}
  blockIO?: {
    weight?: number
    throttleReadBpsDevice?: Throttle[]
    throttleWriteBpsDevice?: Throttle[]
    throttleReadIOPSDevice?: Throttle[]
    throttleWriteIOPSDevice?: Throttle[]
  }
  hugepageLimits?: {pageSize: string; limit: number}[]
  /** Files of cgroup v2, and their values. */
  unified?: Record<string, string>
}

export interface Throttle {
  major: number
  minor: number
  rate: number
}

/** What the specification has no field for. All of hew's annotations begin so. */
export const ANNOTATION = {
  /** `true`: the root goes when the container that enters it has ended. */
  remove: 'dev.hew.remove',
  /** "dev:ino" of the root that mkroot made: what is removed must still be it. */
  root: 'dev.hew.root',
} as const

/** How hew treats a field: `honoured`, or why it is passed over (`not`), or why it is refused. */
type Treatment = {not: string} | {refused: string}

/** A field's type, and what hew does with it. */
type Shape = {
  is: 'text' | 'number' | 'id' | 'switch' | 'object' | 'list' | 'map' | 'any'
  /** Of an object: its fields. */
  fields?: Record<string, Shape>
  /** Of a list or a map: its items. */
  of?: Shape
  required?: true
  choices?: readonly string[]
  treatment?: Treatment
}

const text: Shape = {is: 'text'}
const number: Shape = {is: 'number'}
const id: Shape = {is: 'id'}
const flag: Shape = {is: 'switch'}
const texts: Shape = {is: 'list', of: text}
const required = (shape: Shape): Shape => ({...shape, required: true})
const object = (fields: Record<string, Shape>): Shape => ({is: 'object', fields})
const listOf = (of: Shape): Shape => ({is: 'list', of})
const not = (why: string): Shape => ({is: 'any', treatment: {not: why}})
const refused = (why: string): Shape => ({is: 'any', treatment: {refused: why}})
const idMappings = listOf(object({containerID: required(id), hostID: required(id), size: required(number)}))
const throttles = listOf(object({major: required(number), minor: required(number), rate: required(number)}))
const capabilities = ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'] as const
export const NAMESPACE_TYPES = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'] as const

/**
 * The whole specification as hew sees it. Passed over is what makes a container more comfortable, refused what makes it
 * safer: a container must never be less confined than its document says.
 */
const configuration = (): Shape =>
  object({
    ociVersion: required(text),
    process: object({
      terminal: flag,
      consoleSize: not('the terminal keeps its size'),
      user: object({
        uid: required(id),
        gid: required(id),
        umask: id,
        additionalGids: listOf(id),
        username: not('for Windows'),
      }),
      args: texts,
      env: texts,
      cwd: required(text),
      capabilities: object(Object.fromEntries(capabilities.map(set => [set, texts]))),
      rlimits: listOf(object({type: required(text), soft: required(number), hard: required(number)})),
      noNewPrivileges: flag,
      oomScoreAdj: number,
      apparmorProfile: refused('hew applies no AppArmor profile'),
      selinuxLabel: refused('hew applies no SELinux label'),
      scheduler: not('the command keeps the scheduler of its caller'),
      ioPriority: not('the command keeps the I/O priority of its caller'),
      execCPUAffinity: not('the command keeps the CPUs of its caller'),
      commandLine: not('for Windows'),
    }),
    root: object({path: required(text), readonly: flag}),
    hostname: text,
    domainname: text,
    mounts: listOf(
      object({
        destination: required(text),
        type: text,
        source: text,
        options: texts,
        uidMappings: refused('hew makes no id-mapped mounts'),
        gidMappings: refused('hew makes no id-mapped mounts'),
      }),
    ),
    hooks: not('hew runs no hooks'),
    annotations: {is: 'map', of: text},
    linux: object({
      namespaces: listOf(object({type: {...text, required: true, choices: NAMESPACE_TYPES}, path: text})),
      uidMappings: idMappings,
      gidMappings: idMappings,
      timeOffsets: not('the clocks keep their offsets'),
      devices: listOf(
        object({
          type: required(text),
          path: required(text),
          major: number,
          minor: number,
          fileMode: not("a device keeps the machine's mode"),
          uid: not("a device keeps the machine's owner"),
          gid: not("a device keeps the machine's group"),
        }),
      ),
      netDevices: not('no network device is moved'),
      cgroupsPath: not('hew names the cgroup itself, below its own'),
      resources: object({
        devices: listOf({is: 'object'}),
        memory: object({
          limit: number,
          swap: number,
          reservation: number,
          disableOOMKiller: flag,
          kernel: not('the kernel counts its own memory with the rest'),
          kernelTCP: refused('hew does not limit the memory of TCP by itself'),
          swappiness: not('it is cgroup v1 alone that has it'),
          useHierarchy: not('every kernel counts what is below, too'),
          checkBeforeUpdate: not('the container is new'),
        }),
        cpu: object({
          shares: number,
          quota: number,
          period: number,
          burst: number,
          idle: number,
          cpus: text,
          mems: text,
          realtimeRuntime: refused('cgroup v2 has no share of real time'),
          realtimePeriod: refused('cgroup v2 has no share of real time'),
        }),
        pids: object({limit: number}),
        blockIO: object({
          weight: number,
          leafWeight: not('it is cgroup v1 alone that has it'),
          weightDevice: refused('hew weighs no single devices'),
          throttleReadBpsDevice: throttles,
          throttleWriteBpsDevice: throttles,
          throttleReadIOPSDevice: throttles,
          throttleWriteIOPSDevice: throttles,
        }),
        hugepageLimits: listOf(object({pageSize: required(text), limit: required(number)})),
        network: not('its classes and priorities limit nothing by themselves'),
        rdma: refused('hew does not limit RDMA'),
        unified: {is: 'map', of: text},
      }),
      sysctl: {is: 'map', of: text},
      seccomp: refused('hew applies no seccomp profile'),
      rootfsPropagation: {...text, choices: ['shared', 'slave', 'private', 'unbindable']},
      maskedPaths: texts,
      readonlyPaths: texts,
      mountLabel: refused('hew applies no SELinux label'),
      intelRdt: refused('hew sets up no resource director'),
      memoryPolicy: not('the command keeps the memory policy of its caller'),
      personality: refused('hew sets no personality'),
    }),
    solaris: not('for Solaris'),
    windows: not('for Windows'),
    vm: not('for virtual machines'),
    zos: not('for z/OS'),
    freebsd: not('for FreeBSD'),
  })

/** A field of a document that hew passes over or refuses, and why. */
export interface Finding {
  /** E.g. `linux.seccomp`. */
  field: string
  why: string
}

export interface Validated {
  configuration: Configuration
  passedOver: Finding[]
  refused: Finding[]
}

/**
 * Holds a value against the specification.
 * @throws HewError it is no configuration, or a field has the wrong type
 */
export function validate(value: unknown): Validated {
  const findings: Validated = {configuration: value as Configuration, passedOver: [], refused: []}
  if (!isObject(value) || !('ociVersion' in value))
    throw new HewError('what comes through the pipe is JSON and no OCI configuration: it has no ociVersion')
  compare(value, configuration(), '', findings)
  if (!/^1\.\d+\.\d+/.test(value.ociVersion as string))
    throw new HewError(`the document is of OCI version ${value.ociVersion}: hew understands 1.x`)
  return findings
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const IS: Record<Shape['is'], {words: string; test(value: unknown): boolean}> = {
  text: {words: 'text', test: v => typeof v === 'string' && !v.includes('\0')},
  id: {
    words: 'an id (0 to 4294967294)',
    test: v => Number.isInteger(v) && Number(v) >= 0 && Number(v) < 2 ** 32,
  },
  number: {words: 'a whole number', test: v => Number.isInteger(v)},
  switch: {words: 'true or false', test: v => typeof v === 'boolean'},
  object: {words: 'an object', test: isObject},
  list: {words: 'a list', test: Array.isArray},
  map: {words: 'an object', test: isObject},
  any: {words: 'anything', test: () => true},
}

function kind(value: unknown): string {
  if (typeof value === 'string') return value.includes('\0') ? 'text with a NUL in it' : 'text'
  if (typeof value === 'number') return `${value}`
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : typeof value === 'boolean' ? `${value}` : 'an object'
}

function compare(value: unknown, shape: Shape, field: string, findings: Validated): void {
  if (shape.treatment) {
    if (isEmpty(value)) return
    if ('not' in shape.treatment) findings.passedOver.push({field, why: shape.treatment.not})
    else findings.refused.push({field, why: shape.treatment.refused})
    return
  }
  if (!IS[shape.is].test(value))
    throw new HewError(`the document's ${field} should be ${IS[shape.is].words}, and is ${kind(value)}`)
  if (shape.choices && !shape.choices.includes(value as string))
    findings.refused.push({field, why: `'${value}' is not known: it is one of ${shape.choices.join(', ')}`})
  if (shape.fields) compareFields(value as Record<string, unknown>, shape.fields, field, findings)
  if (shape.of) {
    const items = shape.is === 'list' ? (value as unknown[]).map((v, i) => [`${field}[${i}]`, v]) : []
    const entries =
      shape.is === 'map' ? Object.entries(value as object).map(([k, v]) => [`${field}.${k}`, v]) : items
    for (const [name, item] of entries) compare(item, shape.of, name as string, findings)
  }
}

function compareFields(
  value: Record<string, unknown>,
  fields: Record<string, Shape>,
  field: string,
  findings: Validated,
): void {
  const path = (name: string): string => (field ? `${field}.${name}` : name)
  for (const [name, shape] of Object.entries(fields)) {
    if (value[name] !== undefined && value[name] !== null) compare(value[name], shape, path(name), findings)
    else if (shape.required) throw new HewError(`the document has no ${path(name)}`)
  }
  for (const name of Object.keys(value))
    if (!Object.hasOwn(fields, name))
      findings.passedOver.push({field: path(name), why: 'hew does not know it'})
}

/** Fields that are there and ask for nothing. */
function isEmpty(value: unknown): boolean {
  return value === '' || (typeof value === 'object' && value !== null && Object.keys(value).length === 0)
}
