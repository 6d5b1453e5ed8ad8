"use client";

import Link from "next/link";
import { useState, type FormEvent } from "react";

import { authClient } from "../lib/auth-client";

/** Signs in, or up if the user is new, and opens the tasks. */
export function AccountForm({ isNew }: { isNew: boolean }) {
  const [message, setMessage] = useState("");
  const [isBusy, setBusy] = useState(false);
  const action = isNew ? "Sign up" : "Sign in";

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const { email = "", password = "" } = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>;
    setBusy(true);
    setMessage("");
    const { error } = isNew
      ? await authClient.signUp.email({ email, password, name: email })
      : await authClient.signIn.email({ email, password });
    // A new page, so that nothing of a previous user stays in memory.
    if (!error) return location.assign("/");
    setBusy(false);
    setMessage(error.message ?? "That did not work. Please try again.");
  }

  // With "post", a form that is sent before this script runs does not put the password into the address.
  return (
    <main className="account">
      <h1>{action}</h1>
      <form method="post" onSubmit={submit} className="card">
        <label>
          E-mail
          <input name="email" type="email" autoComplete="username" required autoFocus />
        </label>
        <label>
          Password
          <input
            name="password"
            type="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            minLength={8}
            required
          />
        </label>
        <p role="alert">{message}</p>
        <button className="primary" disabled={isBusy}>
          {action}
        </button>
      </form>
      {isNew ? <Link href="/sign-in">I have an account</Link> : <Link href="/sign-up">Create an account</Link>}
    </main>
  );
}
