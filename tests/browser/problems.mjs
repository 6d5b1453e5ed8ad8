// A developer follows the documentation to the pages about errors, on a phone and in dark mode.

import { findings } from "./accessibility.mjs";
import { run, watchedPage } from "./chromium.mjs";

/** What is wrong with the page in view, as a list. */
function flaws() {
  const found = [];
  if (document.documentElement.lang !== "en") found.push("no language");
  if (document.querySelectorAll("main h1").length !== 1) found.push("not one heading");
  if (document.scripts.length) found.push("a script");
  if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the screen");
  if (document.querySelector("table:not(:has(th[scope=col])), tbody tr:not(:has(th[scope=row]))")) found.push("a table without headings");
  return found;
}

await run(async (context, { url }) => {
  const { page, requested, complaints } = await watchedPage(context);
  const backgrounds = new Set();
  const check = async () => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const colors = await page.evaluate(() => (({ color, backgroundColor }) => ({ color, backgroundColor }))(getComputedStyle(document.body)));
      backgrounds.add(colors.backgroundColor);
      for (const finding of await findings(page)) complaints.push(`${page.url()} in ${colorScheme}: ${finding}`);
    }
    for (const width of [320, 360, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      for (const flaw of await page.evaluate(flaws)) complaints.push(`${page.url()} at ${width}: ${flaw}`);
    }
  };

  await page.goto(`${url}/docs`);
  await page.locator(".info__description a").waitFor();
  const address = await page.evaluate(() => document.querySelector(".info__description a").href);
  requested.length = 0;

  await page.goto(address);
  await check();
  const texts = {};
  for (const link of await page.locator("main a").all()) {
    const code = await link.textContent();
    await link.click();
    await check();
    texts[code] = { url: page.url(), text: await page.innerText("main") };
    await page.click("nav a[href$='/problems']");
  }
  return { address, requested, complaints, backgrounds: [...backgrounds], texts };
});
