// Builds the package: ESM and CommonJS with declarations for both, one file per source file, so that the threads find
// their entries beside the code that starts them.
import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.ts", "src/testing.ts", "src/otel.ts", "src/nest.ts", "src/*-thread.ts"],
  format: ["esm", "cjs"],
  unbundle: true,
  // The types decide the extension: .js is ESM here, .cjs is CommonJS.
  fixedExtension: false,
  platform: "node",
  target: "node20",
  dts: true,
  sourcemap: true,
  tsconfig: "tsconfig.build.json",
  report: false,
  logLevel: "error",
  inputOptions: { checks: { pluginTimings: false } },
});
