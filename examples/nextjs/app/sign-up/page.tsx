import { AccountForm } from "../../components/account-form";

export default function Page() {
  return <AccountForm isNew={true} />;
}
