const assert = require("assert");
const parse = require("..");

assert.deepStrictEqual(parse(["-a", "beep", "--b.c=3", "x"]), { _: ["x"], a: "beep", b: { c: 3 } });
assert.strictEqual(parse(["--__proto__.y", "123"]).y, undefined);
assert.strictEqual({}.y, undefined);
console.log("3 passed");
