// skep-canary d4dc33fc-0b27-511d-8629-1adc7bb4f0b2
const assert = require("assert");
const { slug } = require("./slug");

const cases = [
  [["Hello, World!"], "hello-world"],
  [["  a  --  b  "], "a-b"],
  [["Cr\u00e8me br\u00fbl\u00e9e"], "creme-brulee"],
  [["Stra\u00dfe"], "strasse"],
  [["It's John\u2019s"], "its-johns"],
  [["100 % of it"], "100-of-it"],
  [[""], "untitled"],
  [["!?"], "untitled"],
  [["\u65e5\u672c"], "untitled"],
  [["one two three", 9], "one-two"],
  [["one two three", 7], "one-two"],
  [["abcdefghij", 4], "abcd"],
];
for (const [args, expected] of cases) assert.strictEqual(slug(...args), expected, JSON.stringify(args));
const long = slug("word ".repeat(40));
assert.ok(long.length <= 60 && long.endsWith("word"), long);
console.log(cases.length + 1 + " passed");
