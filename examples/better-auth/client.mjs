// Calls the task API from a browser, as the user who is signed in to Better Auth.

const RENEW_BEFORE_SECONDS = 60;

/** The signed-in user's tasks; make a new one when somebody else has signed in. */
export function taskApi(api, auth = "/api/auth") {
  let session = { renewAt: 0 };
  let renewal;

  async function renew() {
    const answer = await fetch(`${auth}/token`, { credentials: "include" });
    if (!answer.ok) throw new Error(`Better Auth gives no token: ${answer.status}`);
    const { token } = await answer.json();
    const { sub, iat, exp } = claimsOf(token);
    // From the token's length, not its end: clocks of browsers are often minutes wrong.
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
    const answer = await send(used, path, options);
    if (answer.status !== 401) return answer;
    // A laptop that slept, or keys that were withdrawn. Nothing was done yet, so it is safe to ask again, once.
    return send(session === used ? await renewed() : session, path, options);
  };
}

function claimsOf(token) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}
