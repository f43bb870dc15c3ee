import type {Container, Member, Snapshot} from './snapshot.ts'

/** What `--json` prints; README says what each field is. Null is unknown. */
export function json({containers, others}: Snapshot): string {
  const shape = {
    containers: containers.map(containerShape),
    ...(others && {processes: others.map(processShape)}),
  }
  // Valid in JSON and harmless in files, but not on a terminal: DEL, and the C1 controls.
  return `${JSON.stringify(shape).replace(/[\x7f-\x9f]/g, c => `\\u00${c.charCodeAt(0).toString(16)}`)}\n`
}

function containerShape({use, ...container}: Container) {
  const {memory, cpu, processes: pids} = use
  return {
    name: container.name ?? null,
    status: container.status,
    pid: container.pid ?? null,
    detached: container.detached,
    createdAt: container.createdAt?.toISOString() ?? null,
    root: container.root ?? null,
    namespaces: container.namespaces ?? null,
    cgroups: use.cgroups,
    memoryBytes: memory.now ?? null,
    memoryLimitBytes: memory.limit ?? null,
    memoryPeakBytes: memory.peak ?? null,
    oomKills: memory.kills ?? null,
    cpuSeconds: cpu.seconds ?? null,
    cpuLimitCores: cpu.quota === undefined ? null : cpu.quota / (cpu.period ?? 100_000),
    throttledPeriods: cpu.throttled ?? null,
    throttledSeconds: cpu.throttledSeconds ?? null,
    pids: pids.now ?? null,
    pidsLimit: pids.limit ?? null,
    forksRefused: pids.refused ?? null,
    processes: container.processes.map(processShape),
  }
}

function processShape(process: Member) {
  return {
    pid: process.pid,
    pidInside: process.pidInside ?? null,
    ppid: process.ppid,
    state: process.state,
    uid: process.uid,
    uidInside: process.uidInside,
    user: process.user ?? null,
    cpuSeconds: process.cpuSeconds,
    ageSeconds: Number(process.ageSeconds.toFixed(2)),
    memoryBytes: process.memoryBytes,
    name: process.comm,
    args: process.args,
  }
}
