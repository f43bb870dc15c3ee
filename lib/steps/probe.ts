import type {Table} from '../step.ts'
import {unchecked} from './line.ts'

/** Steps of `hew check`. */
export interface ProbeSteps {
  /** Tries what the stage has under this name (lib/stage/probe.c) in a child, and prints "NAME ERRNO". */
  probe: {name: string}
}

export const probeSteps: Table<ProbeSteps> = {
  probe: {because: '', shell: () => '', words: s => [s.name], check: unchecked},
}
