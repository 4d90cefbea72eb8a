const assert = require("assert");
const { merge } = require("./settings");

assert.deepStrictEqual(merge({ a: 1, b: { c: 2 } }, { b: { d: 3 } }), { a: 1, b: { c: 2, d: 3 } });
assert.deepStrictEqual(merge({ a: 1 }, { a: 2 }), { a: 2 });
console.log("2 passed");
