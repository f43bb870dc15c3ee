/**
 * scripts/hew.ts and all that it imports, as one CommonJS file: `tsx lib/build/bundle.ts OUT`.
 *
 * Modules that are imported lazily stay lazy in it: each is a function that runs when it is first imported.
 */
import {readFileSync, writeFileSync} from 'node:fs'
import {build, transform} from 'esbuild'

const [outfile = 'dist/build/hew.js'] = process.argv.slice(2)
const {version} = JSON.parse(readFileSync('package.json', 'utf8')) as {version: string}

build({
  metafile: true,
  entryPoints: ['scripts/hew.ts'],
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
}).then(async ({metafile}) => {
  writeFileSync(`${outfile}.meta.json`, JSON.stringify(metafile))
  // The shorter the faster, and no stack trace is ever shown.
  const {code} = await transform(withoutCopies(readFileSync(outfile, 'utf8')), {
    minify: true,
    format: 'cjs',
    target: 'node24',
    // lib/build/boot.cjs calls it.
    banner: '(function (require) {',
    footer: '})',
  })
  writeFileSync(outfile, code)
})

/**
 * `import * as fs` of Node's own modules as a mere require: esbuild copies all of their names to an object, anew in each of
 * forty files, in case that somebody wants the default export.
 */
function withoutCopies(code: string): string {
  return code.replace(/\b(\w+) = __toESM\((require\("node:\w+"\)), 1\)/g, (whole, variable, required) =>
    new RegExp(`\\b${variable}\\.default\\b`).test(code) ? whole : `${variable} = ${required}`,
  )
}
