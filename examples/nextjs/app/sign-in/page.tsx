import Link from "next/link";

import { AccountForm } from "../../components/account-form";

export default function Page() {
  return (
    <main className="account">
      <h1>Sign in</h1>
      <AccountForm isNew={false} />
      <p>
        No account yet? <Link href="/sign-up">Sign up</Link>
      </p>
    </main>
  );
}
