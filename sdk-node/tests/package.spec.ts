// The package as a whole: its surface, its layers, its files.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import * as jobwire from "jobwire";
import { publint } from "publint";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

describe("package", () => {
  it("exports exactly this", () => {
    assert.deepEqual(Object.keys(jobwire).sort(), [
      "Aborted", "After", "AlreadyExists", "CallCancelled", "Cancellation", "Client", "DeadlineExceeded", "Directive", "Discard",
      "FailedPrecondition", "Flow", "Internal", "InvalidArgument", "Job", "JobCancelled", "JobError", "JobExpired", "JobFailed", "Jobs",
      "JobwireError", "Node", "NodeGroup", "NonRetryable", "NotFound", "OutOfRange", "Payload", "PermissionDenied", "Queues", "Release", "ResourceExhausted",
      "RetryAfter", "Schedules", "Snooze", "Unauthenticated", "Unavailable", "Unimplemented", "VERSION", "Worker", "Workers", "Workflow", "WorkflowFailed", "Workflows", "chain", "chord", "currentContext",
      "database", "defineTask", "group", "gzip", "http", "httpStrict", "jobLogStream", "noRetryOn",
    ]);
  });

  it("exports exactly this for tests, telemetry and Nest", async () => {
    const names = async (entry: string) => Object.keys((await import(entry)) as object).sort();
    assert.deepEqual(await names("jobwire/testing"), ["FakeJobs", "TestServer", "fake", "inline", "jobwireFixtures", "testServer"]);
    assert.deepEqual(await names("jobwire/otel"), ["openTelemetry"]);
    assert.deepEqual(await names("jobwire/nest"), ["Handle", "InjectJobwire", "JobwireModule"]);
  });

  it("has one version", () => {
    assert.equal(jobwire.VERSION, JSON.parse(read("package.json")).version);
  });

  it("keeps the gRPC library in one file, and the session free of clock, I/O and threads", () => {
    const sources = readdirSync(join(ROOT, "src")).filter((file) => file.endsWith(".ts") && !file.endsWith(".spec.ts"));
    const knows = (pattern: RegExp) => sources.filter((file) => pattern.test(read(`src/${file}`)));
    assert.deepEqual(knows(/@grpc\//), ["transport.ts"]);
    for (const file of ["session.ts", "drain.ts", "gathering.ts", "hello.ts", "inventory.ts", "lease.ts", "leases.ts", "outbox.ts", "prefetch.ts", "reports.ts", "stream-state.ts", "time-limits.ts", "wire.ts"]) {
      assert.doesNotMatch(read(`src/${file}`), /from "node:|performance\.now|Date\.now|setTimeout|setImmediate|Math\.random|process\./, file);
    }
  });

  it("shows no protobuf type and no lease token in its public declarations", () => {
    for (const file of ["index", "client", "job", "worker", "context", "errors", "types", "tasks", "payload", "classifiers", "directives", "duration", "schedules", "canvas", "flow", "nodes", "workflow", "workflows", "workflow-types", "jobs", "queues", "workers", "admin-types", "schedule-types", "signature", "bulk", "batch", "worker-options"]) {
      const declarations = read(`dist/${file}.d.ts`);
      assert.equal(read(`dist/${file}.d.cts`).replaceAll(".cjs", ".js").replaceAll(".d.cts", ".d.ts"), declarations, file);
      assert.doesNotMatch(declarations, /lease_?token/i, file);
      // What private parts need of it is not exported by the package.
      const shown = declarations.replace(/^import .*$/gm, "").replace(/declare function settle.*/, "");
      assert.doesNotMatch(shown, /gen\/jobwire|\bDesc(Message|Method)|MessageShape/, file);
    }
  });

  it("is packed as publint and attw want it, with its threads and without its tests", async (test) => {
    const out = mkdtempSync(join(tmpdir(), "jobwire-pack-"));
    test.after(() => rmSync(out, { recursive: true }));
    const options = ["pack", "--ignore-scripts", "--json", "--pack-destination", out];
    const [packed] = JSON.parse(execFileSync("npm", options, { cwd: ROOT, encoding: "utf8" })) as [{ filename: string; files: { path: string }[] }];
    const tarball = join(out, packed.filename);
    const { messages } = await publint({ pack: { tarball: Uint8Array.from(readFileSync(tarball)).buffer }, strict: true });
    assert.deepEqual(messages, []);
    // Subpaths need an exports map, which node10 does not read.
    execFileSync(join(ROOT, "node_modules/.bin/attw"), [tarball, "--profile", "node16"], { stdio: "pipe" });
    const files = packed.files.map(({ path }) => path);
    const threads = readdirSync(join(ROOT, "src")).filter((file) => file.endsWith("-thread.ts")).map((file) => file.slice(0, -3));
    assert.ok(threads.includes("session-thread"));
    for (const thread of threads) assert.ok(files.includes(`dist/${thread}.js`), thread);
    assert.deepEqual(files.filter((file) => !/^(dist\/|package\.json$|README\.md$|LICENSE$)/.test(file) || file.includes(".spec.")), []);
  });

  it("asks for nothing at installation, and installs no command", () => {
    const manifest = JSON.parse(read("package.json"));
    for (const script of ["preinstall", "install", "postinstall"]) assert.equal(manifest.scripts[script], undefined);
    assert.equal(manifest.bin, undefined);
    assert.equal(manifest.sideEffects, false);
    assert.equal(manifest.engines.node, ">=20");
    assert.deepEqual(Object.keys(manifest.dependencies), ["@bufbuild/protobuf", "@grpc/grpc-js"]);
    for (const [path, entry] of Object.entries<Record<string, object>>(manifest.exports)) {
      if (path === "./package.json") continue;
      for (const [kind, target] of Object.entries(entry)) assert.equal(Object.keys(target)[0], "types", `${path} ${kind}`);
    }
  });

  it("is one and the same to import and to require", async () => {
    const require = createRequire(import.meta.url);
    for (const entry of ["jobwire", "jobwire/testing", "jobwire/otel", "jobwire/nest"]) {
      const [required, imported] = [require(entry) as object, (await import(entry)) as object];
      assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort(), entry);
    }
  });

  it("has generated code that belongs to the contract", () => {
    const out = mkdtempSync(join(tmpdir(), "jobwire-gen-"));
    try {
      execFileSync(join(ROOT, "gen.sh"), [out], { stdio: "pipe" });
      const files = readdirSync(join(out, "jobwire/v1")).sort();
      assert.deepEqual(files, readdirSync(join(ROOT, "src/gen/jobwire/v1")).sort());
      for (const file of files) assert.equal(readFileSync(join(out, "jobwire/v1", file), "utf8"), read(`src/gen/jobwire/v1/${file}`), file);
    } finally {
      rmSync(out, { recursive: true });
    }
  });

  it("names no registry in its lockfile", () => {
    assert.doesNotMatch(read("package-lock.json"), /"resolved"/);
  });

  it("shows in its README what its examples say", () => {
    const readme = read("README.md");
    const fences = [...readme.matchAll(/(?:<!-- file: sdk-node\/(\S+?)(?:#(\S+))? -->\n)?```(?:ts|js|tsx|mjs)\n([^]*?)\n```/g)];
    assert.ok(fences.length >= 30, `${fences.length} snippets`);
    for (const [, file, region, text] of fences) {
      assert.ok(file, `no file is named for:\n${text}`);
      assert.equal(text, snippet(read(file), region), `${file} ${region ?? ""}`);
    }
    // The first one is the whole of a program.
    assert.ok(read("examples/hello.ts").trim().split("\n").length <= 12);
  });
});

/** A file, or a region of it between `// [name]` and `// [/name]`, dedented; marks of regions are left out. */
function snippet(source: string, region: string | undefined): string {
  const lines = source.trimEnd().split("\n");
  const at = (mark: string) => lines.findIndex((line) => line.trim() === mark);
  const part = region === undefined ? lines : lines.slice(at(`// [${region}]`) + 1, at(`// [/${region}]`));
  const shown = part.filter((line) => !/^\s*\/\/ \[\/?[\w-]+\]$/.test(line));
  const indent = Math.min(...shown.filter((line) => line.trim() !== "").map((line) => line.search(/\S/)));
  return shown.map((line) => line.slice(indent)).join("\n").trim();
}
