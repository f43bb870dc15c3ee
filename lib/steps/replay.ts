import type {Table} from '../step.ts'
import {unchecked} from './line.ts'

/**
 * What a plan follows from, found out when it is written down, and again whenever it is replayed: `file` (which one, its size,
 * when it was written to), `inode` (which directory or namespace is there), `link` (where it leads), `text`, `absent`, `ids`
 * (who we are). `why`: what has happened when it is another.
 */
export interface Fact {
  kind: 'file' | 'inode' | 'link' | 'text' | 'absent' | 'ids'
  path: string
  why: string
}

/** Steps of a plan that is kept. */
export interface ReplaySteps {
  /**
   * The steps behind it are not done, but written to a new file; `command` is executed at their end, or another one. `text`: the
   * plan itself, for who reads it as such.
   */
  plan: {file: string; text: string; facts: Fact[]; command: string[]}
  /** Fails unless the plan in this file can be replayed. The last step. */
  'plan-holds': {file: string}
  /** What will be executed, for the configuration that `claim-state` writes. */
  replayed: {command: string[]}
  /**
   * In a replay, in the place of `state`: takes this name, or unless `only` one like it. `head` is what state.json begins with,
   * behind the id; `configuration` is config.json up to the command's arguments.
   */
  'claim-state': {
    states: string
    id: string
    only: boolean
    head: string
    configuration: string
    keep: boolean
  }
}

export const replaySteps: Table<ReplaySteps> = {
  plan: {
    because: '',
    shell: () => '',
    words: s => [
      s.file,
      s.text,
      s.facts.length,
      ...s.facts.flatMap(({kind, path, why}) => [kind, path, why]),
      s.command.length,
      ...s.command,
    ],
    check: unchecked,
  },
  'plan-holds': {because: '', shell: () => '', words: s => [s.file], check: unchecked},
  replayed: {because: '', shell: () => '', words: s => [s.command.length, ...s.command], check: unchecked},
  'claim-state': {
    because: '',
    shell: () => '',
    words: s => [
      s.states,
      s.id,
      s.only ? 'only' : 'like',
      s.head,
      s.configuration,
      s.keep ? 'keep' : 'remove',
    ],
    check: unchecked,
  },
}
