// Better Auth in the browser.

import { jwtClient } from "better-auth/client/plugins";
import { createAuthClient } from "better-auth/react";
import { useEffect } from "react";

export const authClient = createAuthClient({ plugins: [jwtClient()] });

/** Reloads the page if this user signs out in another tab, or somebody else signs in: the page is not theirs. */
export function useSameUser(user: string): void {
  const { data, isPending, error } = authClient.useSession();
  const isOther = !isPending && !error && data?.user.id !== user;
  useEffect(() => {
    if (isOther) location.reload();
  }, [isOther]);
}
