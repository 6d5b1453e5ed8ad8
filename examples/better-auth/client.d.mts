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
export function taskApi(api: string, auth?: string): ((path?: string, options?: RequestInit) => Promise<Response>) & {
    authFetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
};
/** Nobody is signed in to Better Auth. Show the sign-in page. */
export class SignedOut extends Error {
    name: "SignedOut";
}
/** Another user has signed in than the one for whom this page fetched tasks. Reload the page. */
export class UserChanged extends Error {
    name: "UserChanged";
}
/** Better Auth returned no token, although it did not say that nobody is signed in. Retry later. */
export class AuthServerError extends Error {
    /** @param {number} status The status of its response, such as 429. */
    constructor(status: number);
    name: "AuthServerError";
    status: number;
}
