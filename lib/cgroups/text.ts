import type {Resources} from '../document/oci.ts'
import {bandwidthText, bytesText} from './values.ts'

const bytes = (value: number): string => (value < 0 ? 'no limit' : bytesText(value))

/** Limits as a person reads them. */
export function limitsText({memory, cpu, pids, unified}: Resources): [term: string, text: string][] {
  const rows: [string, string | undefined][] = [
    ['memory', memory?.limit === undefined ? undefined : bytes(memory.limit)],
    ['swap', memory?.swap === undefined ? undefined : swapText(memory.swap, memory.limit)],
    ['CPU', cpu?.quota === undefined ? undefined : cpuText(cpu.quota, cpu.period)],
    ['CPUs', cpu?.cpus],
    ['processes', pids?.limit === undefined ? undefined : pids.limit <= 0 ? 'no limit' : `${pids.limit}`],
    ...Object.entries(unified ?? {}),
  ]
  return rows.filter((row): row is [string, string] => row[1] !== undefined)
}

function cpuText(quota: number, period = 100_000): string {
  return quota < 0 ? 'no limit' : bandwidthText({quota, period})
}

function swapText(total: number, limit = 0): string {
  return total < 0 ? 'no limit' : total <= limit ? 'none' : bytes(total - limit)
}
