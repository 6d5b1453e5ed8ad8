import { headers } from "next/headers";
import { redirect } from "next/navigation";

import { TaskApp } from "../components/task-app";
import { auth } from "../lib/auth";
import { tasksOnServer, taskwellUrl } from "../lib/tasks-on-server";

/** The tasks. The server renders them first, so that they are there before any script runs. */
export default async function Page() {
  const request = await headers();
  const session = await auth.api.getSession({ headers: request });
  if (!session) redirect("/sign-in");
  const first = await tasksOnServer(request);
  return <TaskApp url={taskwellUrl()} user={session.user.id} email={session.user.email} first={first} />;
}
