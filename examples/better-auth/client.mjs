// Calls the task API from a browser, for the user who is signed in to Better Auth.

const RENEW_BEFORE_SECONDS = 60;

/** Returns a `fetch` for the signed-in user's tasks. Create a new one when another user signs in. */
export function taskApi(api, auth = "/api/auth") {
  let session = { renewAt: 0 };
  let renewal;

  async function renew() {
    const response = await fetch(`${auth}/token`, { credentials: "include" });
    if (!response.ok) throw new Error(`Better Auth refused a token: ${response.status}`);
    const { token } = await response.json();
    const { sub, iat, exp } = claimsOf(token);
    // Computed from the token's lifetime, not its end, because browsers' clocks are often minutes off.
    return { token, user: sub, renewAt: Date.now() + (exp - iat - RENEW_BEFORE_SECONDS) * 1000 };
  }

  async function renewed() {
    renewal ??= renew().finally(() => (renewal = undefined));
    return (session = await renewal);
  }

  function send({ token, user }, path, options) {
    const headers = { "Content-Type": "application/json", ...options.headers, Authorization: `Bearer ${token}` };
    return fetch(`${api}/api/${encodeURIComponent(user)}/tasks${path}`, { ...options, headers });
  }

  return async function tasks(path = "", options = {}) {
    const used = Date.now() < session.renewAt ? session : await renewed();
    const response = await send(used, path, options);
    if (response.status !== 401) return response;
    // The computer slept, or a key was deleted. The API has done nothing yet, so one retry is safe.
    return send(session === used ? await renewed() : session, path, options);
  };
}

function claimsOf(token) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}
