/** Creates the tables of Better Auth, or adds what is missing. Next.js calls it when the server starts. */
export async function register(): Promise<void> {
  // Next.js leaves this out of code for other runtimes.
  if (process.env.NEXT_RUNTIME === "nodejs") {
    const { getMigrations } = await import("better-auth/db/migration");
    const { auth } = await import("./lib/auth");
    const { runMigrations } = await getMigrations(auth.options);
    await runMigrations();
  }
}
