// Twelve tabs of one browser on the page of a run: a browser opens only six connections to a service, and yet all tabs
// follow the run, with few requests each. What a tab has replaced equals the page as it is loaded anew.
//
//   node live.mjs LINK RUN SKEP        SKEP is the program that pauses and resumes the run

import { execFileSync } from "node:child_process";
import { browser, fail, loggedIn } from "./browser.mjs";

const [link, run, skep] = process.argv.slice(2);
const TABS = 12;
const address = new URL(`/runs/${run}`, link).href;
const chromium = await browser();
const first = await chromium.newPage();
await loggedIn(first, link);
const tabs = [first];
while (tabs.length < TABS) tabs.push(await chromium.newPage());
const fetches = new Map(tabs.map((tab) => [tab, 0]));
for (const tab of tabs) {
  tab.on("request", (request) => { if (request.resourceType() === "fetch") fetches.set(tab, fetches.get(tab) + 1); });
}
await Promise.all(tabs.map((tab) => tab.goto(address)));

const status = (tab) => tab.$eval("header.run .status", (place) => place.textContent.trim()).catch(() => "");
const until = async (what, holds) => {
  for (let n = 0; n < 300; n += 1) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  fail(`not within 30 s: ${what}`);
};
const moves = ["pause", "resume", "pause", "resume"];
for (const move of moves) {
  execFileSync(skep, [move, run]);
  for (const [n, tab] of tabs.entries()) {
    // A tab that nobody sees waits until somebody does.
    await tab.bringToFront();
    await until(`tab ${n} shows ${move}`, async () => (await status(tab)).includes("paused") === (move === "pause"));
  }
}

/** The content without what depends on the moment. */
const content = async (tab) => {
  const html = await tab.$eval("main", (main) => main.innerHTML);
  return html.replace(/<time[^>]*>[^<]*<\/time>/g, "").replace(/\d[\d.]* (ms|s|m|h|d)\b/g, "").replace(/<rect[^>]*>/g, "")
    .replace(/ (open|class)=""/g, "");
};
await first.bringToFront();
const fresh = await chromium.newPage();
await fresh.goto(address);
const expected = await content(fresh);
await first.bringToFront();
await until("the tab equals a fresh page", async () => (await content(first)) === expected);
for (const [tab, n] of fetches) if (n > 3 * moves.length) fail(`tab ${tabs.indexOf(tab)} made ${n} requests for ${moves.length} moves`);
console.log(`${TABS} tabs`);
await chromium.close();
