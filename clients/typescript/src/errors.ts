/**
 * The errors of this package:
 *
 * TaskwellError
 * ├── ApiError                  the service refused the request; `code` says why
 * │   └── PreconditionFailed    the task has changed; `current` is the task as it is now
 * ├── NetworkError              there was no response, or not a whole one
 * ├── TokenUnavailable          the auth server returned no usable token
 * ├── SignedOut                 nobody is signed in
 * ├── UserChanged               another user has signed in since the call began
 * └── StreamsUnsupported        this `fetch` cannot read a response while it arrives
 *
 * A call that its `signal` has ended throws the reason of the signal, as `fetch` does.
 */

import type { ErrorCode, Task, VersionedTask, Violation } from "./types.js";

export class TaskwellError extends Error {
  constructor(message: string, options?: { cause: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The body of an error. All members are absent if the response comes from something else, such as a proxy. */
export type Problem = {
  detail?: string;
  error_code?: ErrorCode;
  errors?: Violation[];
  request_id?: string;
  current?: Task & { etag?: string };
};

export class ApiError extends TaskwellError {
  readonly status: number;
  /** Undefined if the response is not from the service, but from a proxy for example. */
  readonly code: ErrorCode | undefined;
  /** The broken rules, if the input is not valid, or the operation of a batch that failed. */
  readonly violations: Violation[];
  /** The service's log has this id. */
  readonly requestId: string | undefined;
  /** How long to wait before the next attempt, if the service said so. */
  readonly retryAfterMilliseconds: number | undefined;
  /** Whether an earlier attempt of this call may have been carried out. */
  repeated = false;

  constructor(status: number, problem: Problem, headers: Headers) {
    super(problem.detail ?? `the response has the status ${status}`);
    this.status = status;
    this.code = problem.error_code;
    this.violations = problem.errors ?? [];
    this.requestId = problem.request_id ?? headers.get("X-Request-ID") ?? undefined;
    this.retryAfterMilliseconds = retryAfter(headers.get("Retry-After"));
  }
}

export class PreconditionFailed extends ApiError {
  readonly current: VersionedTask;

  constructor(problem: Problem, current: VersionedTask, headers: Headers) {
    super(412, problem, headers);
    this.current = current;
  }
}

export class NetworkError extends TaskwellError {}

export class TokenUnavailable extends TaskwellError {}

export class SignedOut extends TaskwellError {
  constructor() {
    super("nobody is signed in");
  }
}

export class UserChanged extends TaskwellError {
  constructor() {
    super("another user has signed in");
  }
}

export class StreamsUnsupported extends TaskwellError {
  constructor() {
    super("this fetch cannot read a response while it arrives; in React Native, use the fetch of expo/fetch");
  }
}

/** Returns the error that a response stands for. */
export async function errorOf(response: Response): Promise<ApiError> {
  const { status, headers } = response;
  const problem = parse(await response.text());
  const { current } = problem;
  if (status !== 412 || !current) return new ApiError(status, problem, headers);
  // In a batch, `current` has its ETag. For a single task, it is in the header.
  const etag = current.etag ?? headers.get("ETag") ?? "";
  return new PreconditionFailed(problem, { ...current, etag }, headers);
}

function parse(text: string): Problem {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

/** Reads `Retry-After`, which is a number of seconds or a date (RFC 9110, section 10.2.3). */
function retryAfter(value: string | null): number | undefined {
  if (!value) return undefined;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.max(0, milliseconds);
}
