// Who is signed in on this device, to open their tasks without a network.

export type LastUser = { url: string; user: string; email: string };

const KEY = "last-user";

export function rememberUser(user: LastUser): void {
  localStorage.setItem(KEY, JSON.stringify(user));
}

export function lastUser(): LastUser | null {
  return JSON.parse(localStorage.getItem(KEY) ?? "null");
}

export function forgetUser(): void {
  localStorage.removeItem(KEY);
}
