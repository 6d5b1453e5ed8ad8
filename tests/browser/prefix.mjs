// A developer opens the documentation behind a proxy, and tries an operation out.

import { run, watchedPage } from "./chromium.mjs";

await run(async (context, { url }) => {
  const { page, requested, complaints } = await watchedPage(context);
  page.on("response", (response) => response.status() >= 400 && complaints.push(`${response.status()} ${response.url()}`));

  await page.goto(`${url}/docs`);
  await page.click("#operations-health-health .opblock-summary-control");
  await page.click("#operations-health-health .try-out__btn");
  await page.click("#operations-health-health .execute");
  const status = await page.textContent("#operations-health-health .live-responses-table tbody .response-col_status");

  await page.goto(`${url}/redoc`);
  await page.waitForSelector("h1:has-text('Taskwell')");
  const download = await page.getAttribute("a[download]", "href");
  return { requested, complaints, status: status.trim(), download };
});
