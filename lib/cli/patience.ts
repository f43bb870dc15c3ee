import {readDocument} from '../document/read.ts'
import {write} from './output.ts'

/**
 * The document in the pipe, for commands that scripts call with a stdin of their own, which may be a pipe that nobody writes into: they say what
 * they wait for.
 * @throws HewError there is none
 */
export function awaited(): unknown {
  return readDocument(0, () =>
    write(2, 'hew: waiting for a document from the pipe: </dev/null says that there is none\n'),
  )
}
