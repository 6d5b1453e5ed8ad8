// Opens the app without a network: the page /offline, and the files that it needs. TaskApp registers this worker.

const PAGE = "/offline";

/** Stores the page and its files of the present version, and drops those of older ones. */
async function store() {
  const page = await fetch(PAGE, { cache: "reload" });
  const files = new Set((await page.clone().text()).match(/\/_next\/static\/[\w./~-]+/g));
  const cache = await caches.open("app");
  await cache.addAll(files);
  await cache.put(PAGE, page);
  for (const request of await cache.keys()) {
    const { pathname } = new URL(request.url);
    if (pathname !== PAGE && !files.has(pathname)) await cache.delete(request);
  }
}

addEventListener("install", (event) => event.waitUntil(store()));

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.mode === "navigate") {
    event.respondWith(fetch(request).catch(() => caches.match(PAGE)));
    event.waitUntil(store().catch(() => {}));
  } else if (new URL(request.url).pathname.startsWith("/_next/static/")) {
    event.respondWith(caches.match(request).then((stored) => stored ?? fetch(request)));
  }
});
