// Uses the command menu and the list of keys by keyboard alone, and judges both with axe-core in both color schemes.
//
//   node menu.mjs LINK RUN TITLE
//
// RUN is a run that is in progress or waits, TITLE words of its goal.

import { readFileSync } from "node:fs";
import { browser, fail, fitsWidth, judge, loggedIn } from "./browser.mjs";

const [link, run, title] = process.argv.slice(2);
const axe = readFileSync(judge.resolve("axe-core/axe.min.js"), "utf8");
const chromium = await browser();
const page = await chromium.newPage();
await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
const errors = [];
page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
page.on("pageerror", (error) => errors.push(error.message));

const { origin } = new URL(link);
const path = () => { const { pathname, search } = new URL(page.url()); return pathname + search; };
const until = async (what, holds) => {
  for (let n = 0; n < 100; n += 1) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  fail(`not within 10 s: ${what} on ${page.url()}:\n${await page.$eval("body", (body) => body.innerText)}`);
};
const entries = () => page.$$eval("dialog .found :is(a, button)", (all) => all.map((entry) => entry.textContent.trim())).catch(() => []);
const opens = async () => {
  await page.keyboard.down("Control");
  await page.keyboard.press("k");
  await page.keyboard.up("Control");
  await until("the menu has entries", async () => (await entries()).length > 3);
};
// A closed dialog keeps the focus until it is removed, an instant later; no person is as fast as the next key of a test.
const closes = async () => {
  await page.keyboard.press("Escape");
  await until("Escape closes the dialog", async () => !(await page.$("dialog")));
};
const finds = async (words, expected) => {
  await page.keyboard.type(words);
  await until(`${words} finds ${expected} first`, async () => (await entries())[0]?.includes(expected));
};
const enter = async () => { await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]); };
const judged = async (where) => {
  await page.evaluate(() => Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))));
  await page.evaluate(axe);
  const all = await page.evaluate(async () => (await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })).violations
    .map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)} ${v.nodes[0].failureSummary}`));
  if (all.length) fail(`${where}: ${all.join("\n")}`);
};

await loggedIn(page, link);

// Go: a page by its name.
await opens();
await finds("spend", "Spending");
await enter();
if (path() !== "/spending") fail(`expected /spending, not ${path()}`);

// The sandbox of the real program is shown with everything that it prevents.
await opens();
await finds("sandbox", "Settings: sandbox");
await enter();
const sandbox = await page.$eval("main", (main) => main.innerText);
if (!sandbox.includes("Holds") || !sandbox.includes("blocked")) fail(`expected a sandbox that holds:\n${sandbox}`);

// Find: a run by words of its goal, chosen with the arrow keys; and by the beginning of its id.
await opens();
await finds(title.toLowerCase(), title);
await page.keyboard.press("ArrowDown");
if (!(await page.evaluate(() => document.activeElement.matches("dialog .found a")))) fail("the arrow key does not lead to an entry");
await enter();
if (path() !== `/runs/${run}`) fail(`expected the run, not ${path()}`);
await opens();
await finds(run.slice(0, 12), title);
await closes();

// Do: what is on this page. The focus goes there, and nothing was sent.
await opens();
await finds("pause", "Pause");
await page.keyboard.press("Enter");
await until("the focus is on the button", () => page.evaluate(() => document.activeElement?.matches("main button") && document.activeElement.textContent.includes("Pause")));
const before = await page.$eval("header.run .status", (status) => status.textContent);
if (before.includes("paused")) fail("the menu itself paused the run");
await enter();
await until("the run is paused", async () => (await page.$eval("header.run .status", (status) => status.textContent)).includes("paused"));

// Words that match nothing say so, and do nothing.
await opens();
await page.keyboard.type("zzzzzz");
await until("nothing matches", async () => (await page.$eval("dialog", (open) => open.innerText)).includes("Nothing matches"));
await closes();

// In a narrow and in a wide window, light and dark, the menu and the list of keys are as good as the pages.
for (const [value, width] of [["light", 320], ["dark", 1280]]) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.setViewport({ width, height: 800 });
  await page.goto(`${origin}/runs/${run}`);
  await opens();
  await fitsWidth(page);
  await judged(`the menu, ${value}`);
  if (process.env.SKEP_TEST_SHOTS) await page.screenshot({ path: `${process.env.SKEP_TEST_SHOTS}/menu-${value}-${width}.png` });
  await closes();
  await page.keyboard.type("?");
  await fitsWidth(page);
  await judged(`the keys, ${value}`);
  if (process.env.SKEP_TEST_SHOTS) await page.screenshot({ path: `${process.env.SKEP_TEST_SHOTS}/keys-${value}-${width}.png` });
  await closes();
}

// Keys of one letter can be switched off; the menu still works, and leads back to the list of keys.
await page.keyboard.type("?");
await page.focus("dialog input[type=checkbox]");
await page.keyboard.press("Space");
await closes();
await page.keyboard.type("n");
await new Promise((done) => setTimeout(done, 500));
if (path() !== `/runs/${run}`) fail("a key of one letter still works");
await opens();
await finds("list of", "List of keys");
await page.keyboard.press("Enter");
await until("the list of keys", async () => (await page.$eval("dialog[open]", (open) => open.innerText).catch(() => "")).includes("Keys of one letter"));
await page.focus("dialog input[type=checkbox]");
await page.keyboard.press("Space");
await closes();
await page.keyboard.type("n");
await until("the key works again", async () => path() === "/runs/new");

// Without JavaScript, the same is a page of links.
const plain = await chromium.newPage();
await plain.setJavaScriptEnabled(false);
await plain.goto(`${origin}/runs`);
await Promise.all([plain.waitForNavigation(), plain.click("a[data-menu]")]);
await plain.type("#menu-q", title);
await Promise.all([plain.waitForNavigation(), plain.keyboard.press("Enter")]);
await Promise.all([plain.waitForNavigation(), plain.click("#found a")]);
if (new URL(plain.url()).pathname !== `/runs/${run}`) fail(`expected the run, not ${plain.url()}`);
if (errors.length) fail(errors.join("\n"));
console.log("the menu works");
await chromium.close();
