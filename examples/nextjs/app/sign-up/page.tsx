import Link from "next/link";

import { AccountForm } from "../../components/account-form";

export default function Page() {
  return (
    <main className="account">
      <h1>Sign up</h1>
      <AccountForm isNew />
      <p>
        You have an account? <Link href="/sign-in">Sign in</Link>
      </p>
    </main>
  );
}
