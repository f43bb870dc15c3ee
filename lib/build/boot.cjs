// The binary's main script: it runs the bundle with the code cache of lib/build/warm.ts.
const {getRawAsset} = require('node:sea')
const {constants, Script} = require('node:vm')
const asset = name => Buffer.from(getRawAsset(name))
new Script(asset('bundle').latin1Slice(), {
  filename: 'hew.js',
  cachedData: asset('cache'),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
}).runInThisContext()(require)
