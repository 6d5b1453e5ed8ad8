// Sends requests for the user who is signed in, as often as necessary.

import { abortable, linked, type Link } from "./abort.js";
import { errorOf, NetworkError, TaskwellError, UserChanged } from "./errors.js";
import { memory } from "./etags.js";
import { retried } from "./retry.js";
import type { Method, Path, Query, RequestBody, ResponseBody } from "./routes.js";
import type { Grant, Tokens } from "./token.js";
import type { CallOptions } from "./types.js";

const RESPONSE_MILLISECONDS = 30_000;

export type Fetch = typeof globalThis.fetch;

export type Call<P extends Path = Path, M extends Method<P> = Method<P>> = CallOptions & {
  id?: number;
  query?: Query<P, M> | undefined;
  body?: RequestBody<P, M>;
  headers?: Record<string, string>;
};

export type Options<P extends Path, M extends Method<P>> = Call<P, M> & {
  caller?: Caller;
  /** Whether the request may be carried out twice. */
  repeatable?: boolean;
};

export type Answer<Body> = { body: Body; headers: Headers };

/** Who makes a call. All its requests are for the same user. */
export type Caller = { user: string | undefined };

/** Options of a call that takes several requests. */
export type Bound = CallOptions & { caller: Caller };

/** A response whose body is still to be read, and the grant that it was requested with. */
export type Opened = { response: Response; grant: Grant };

export type Transport = {
  /** Sends a request, again if necessary, and returns its parsed response. */
  send<P extends Path, M extends Method<P>>(
    method: M,
    path: P,
    options?: Options<P, M>,
  ): Promise<Answer<ResponseBody<P, M>>>;
  /** Sends a request once. `link` ends it, also while its body is read. */
  open<P extends Path, M extends Method<P>>(
    method: M,
    path: P,
    call: Call<P, M>,
    link: Link,
    caller: Caller,
  ): Promise<Opened>;
  /** Sends a request once, and returns its response as soon as it begins. */
  start(path: Path, call: Call, caller: Caller): Promise<Response>;
  /** Binds a call to the user who is signed in, if known, or else to the one of its first request. */
  bound(options: CallOptions | undefined): Bound;
  /** Calls a function whenever a response arrives or fails to arrive, until the returned function is called. */
  onConnection(listener: (isConnected: boolean) => void): () => void;
  tokens: Tokens;
  /** Whether responses can be read while they arrive. */
  canStream: boolean;
};

export function transportOf(url: string, tokens: Tokens, customFetch: Fetch | undefined): Transport {
  const base = url.replace(/\/+$/, "");
  const responses = memory();
  const listeners = new Set<(isConnected: boolean) => void>();
  const isNative = "body" in Response.prototype;
  tokens.onForget(responses.clear);

  function urlOf({ user }: Grant, path: string, { id, query }: Call): string {
    const values = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
    const text = values.map(([name, value]) => `${name}=${encoded(value)}`).join("&");
    return `${base}/api/${encoded(user)}${path.replace("{task_id}", encoded(id))}${text && `?${text}`}`;
  }

  async function exchange(grant: Grant, method: string, path: string, call: Call, link: Link): Promise<Response> {
    const { headers = {}, body } = call;
    const target = urlOf(grant, path, call);
    const known = method === "get" ? responses.recall(target) : undefined;
    const request = (customFetch ?? fetch)(target, {
      method: method.toUpperCase(),
      headers: {
        ...(known ? { "If-None-Match": known.etag } : {}),
        ...(body ? { "Content-Type": "application/json" } : {}),
        ...headers,
        Authorization: `Bearer ${grant.token}`,
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      // Nothing of a user stays in the browser's cache. The memory does its work, and outlives the token. The fetch of
      // React Native would add a parameter to the URL, which the service refuses.
      ...(isNative ? { cache: "no-store" as const } : {}),
      signal: link.signal,
    });
    const response = await connected(request, link);
    if (response.status === 304 && known) return new Response(known.text, { headers: known.headers });
    return response;
  }

  /** Tells of a response, or that there is none. A call that its caller has ended says nothing. */
  function connected(response: Promise<Response>, { signal }: Link): Promise<Response> {
    const tell = (isConnected: boolean) => listeners.forEach((listener) => listener(isConnected));
    const failed = () => (!signal.aborted || signal.reason instanceof NetworkError) && tell(false);
    response.then(() => tell(true), failed);
    return response;
  }

  async function grantOf(caller: Caller, link: Link): Promise<Grant> {
    const grant = await abortable(tokens.current(), link.signal);
    caller.user ??= grant.user;
    if (grant.user !== caller.user) throw new UserChanged();
    return grant;
  }

  async function open(method: string, path: string, call: Call, link: Link, caller: Caller): Promise<Opened> {
    let grant = await grantOf(caller, link);
    let response = await exchange(grant, method, path, call, link);
    if (response.status === 401) {
      // The computer slept, or a key was deleted. Nothing was carried out.
      response.body?.cancel().catch(() => {});
      tokens.drop(grant);
      grant = await grantOf(caller, link);
      response = await exchange(grant, method, path, call, link);
    }
    await abortable(tokens.confirm(grant), link.signal);
    if (!response.ok) throw await errorOf(response);
    return { response, grant };
  }

  /** Sends a request once, and reads the response. */
  async function attempt(method: string, path: string, call: Call, caller: Caller): Promise<Answer<unknown>> {
    const link = linked(call.signal);
    link.abortAfter(RESPONSE_MILLISECONDS, tooLate);
    try {
      const { response, grant } = await open(method, path, call, link, caller);
      const { headers } = response;
      const text = await abortable(response.text(), link.signal);
      await abortable(tokens.confirm(grant), link.signal);
      const etag = headers.get("ETag");
      if (method === "get" && etag) responses.remember(urlOf(grant, path, call), { etag, text, headers });
      return { body: text ? JSON.parse(text) : undefined, headers };
    } catch (error) {
      link.abort(error);
      throw asTaskwellError(error, call.signal);
    } finally {
      link.end();
    }
  }

  async function start(path: string, call: Call, caller: Caller): Promise<Response> {
    const link = linked(call.signal);
    link.abortAfter(RESPONSE_MILLISECONDS, tooLate);
    try {
      return (await open("get", path, call, link, caller)).response;
    } catch (error) {
      link.abort(error);
      link.end();
      throw asTaskwellError(error, call.signal);
    } finally {
      link.stopClock();
    }
  }

  function send(method: string, path: string, options: Options<Path, Method<Path>> = {}): Promise<Answer<unknown>> {
    const { caller } = { ...bound(options), ...options };
    return retried(() => attempt(method, path, options, caller), options);
  }

  function bound({ signal, user = tokens.user() }: CallOptions = {}): Bound {
    return { signal, caller: { user } };
  }

  return {
    send: send as Transport["send"],
    open: open as Transport["open"],
    start,
    bound,
    onConnection(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    tokens,
    canStream: customFetch !== undefined || isNative,
  };
}

/** Returns the reason of the caller's signal if it has ended the call, or else an error of this package. */
export function asTaskwellError(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted || error instanceof TaskwellError) return error;
  return new NetworkError("there was no whole response", { cause: error });
}

function tooLate(): NetworkError {
  return new NetworkError("the response took too long");
}

function encoded(value: unknown): string {
  return encodeURIComponent(String(value));
}
