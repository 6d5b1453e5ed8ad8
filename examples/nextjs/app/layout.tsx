import type { Metadata, Viewport } from "next";
import type { ReactNode } from "react";

import "./style.css";

export const metadata: Metadata = { title: "Tasks", description: "Your tasks, on all your devices, also offline." };

export const viewport: Viewport = {
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f7f6f3" },
    { media: "(prefers-color-scheme: dark)", color: "#15171c" },
  ],
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
