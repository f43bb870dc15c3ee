/**
 * scripts/hew.ts and all that it imports, as one CommonJS file, and beside it commands that people wait for, each with what it alone
 * imports: `tsx lib/build/bundle.ts FOLDER`. A start then reads a third of the text, and makes a third of the functions.
 *
 * Modules that are imported lazily stay lazy: each is a function that runs when it is first imported.
 */
import {mkdirSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs'
import {type BuildOptions, build, transform} from 'esbuild'
import {names} from '../cli/commands.ts'

const OWN = ['mkroot', 'copy-deps', 'limit', 'enter', 'ps']

const [folder = 'dist/build/bundles'] = process.argv.slice(2)
const {version} = JSON.parse(readFileSync('package.json', 'utf8')) as {version: string}

const beside = `${folder}.new`
rmSync(beside, {recursive: true, force: true})
mkdirSync(beside, {recursive: true})
writeFileSync(`${beside}/commands`, names.join(' ')) // which a link to hew may be called
await Promise.all([
  bundle('hew', {entryPoints: ['scripts/hew.ts']}),
  ...OWN.map(name => bundle(name, {stdin: {contents: entry(name), resolveDir: '.'}})),
])
// Half of them would be as good as all to make.
rmSync(folder, {recursive: true, force: true})
renameSync(beside, folder)

/** What scripts/hew.ts does when it is asked for this command. */
function entry(name: string): string {
  return `
    import command from './scripts/${name}.ts'
    import {start, wordsOf} from './lib/cli/main.ts'
    start(command, wordsOf(command))
  `
}

async function bundle(name: string, source: BuildOptions): Promise<void> {
  const outfile = `${beside}/${name}.js`
  const {metafile, outputFiles} = await build({
    ...source,
    metafile: true,
    write: false,
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minifySyntax: true,
    legalComments: 'none', // hew --licenses has them all
    define: {
      HEW_BINARY: 'true',
      HEW_VERSION: JSON.stringify(version),
      // A bundle has no files of its own beside it.
      'import.meta.url': '"file:///proc/self/exe"',
    },
    logLevel: 'warning',
    logOverride: {'empty-import-meta': 'silent'}, // command() asks for it
  })
  // The shorter the faster, and no stack trace is ever shown.
  const {code} = await transform(withoutCopies(outputFiles![0]!.text), {
    minify: true,
    format: 'cjs',
    target: 'node24',
    // lib/build/boot.cjs calls it.
    banner: '(function (require) {',
    footer: '})',
  })
  writeFileSync(outfile, code)
  writeFileSync(`${outfile}.meta.json`, JSON.stringify(metafile))
}

/**
 * `import * as fs` of Node's own modules as a mere require: esbuild copies all of their names to an object, anew in each of
 * forty files, in case that somebody wants the default export.
 */
function withoutCopies(code: string): string {
  return code.replace(/\b(\w+) = __toESM\((require\("node:\w+"\)), 1\)/g, (whole, variable, required) =>
    new RegExp(`\\b${variable}\\.default\\b`).test(code) ? whole : `${variable} = ${required}`,
  )
}
