// Logs in at an identity provider in a real browser, without JavaScript: from the page that asks for a login, to the
// provider, and back to the page that was wanted.
//
//   node login.mjs ADDRESS_OF_THE_PAGES
//
// Exits with 1 and says why, if the browser does not end up there as the person of the provider.

import { browser, fail } from "../pages/browser.mjs";

const [pages] = process.argv.slice(2);
const chromium = await browser();
const page = await chromium.newPage();
await page.setJavaScriptEnabled(false);
const at = (path) => page.url() === `${pages}${path}`;
const follow = (selector) => Promise.all([page.waitForNavigation({ waitUntil: "load" }), page.click(selector)]);

await page.goto(`${pages}/projects`);
if (!at("/login?next=/projects")) fail(`not asked to log in, but at ${page.url()}`);
await follow('main a[href^="/login/oidc"]');
const patience = () => new Promise((done) => setTimeout(done, 100));
// The development pages of oidc-provider ask for a name, and then for consent; the other provider asks nothing.
for (let n = 0; n < 100 && !page.url().startsWith(pages); n += 1) {
  const button = await page.$("button[type=submit]").catch(() => null);
  if (!button) { await patience(); continue; }
  if (await page.$("input[name=login]")) {
    await page.type("input[name=login]", "account-17");
    await page.type("input[name=password]", "x");
  }
  await follow("button[type=submit]");
}
if (!page.url().startsWith(pages)) fail(`not sent back, but at ${page.url()}: ${await page.content()}`);
// The page that leads on is loaded first, and the one that was wanted a moment later.
for (let n = 0; n < 100 && !at("/projects"); n += 1) await patience();
if (!at("/projects")) fail(`not led on: ${page.url()} ${await page.$eval("main", (main) => main.textContent)}`);
const footer = await page.$eval("footer", (footer) => footer.textContent);
if (!footer.includes("user:ann.lee")) fail(`logged in as somebody else: ${footer}`);
await chromium.close();
