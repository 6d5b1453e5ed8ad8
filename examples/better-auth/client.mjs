// Calls the task API from a browser, for the user who is signed in to Better Auth.

const RENEW_BEFORE_SECONDS = 60;

/** Nobody is signed in to Better Auth. Show the sign-in page. */
export class SignedOut extends Error {
  name = /** @type {const} */ ("SignedOut");
}

/** Another user has signed in than the one for whom this page fetched tasks. Reload the page. */
export class UserChanged extends Error {
  name = /** @type {const} */ ("UserChanged");
}

/** Better Auth returned no token, although it did not say that nobody is signed in. Retry later. */
export class AuthServerError extends Error {
  name = /** @type {const} */ ("AuthServerError");

  /** @param {number} status The status of its response, such as 429. */
  constructor(status) {
    super(`Better Auth returned no token: ${status}`);
    this.status = status;
  }
}

/**
 * Returns a `fetch` for the tasks of the signed-in user. Its paths begin after `/api/{user_id}/tasks`.
 *
 * It throws `SignedOut`, `UserChanged` or `AuthServerError`, besides what `fetch` throws. When users sign out and in on
 * this page, or the user comes back from another tab, it drops its token and fetches another. Give its `authFetch` to
 * Better Auth's client to have this done before `signOut()` returns; otherwise it may take a moment.
 *
 * @param {string} api The origin of the task API.
 * @param {string} [auth] The base URL of Better Auth.
 */
export function taskApi(api, auth = "/api/auth") {
  /** @typedef {{ token: string, user: string, renewAt: number }} Grant */
  /** @type {Grant | undefined} */
  let grant;
  /** @type {Promise<void> | undefined} */
  let renewal;
  /** @type {string | undefined} */
  let shownUser;

  function dropToken() {
    grant = renewal = undefined;
  }

  function forgetUser() {
    dropToken();
    shownUser = undefined;
  }

  /**
   * A `fetch` for requests to Better Auth, which may change who is signed in.
   *
   * @type {typeof fetch}
   */
  async function authFetch(input, options) {
    try {
      return await fetch(input, options);
    } finally {
      if (mayChangeSession(input instanceof Request ? input.url : `${input}`)) forgetUser();
    }
  }

  const authRequests = watchRequests(auth, forgetUser);
  globalThis.addEventListener?.("focus", dropToken);
  globalThis.document?.addEventListener("visibilitychange", dropToken);

  /** @returns {Promise<Grant>} */
  async function fetchGrant() {
    const response = await fetch(`${auth}/token`, { credentials: "include", cache: "no-store" });
    if (response.status === 401) throw new SignedOut("Nobody is signed in to Better Auth.");
    if (!response.ok) throw new AuthServerError(response.status);
    const { token } = await response.json();
    const { sub, iat, exp } = claimsOf(token);
    // Computed from the token's lifetime, not its end, because browsers' clocks are often minutes off.
    const seconds = Math.max(exp - iat - RENEW_BEFORE_SECONDS, (exp - iat) / 2);
    return { token, user: sub, renewAt: Date.now() + seconds * 1000 };
  }

  function renew() {
    // A renewal that began before the token was dropped may be for the previous user, so its outcome is ignored.
    const attempt = fetchGrant().then(
      (fetched) => {
        if (renewal !== attempt) return;
        dropToken();
        grant = fetched;
      },
      (error) => {
        if (renewal !== attempt) return;
        dropToken();
        throw error;
      },
    );
    return (renewal = attempt);
  }

  /** @returns {Promise<Grant>} */
  async function currentGrant() {
    authRequests.notice();
    while (!grant || Date.now() >= grant.renewAt) await (renewal ?? renew());
    shownUser ??= grant.user;
    if (grant.user !== shownUser) throw new UserChanged("Another user has signed in.");
    return grant;
  }

  /**
   * @param {Grant} grant
   * @param {string} path
   * @param {RequestInit} options
   */
  function send({ token, user }, path, options) {
    const headers = new Headers(options.headers);
    headers.set("Authorization", `Bearer ${token}`);
    if (options.body && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    return fetch(`${api}/api/${encodeURIComponent(user)}/tasks${path}`, { ...options, headers });
  }

  /**
   * @param {string} [path]
   * @param {RequestInit} [options]
   */
  async function tasks(path = "", options = {}) {
    const used = await currentGrant();
    let response = await send(used, path, options);
    if (response.status === 401 && !(options.body instanceof ReadableStream)) {
      // The computer slept, or a key was deleted. The API has done nothing yet, so one retry is safe.
      if (grant === used) dropToken();
      const fresh = await currentGrant();
      if (fresh.user === used.user) response = await send(fresh, path, options);
    }
    authRequests.notice();
    if (grant !== used && (await currentGrant()).user !== used.user) throw new UserChanged("Another user has signed in.");
    return response;
  }

  return Object.assign(tasks, { authFetch });
}

/**
 * Calls `changed` after each request of this page to Better Auth that may change the session.
 *
 * The browser's record of requests (https://www.w3.org/TR/resource-timing/) contains those of any code. It is the safety
 * net for code that does not use `authFetch`.
 *
 * @param {string} auth
 * @param {() => void} changed
 */
function watchRequests(auth, changed) {
  if (!globalThis.document) return { notice() {} };
  const base = new URL(`${auth}/`, location.href).href;
  /** @param {PerformanceEntryList} entries */
  const check = (entries) => {
    if (entries.some(({ name }) => name.startsWith(base) && mayChangeSession(name))) changed();
  };
  const observer = new PerformanceObserver((list) => check(list.getEntries()));
  observer.observe({ type: "resource" });
  return { notice: () => check(observer.takeRecords()) };
}

/** @param {string} url */
function mayChangeSession(url) {
  return !/\/(get-session|token|jwks)(\?.*)?$/.test(url);
}

/**
 * @param {string} token
 * @returns {{ sub: string, iat: number, exp: number }}
 */
function claimsOf(token) {
  const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
}
