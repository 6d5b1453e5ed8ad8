// Checks a page with axe (https://github.com/dequelabs/axe-core).

import axe from "axe-core";

/**
 * Returns the serious and critical findings on the page in view: each with its rule, elements, and the reason.
 * @param {import("playwright-core").Page} page
 */
export async function findings(page) {
  // The browser evaluates this although the Content-Security-Policy forbids scripts.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"], preload: false }));
  return violations
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}
