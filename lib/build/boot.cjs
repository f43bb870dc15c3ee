// The binary's main script: it runs the bundle with the code cache of lib/build/warm.ts.
const {getRawAsset} = require('node:sea')
const {constants, Script} = require('node:vm')
const asset = name => Buffer.from(getRawAsset(name))
const script = new Script(asset('bundle').latin1Slice(), {
  filename: 'hew.js',
  cachedData: asset('cache'),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
})
// V8 goes without a cache that it does not take, and says nothing: for the test that does.
if (script.cachedDataRejected && process.env.HEW_CODE_CACHE === 'required') {
  require('node:fs').writeSync(2, 'hew: the code cache was rejected: make builds another\n')
  process.exit(125)
}
script.runInThisContext()(require)
