// skep-canary d843183b-bc33-5f92-93c0-7569664cc0fa
const assert = require("assert");
const { merge } = require("./settings");

const tests = {
  "the arguments are not changed"() {
    const under = { a: { b: 1 } };
    const over = { a: { c: 2 }, d: { e: [1] } };
    const result = merge(under, over);
    result.a.b = 9;
    result.d.e.push(2);
    assert.deepStrictEqual([under, over], [{ a: { b: 1 } }, { a: { c: 2 }, d: { e: [1] } }]);
  },
  "lists replace lists"() {
    assert.deepStrictEqual(merge({ a: [1, 2, 3] }, { a: [4] }), { a: [4] });
    assert.deepStrictEqual(merge({ a: { b: 1 } }, { a: [4] }), { a: [4] });
  },
  "null replaces a table, and a table replaces null"() {
    assert.deepStrictEqual(merge({ a: { b: 1 } }, { a: null }), { a: null });
    assert.deepStrictEqual(merge({ a: null }, { a: { b: 1 } }), { a: { b: 1 } });
  },
  "prototypes are out of reach"() {
    const result = merge({}, JSON.parse('{"__proto__": {"polluted": true}, "x": 1}'));
    assert.strictEqual({}.polluted, undefined);
    assert.strictEqual(result.polluted, undefined);
    assert.strictEqual(result.x, 1);
  },
  "several levels"() {
    assert.deepStrictEqual(merge({ a: { b: { c: 1, d: 2 } } }, { a: { b: { d: 3 } } }), { a: { b: { c: 1, d: 3 } } });
  },
};
for (const [name, test] of Object.entries(tests)) {
  try {
    test();
  } catch (error) {
    console.error(name);
    throw error;
  }
}
console.log(Object.keys(tests).length + " passed");
