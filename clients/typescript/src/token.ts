// The token of the user who is signed in.

import { SignedOut, TokenUnavailable, UserChanged } from "./errors.js";

const RENEW_BEFORE_SECONDS = 60;

/** Returns a token, or nothing if nobody is signed in. */
export type GetToken = () => Promise<string | null | undefined>;

/** The part of Better Auth's client, with the plugin `jwtClient()`, that this package uses. */
export type BetterAuthClient = {
  token(): Promise<{
    data: { token: string } | null;
    error: { status: number; message?: string | undefined } | null;
  }>;
  $store?: { listen(signal: "$sessionSignal", listener: () => void): void };
};

export type Auth = GetToken | BetterAuthClient;

/** A token, and the user whose path it opens. */
export type Grant = { token: string; user: string; renewAt: number };

export type Tokens = {
  /** Returns the user of this client, if it is known. */
  user(): string | undefined;
  /** Returns the grant of the user of this client. It fetches one if necessary, once for all who wait. */
  current(): Promise<Grant>;
  /** Throws `UserChanged` or `SignedOut` if the user of this grant is not signed in any more. */
  confirm(grant: Grant): Promise<void>;
  /** Forgets a grant that the service refuses. */
  drop(grant: Grant): void;
  /** Forgets the user. */
  forget(): void;
  /** Calls a function whenever the user is forgotten, until the returned function is called. */
  onForget(listener: () => void): () => void;
};

export function tokensOf(auth: Auth): Tokens {
  const fetchToken = tokenFunction(auth);
  const listeners = new Set<() => void>();
  let grant: Grant | undefined;
  let renewal: Promise<void> | undefined;
  let user: string | undefined;

  function renew(): Promise<void> {
    // If the user is forgotten meanwhile, the token may be of the previous one. So its renewal counts only while it is
    // the current one.
    const attempt: Promise<void> = grantOf(fetchToken).then(
      (fetched) => {
        if (renewal !== attempt) return;
        renewal = undefined;
        grant = fetched;
      },
      (error: unknown) => {
        if (renewal !== attempt) return;
        renewal = grant = undefined;
        throw error;
      },
    );
    return (renewal = attempt);
  }

  async function current(): Promise<Grant> {
    while (!grant || Date.now() >= grant.renewAt) await (renewal ?? renew());
    user ??= grant.user;
    if (grant.user !== user) throw new UserChanged();
    return grant;
  }

  function forget() {
    grant = renewal = user = undefined;
    for (const listener of listeners) listener();
  }

  // Better Auth's client tells of each sign-in and sign-out, a moment after it.
  if (isBetterAuth(auth)) auth.$store?.listen("$sessionSignal", forget);

  return {
    user: () => user,
    current,
    async confirm(used) {
      if (grant !== used && (await current()).user !== used.user) throw new UserChanged();
    },
    drop(refused) {
      if (grant === refused) grant = undefined;
    },
    forget,
    onForget(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function isBetterAuth(auth: Auth): auth is BetterAuthClient {
  // Better Auth's client is a function, too.
  return typeof (auth as BetterAuthClient).token === "function";
}

function tokenFunction(auth: Auth): GetToken {
  if (!isBetterAuth(auth)) return auth;
  return async () => {
    const { data, error } = await auth.token();
    if (error && error.status !== 401) throw new TokenUnavailable(`Better Auth returned no token: ${error.status}`);
    return data?.token;
  };
}

async function grantOf(fetchToken: GetToken): Promise<Grant> {
  let token: string | null | undefined;
  let claims: Claims | undefined;
  try {
    token = await fetchToken();
    claims = token ? claimsOf(token) : undefined;
  } catch (cause) {
    throw new TokenUnavailable("there is no usable token", { cause });
  }
  if (!token || !claims) throw new SignedOut();
  const { user_id, sub, iat = Date.now() / 1000, exp } = claims;
  // Computed from the token's lifetime, not its end, because the clocks of devices are often minutes off.
  const seconds = Math.max(exp - iat - RENEW_BEFORE_SECONDS, (exp - iat) / 2, 1);
  return { token, user: user_id ?? sub, renewAt: Date.now() + seconds * 1000 };
}

type Claims = { user_id?: string; sub: string; iat?: number; exp: number };

function claimsOf(token: string): Claims {
  const payload = token.split(".")[1] ?? "";
  const bytes = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
  // React Native's TextDecoder does not exist everywhere. This decodes UTF-8, too.
  return JSON.parse(decodeURIComponent(bytes.replace(/[^]/g, percentEncoded)));
}

function percentEncoded(byte: string): string {
  return `%${byte.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
