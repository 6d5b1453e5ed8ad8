import { OfflineApp } from "../../components/offline-app";

/** The page that the service worker shows if the server cannot be reached. */
export default function Page() {
  return <OfflineApp />;
}
