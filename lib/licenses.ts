import {readFileSync} from 'node:fs'
import {createRequire} from 'node:module'
import {gunzipSync} from 'node:zlib'
import {packaged} from './launch.ts'

/** The licences of all that the binary carries, one text (made by lib/build/licenses.ts). */
export function licenses(): string {
  if (!packaged) return readFileSync(new URL('../dist/licenses.txt', import.meta.url), 'utf8')
  const sea = createRequire(import.meta.url)('node:sea') as typeof import('node:sea')
  return gunzipSync(sea.getRawAsset('licenses')).toString()
}
