// Measures pages with Lighthouse: as a phone and as a desktop computer. See scripts/check-pages.
//
//   node lighthouse.mjs LINK [PATH…]

import { pathToFileURL } from "node:url";
import { browser, judge, loggedIn } from "./browser.mjs";

const { default: lighthouse, desktopConfig } = await import(pathToFileURL(judge.resolve("lighthouse")).href);
const LEAST = { performance: 95, accessibility: 100, "best-practices": 95 };

const [link, ...paths] = process.argv.slice(2);
const chromium = await browser();
const first = await chromium.newPage();
await loggedIn(first, link);
await first.close();
for (const path of paths.length ? paths : ["/", "/runs"]) {
  for (const form of ["phone", "desktop"]) {
    const page = await chromium.newPage();
    const flags = { onlyCategories: Object.keys(LEAST), disableStorageReset: true, logLevel: "error" };
    const result = await lighthouse(new URL(path, link).href, flags, form === "desktop" ? desktopConfig : undefined, page);
    const { categories, audits, runtimeError } = result.lhr;
    if (runtimeError) { console.error(`${path} ${form}: not measured: ${runtimeError.message}`); process.exitCode = 1; await page.close(); continue; }
    const scores = Object.keys(LEAST).map((name) => [name, Math.round(categories[name].score * 100)]);
    console.log(`${path} ${form}: ${scores.map(([name, score]) => `${name} ${score}`).join(", ")}`);
    for (const [name] of scores.filter(([name, score]) => score < LEAST[name])) {
      process.exitCode = 1;
      const weak = categories[name].auditRefs.map(({ id }) => audits[id]).filter((a) => a.score !== null && a.score < 0.9);
      console.error(`  ${name}: ${weak.map((a) => `${a.id} ${a.displayValue ?? ""}`).join("; ")}`);
    }
    await page.close();
  }
}
await chromium.close();
