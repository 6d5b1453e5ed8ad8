// A reader opens each page of the documentation on one screen and in one theme, and searches.

import { findings } from "./accessibility.mjs";
import { run, watchedPage } from "./chromium.mjs";

await run(async (context, { url, paths, viewport, colorScheme, query, pictures }) => {
  const { page, requested, complaints } = await watchedPage(context);
  page.on("response", (response) => response.status() >= 400 && complaints.push(`${response.status()} ${response.url()}`));
  await page.setViewportSize(viewport);
  await page.emulateMedia({ colorScheme });

  const backgrounds = new Set();
  for (const path of paths) {
    await page.goto(`${url}/${path}`);
    await diagramsAreDrawn(page);
    backgrounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) complaints.push(`${path}: too wide`);
    for (const finding of await findings(page)) complaints.push(`${path}: ${finding}`);
    if (pictures) await page.screenshot({ path: `${pictures}/${path.replaceAll("/", "-")}.png` });
  }

  await page.goto(url);
  await page.keyboard.press("Control+K");
  await page.keyboard.type(query);
  await page.keyboard.press("Enter");
  const found = await page.locator("#search-results li a").first().waitFor().then(() =>
    page.locator("#search-results li > a").evaluateAll((links) => links.map((link) => link.getAttribute("href"))),
  );
  return { requested, complaints: complaints.filter(fromThePage), backgrounds: [...backgrounds], found };
});

/** Waits until no diagram is left as text. */
async function diagramsAreDrawn(page) {
  for (const diagram of await page.locator(".highlight-mermaid pre").all()) await diagram.locator("svg").waitFor();
}

/** The theme tells the console what it does. */
function fromThePage(complaint) {
  return !complaint.startsWith("[PST]");
}
