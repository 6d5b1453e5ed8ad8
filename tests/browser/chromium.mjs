// Runs one scenario in Chromium. Its arguments come as JSON, and its result is printed as JSON.

import { chromium } from "playwright-core";

const SWITCHES = [
  ...["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
  ...["--disable-sync", "--disable-quic"],
  // A page that a scenario makes up may call this machine, too.
  "--disable-features=LocalNetworkAccessChecks",
  // Pages, Better Auth and the API get hosts of one site, as in production. No other host exists.
  "--host-resolver-rules=MAP *.taskwell.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/**
 * Calls `scenario` with a new browser context and the arguments.
 * @param {(context: import("playwright-core").BrowserContext, args: any) => Promise<unknown>} scenario
 */
export async function run(scenario) {
  const { executablePath, ...args } = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({ executablePath, args: SWITCHES, chromiumSandbox: false });
  try {
    console.log(JSON.stringify(await scenario(await browser.newContext(), args)));
  } finally {
    await browser.close();
  }
}

/**
 * Opens a page. `requested` gets the URL of each of its requests, and `complaints` what its console says.
 * @param {import("playwright-core").BrowserContext} context
 */
export async function watchedPage(context) {
  const page = await context.newPage();
  const requested = [];
  const complaints = [];
  page.on("request", (request) => requested.push(request.url()));
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, requested, complaints };
}
