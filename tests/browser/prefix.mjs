// A developer opens the documentation behind a proxy, and tries an operation out.

import { run } from "./chromium.mjs";

await run(async (context, { url }) => {
  const page = await context.newPage();
  const requested = [];
  const complaints = [];
  page.on("request", (request) => requested.push(request.url()));
  page.on("console", (message) => complaints.push(message.text()));
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
