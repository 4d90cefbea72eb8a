// skep-canary 1b590089-124a-52c3-bce2-e47b146e9e45
const assert = require("assert");
const parse = require("..");

let passed = 0;
function test(args, check) {
  check(parse(args));
  passed += 1;
}

test(["--_.concat.constructor.prototype.y", "123"], (argv) => {
  function f() {}
  assert.strictEqual(f.y, undefined);
  assert.strictEqual(argv.y, undefined);
});
test(["--_.constructor.constructor.prototype.foo", "bar"], () => {
  assert.strictEqual(function () {}.foo, undefined);
});
test(["--constructor.prototype.z", "1"], () => assert.strictEqual({}.z, undefined));
test(["--a.b.c", "1", "--no-d"], (argv) => {
  assert.deepStrictEqual(argv, { _: [], a: { b: { c: 1 } }, d: false });
});
console.log(passed + " passed");
