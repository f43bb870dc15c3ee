import {containerOf, find} from '../containers/find.ts'
import type {Container} from '../containers/state.ts'
import {UsageError} from '../errors.ts'
import {isNull} from '../stdio.ts'
import {isTerminal} from './output.ts'
import {awaited} from './patience.ts'

/**
 * The containers that a command acts on: those named, or without a name the one of the pipe. Each once.
 * @throws HewError one of them is not there: nothing is done to the others
 */
export function named(operands: string[]): Container[] {
  if (operands.length > 0) {
    return [...new Map(find(operands).map(container => [container.id, container])).values()]
  }
  if (isTerminal(0) || isNull()) throw new UsageError("name a container: 'hew ps' lists them")
  return [containerOf(awaited())]
}
