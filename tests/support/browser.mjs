// Runs the client of examples/better-auth in Node, with a browser's cookie and a clock that tests move forward.

import { taskApi } from "../../examples/better-auth/client.mjs";

const [auth, api, cookie] = process.argv.slice(2);
const network = globalThis.fetch;
const clock = Date.now;
let tokens = 0;

globalThis.fetch = (url, { credentials, ...options } = {}) => {
  if (credentials !== "include") return network(url, options);
  tokens += 1;
  return network(url, { ...options, headers: { ...options.headers, Cookie: cookie } });
};

const tasks = taskApi(api, auth);
const responses = await Promise.all([
  tasks("", { method: "POST", body: JSON.stringify({ title: "Buy milk" }) }),
  tasks("?complete=false"),
]);
Date.now = () => clock() + 13 * 60_000;
responses.push(await tasks("?limit=1"));
const tokensInTime = tokens;
Date.now = () => clock() + 14.5 * 60_000;
responses.push(await tasks("?limit=2"));

const statuses = responses.map((response) => response.status);
console.log(JSON.stringify({ statuses, tokensInTime, tokens }));
