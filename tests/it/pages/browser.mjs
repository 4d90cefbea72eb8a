// A real browser for the tests of the pages. SKEP_TEST_PAGE_JUDGES is the folder with the packages, SKEP_TEST_CHROMIUM
// the program; scripts/test finds or installs both.

import { createRequire } from "node:module";
import { join } from "node:path";

const from = process.env.SKEP_TEST_PAGE_JUDGES || ".";
/** Loads a package of the judges. */
export const judge = createRequire(join(from, "package.json"));

export const fail = (why) => { console.error(why); process.exit(1); };

/** Starts Chromium. Its own sandbox needs rights that root and containers lack; it opens only pages of this test. */
export const browser = () => judge("puppeteer-core").launch({
  executablePath: process.env.SKEP_TEST_CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** Fails if something is wider than the window. What scrolls by itself may be. */
export const fitsWidth = async (page) => {
  const wide = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (node) => node && (getComputedStyle(node).overflowX !== "visible" || scrolls(node.parentElement));
    const all = [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > width + 1);
    const found = all.find((node) => node.getBoundingClientRect().width > 0 && !scrolls(node.parentElement));
    return found ? `${found.outerHTML.slice(0, 200)} ends at ${Math.round(found.getBoundingClientRect().right)} of ${width} px` : "";
  });
  if (wide) fail(`${page.url()}: ${wide}`);
};

/** Logs in by the printed link. */
export const loggedIn = async (page, link) => {
  await page.goto(link);
  await Promise.all([page.waitForNavigation(), page.click("main form button")]);
};
