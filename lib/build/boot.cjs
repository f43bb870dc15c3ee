// The binary's main script: it runs the bundle that was made for the command (lib/build/bundle.ts), or the one with all of them, with
// its code cache (lib/build/warm.ts).
const {basename} = require('node:path')
const {getAssetKeys, getRawAsset} = require('node:sea')
const {constants, Script} = require('node:vm')
const asset = key => Buffer.from(getRawAsset(key))
const keys = getAssetKeys()
const called = basename(process.argv0)
const name = asset('commands').latin1Slice().split(' ').includes(called) ? called : process.argv[2]
const own = (kind, others) =>
  asset(keys.includes(`${kind}.${name}`) ? `${kind}.${name}` : `${kind}.${others}`)
const script = new Script(own('bundle', 'hew').latin1Slice(), {
  filename: 'hew.js',
  cachedData: own('cache', 'others'),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
})
// V8 goes without a cache that it does not take, and says nothing: for the test that does.
if (script.cachedDataRejected && process.env.HEW_CODE_CACHE === 'required') {
  require('node:fs').writeSync(2, 'hew: the code cache was rejected: make builds another\n')
  process.exit(125)
}
script.runInThisContext()(require)
