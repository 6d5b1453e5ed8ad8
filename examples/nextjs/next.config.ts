import type { NextConfig } from "next";

const config: NextConfig = {
  poweredByHeader: false,
  // A native module cannot be bundled.
  serverExternalPackages: ["libsql"],
};

export default config;
