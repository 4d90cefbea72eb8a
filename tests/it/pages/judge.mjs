// Judges pages in a real browser: axe-core with the rules of WCAG 2.2 AA, html-validate, errors and violations of the
// content policy on the console, and the width of a phone. Each page is judged light in a narrow window and dark in a
// wide one, as it opens and with everything unfolded, and with the list of keys.
//
//   node judge.mjs LINK PATH…
//
// Prints what is wrong and exits with 1, or prints the number of pages. Needs puppeteer-core, axe-core, html-validate
// and Chromium, see scripts/test.

import { readFileSync } from "node:fs";
import { browser, fitsWidth, judge, loggedIn } from "./browser.mjs";

const [link, ...paths] = process.argv.slice(2);
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const axe = readFileSync(judge.resolve("axe-core/axe.min.js"), "utf8");
const { HtmlValidate } = judge("html-validate");
// Sizes and styles are not the business of a checker of HTML.
const html = new HtmlValidate({ extends: ["html-validate:standard", "html-validate:a11y"], rules: { "no-trailing-whitespace": "off" } });

const chromium = await browser();
const page = await chromium.newPage();
const found = new Map();
const add = (what, where) => found.set(what, [...(found.get(what) ?? []), where]);
// A page that does not exist is one of those judged.
const isExpected = (message) => message.text().includes("status of 404");
page.on("console", (message) => { if (message.type() === "error" && !isExpected(message)) add(message.text(), page.url()); });
page.on("pageerror", (error) => add(error.message, page.url()));

const judged = async (where) => {
  // A color that is still fading would be judged, too.
  await page.evaluate(() => Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))));
  // The debugger puts the library in; the policy of the page does not hold it back.
  await page.evaluate(axe);
  const violations = await page.evaluate(async (tags) => {
    const { violations: all } = await window.axe.run(document, { runOnly: tags });
    return all.map((v) => ({ id: v.id, node: `${v.nodes[0].html.slice(0, 200)}\n      ${v.nodes[0].failureSummary}` }));
  }, TAGS);
  for (const { id, node } of violations) add(`axe: ${id}`, `${where}: ${node}`);
};

await loggedIn(page, link);
const { origin } = new URL(link);
for (const path of paths) {
  const response = await fetch(origin + path, { headers: { cookie: (await page.cookies()).map((c) => `${c.name}=${c.value}`).join("; ") } });
  const report = await html.validateString(await response.text());
  for (const { ruleId, message, line, column } of report.results.flatMap((r) => r.messages)) add(`${ruleId}: ${message}`, `${path}:${line}:${column}`);
  for (const [value, width] of [["light", 320], ["dark", 1440]]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    await page.setViewport({ width, height: 900 });
    await page.goto(origin + path);
    await fitsWidth(page);
    await judged(`${path} ${value}`);
    await page.evaluate(() => { for (const d of document.querySelectorAll("details")) d.open = true; });
    await fitsWidth(page);
    await judged(`${path} ${value} unfolded`);
  }
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.type("?");
  if (!(await page.$("dialog[open]"))) add("no list of keys", path);
  await judged(`${path} with the list of keys`);
}
await chromium.close();
for (const [what, where] of found) console.error(`${what} (${where.length})\n    ${where.slice(0, 3).join("\n    ")}`);
console.log(`${paths.length} pages`);
process.exitCode = found.size ? 1 : 0;
