const assert = require("assert");
const { slug } = require("./slug");

assert.strictEqual(slug("Hello World"), "hello-world");
console.log("1 passed");
