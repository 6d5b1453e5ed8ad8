import { OfflineApp } from "../../components/offline-app";

/** What the service worker shows if the server cannot be reached. */
export default function Page() {
  return <OfflineApp />;
}
