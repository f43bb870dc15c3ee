// The binary's main script: it runs the bundle with the one of lib/build/warm.ts's code caches that was made for the command.
const {basename} = require('node:path')
const {getAssetKeys, getRawAsset} = require('node:sea')
const {constants, Script} = require('node:vm')
const asset = name => Buffer.from(getRawAsset(name))
const caches = getAssetKeys()
const cache = [basename(process.argv0), process.argv[2]]
  .map(word => `cache.${word}`)
  .find(name => caches.includes(name))
const script = new Script(asset('bundle').latin1Slice(), {
  filename: 'hew.js',
  cachedData: asset(cache ?? 'cache.others'),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
})
// V8 goes without a cache that it does not take, and says nothing: for the test that does.
if (script.cachedDataRejected && process.env.HEW_CODE_CACHE === 'required') {
  require('node:fs').writeSync(2, 'hew: the code cache was rejected: make builds another\n')
  process.exit(125)
}
script.runInThisContext()(require)
