// Walks the path of a first-time user in a real browser: log in by the printed link, start a run from the page, watch
// it, decline once with a comment on a line, approve, see that it landed and what it cost.
//
//   node path.mjs LINK REPOSITORY keyboard|noscript|phone
//
// The modes: only the keyboard, without JavaScript, or by touch in a window of 320 by 640 pixels. Exits with 1 and says
// at which step, if a step does not lead where a person expects to be. Needs puppeteer-core and Chromium, see
// scripts/test.

import { browser, fail, fitsWidth } from "./browser.mjs";

const [link, repository, mode] = process.argv.slice(2);
const GOAL = "Say two in a.txt";
const ENGINE = 'command: cat "$SKEP_NOTES_FILE" >> a.txt; echo two >> a.txt; '
  + 'printf \'{"summary": "Said two", "usage": {"tokens": 1200, "cost_micros": 420000}}\' > "$SKEP_REPORT_FILE"';
const WAIT = 120_000;

const chromium = await browser();
const page = await chromium.newPage();
if (mode === "noscript") await page.setJavaScriptEnabled(false);
if (mode === "phone") await page.setViewport({ width: 320, height: 640, isMobile: true, hasTouch: true });
// While one page fades into the next, a press on it is lost.
await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
const errors = [];
page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
page.on("pageerror", (error) => errors.push(error.message));

const path = () => new URL(page.url()).pathname;
const text = () => page.$eval("main", (main) => main.textContent);
const focused = (selector) => page.evaluate((s) => document.activeElement?.matches(s) ?? false, selector);
/** Whether the page gives the focus to an element, which it does shortly after it was loaded. */
const takesFocus = async (selector) => {
  for (let n = 0; n < 50; n += 1) {
    if (await focused(selector)) return true;
    await new Promise((done) => setTimeout(done, 100));
  }
  return false;
};

/** Moves the focus with the tab key, as far as a patient person would. */
const tabTo = async (selector) => {
  for (let n = 0; n < 60; n += 1) {
    if (await focused(selector)) return;
    await page.keyboard.press("Tab");
  }
  fail(`the tab key does not lead to ${selector} on ${path()}`);
};

/** Presses a link, button or summary. */
const press = async (selector) => {
  if (mode === "keyboard") { await tabTo(selector); await page.keyboard.press("Enter"); return; }
  const place = await page.$(selector);
  if (!place) fail(`there is no ${selector} on ${path()}`);
  await place.scrollIntoView();
  if (mode === "phone") await place.tap(); else await place.click();
};

/** Presses what leads to another page. */
const follow = async (selector) => { await Promise.all([page.waitForNavigation({ timeout: WAIT }), press(selector)]); await arrived(); };
const key = async (name) => { await Promise.all([page.waitForNavigation({ timeout: WAIT }), page.keyboard.press(name)]); await arrived(); };

const arrived = async () => { if (mode === "phone") await fitsWidth(page); };

const expect = async (what, found) => { if (!found) fail(`expected ${what} on ${page.url()}:\n${await text()}`); };

/** Waits until a touch does not scroll the page any more: what is typed before is lost. */
const settled = async () => {
  let last = -1;
  for (let same = 0; same < 5;) {
    const at = await page.evaluate(() => window.scrollY);
    same = at === last ? same + 1 : 0;
    last = at;
    await new Promise((done) => setTimeout(done, 100));
  }
};

/** Fills a field. */
const fill = async (selector, value) => {
  if (mode === "keyboard") await tabTo(selector); else await press(selector);
  await expect(`the focus on ${selector}`, await takesFocus(selector));
  if (mode === "phone") await settled();
  await page.keyboard.type(value);
  const typed = () => page.$eval(selector, (field) => field.value);
  await expect(`${value} in ${selector}, not ${await typed()},`, (await typed()) === value);
};

/** Waits until the page shows an element or a text: it does so by itself, or after the reload key without scripts. */
const shows = async (what, found) => {
  const until = Date.now() + WAIT;
  const at = page.url();
  while (Date.now() < until) {
    const is = found instanceof RegExp ? text().then((all) => found.test(all)) : page.$(found);
    if (await is.catch(() => false)) return;
    if (mode === "noscript") await page.reload();
    await new Promise((done) => setTimeout(done, 200));
  }
  fail(`${at} does not show ${what}:\n${await text()}`);
};


await page.goto(link);
await arrived();
if (mode === "keyboard") await expect("the focus on the button", await takesFocus("main button"));
await follow("main form button");
await expect("the inbox", path() === "/");

if (mode === "keyboard") await key("n"); else await follow('a[href="/runs/new"]');
if (mode === "keyboard") { await expect("the focus on the goal", await takesFocus("#goal")); await page.keyboard.type(GOAL); } else await fill("#goal", GOAL);
await fill("#repo", repository);
await press("details.more > summary");
await fill("#checks", "test -f a.txt");
await fill("#limit-cost", "3.50");
await fill("#engine-dev", ENGINE);
await follow('button[value="preview"]');
await expect("a preview with the limit", (await text()).includes("$3.50"));
await follow('button[value="start"]');
await expect("the page of the run", /^\/runs\/[0-9a-f]{32}$/.test(path()));
const run = path();

// The page of the run shows the question by itself.
await shows("a question", ".question");
await expect("an approval", (await text()).includes("The merge waits for approval"));
if (mode === "keyboard") await key("2"); else await follow(`.tabs a[href="${run}/changes"]`);
await expect("the diff", (await text()).includes("two"));
if (mode === "keyboard") {
  await expect("line numbers to comment on", await page.$(".diff .n a"));
  await page.keyboard.press("c");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
} else if (mode === "noscript") {
  await follow('.diff tr.add .n a');
} else await press(".diff tr.add .n a");
await expect("a form for the decision", await page.$("#reason"));
const reason = () => page.$eval("#reason", (field) => field.value);
await expect("the line in the reason", /^a\.txt:\d+: $/.test(await reason()));
if (mode === "noscript") await press("#reason");
await page.keyboard.press("End");
await page.keyboard.type("say it in words");
await follow("#decision button.danger");
await expect("the run, with a notice", path() === run && (await text()).includes("Declined"));

await shows("the next question", ".question[id$=b2]");
await expect("the reason among the events", (await text()).includes("say it in words"));
await follow(".question button.primary");
await expect("the run, with a notice", path() === run && (await text()).includes("Approved"));
await shows("where it landed", /delivered as [0-9a-f]{7,}/i);
if (mode === "keyboard") await key("5"); else await follow(`.tabs a[href="${run}/cost"]`);
await expect("what it cost", (await text()).includes("$0.84"));
if (errors.length) fail(errors.join("\n"));
console.log(`${mode}: landed`);
await chromium.close();
