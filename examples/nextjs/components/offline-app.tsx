"use client";

import { useEffect, useState } from "react";

import { lastUser, type LastUser } from "../lib/last-user";
import { TaskApp } from "./task-app";

/** The tasks of the user who was signed in when the network went away. */
export function OfflineApp() {
  const [user, setUser] = useState<LastUser | null>();
  useEffect(() => setUser(lastUser()), []);
  if (user) return <TaskApp {...user} first={null} />;
  return (
    <main className="account">
      <h1>You are offline</h1>
      <p>{user === null && "Nobody is signed in on this device."}</p>
    </main>
  );
}
