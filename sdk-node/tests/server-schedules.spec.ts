// Schedules through the real server: by the client, and declared by a worker. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import {
  Aborted, Client, defineTask, InvalidArgument, NotFound, Worker, type ScheduleSpec, type WorkerOptions,
} from "../src/index.js";
import { silent } from "./support/fixture.js";
import { Proxy } from "./support/proxy.js";
import { RealServer } from "./support/real-server.js";

const report = defineTask<{ kind: string }, string>("report", { queue: "reports", tags: ["finance"] });
const NIGHTLY: ScheduleSpec = { task: report.s({ kind: "sales" }), cron: "30 2 * * 1-5", timeZone: "Europe/Berlin" };

describe("schedules", () => {
  let server: RealServer;
  let client: Client;

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
  });

  after(async () => {
    await client?.close();
    await server?.stop();
  });

  const ids = async (filter?: string) => {
    const found: string[] = [];
    for await (const { id } of client.schedules.list({ pageSize: 2, ...(filter && { filter }) })) found.push(id);
    return found;
  };

  it("are put, put again without a change, changed, and guarded by their etag", async () => {
    const first = await client.schedules.put("put", NIGHTLY);
    assert.equal(first.created, true);
    const again = await client.schedules.put("put", NIGHTLY);
    assert.deepEqual([again.created, again.schedule.etag], [false, first.schedule.etag]);
    const changed = await client.schedules.put("put", { ...NIGHTLY, overlap: "skip" }, { etag: first.schedule.etag });
    assert.notEqual(changed.schedule.etag, first.schedule.etag);
    await assert.rejects(client.schedules.put("put", NIGHTLY, { etag: first.schedule.etag }), Aborted);
    const checked = await client.schedules.put("only-checked", NIGHTLY, { validateOnly: true });
    assert.equal(checked.schedule.cron, NIGHTLY.cron);
    await assert.rejects(client.schedules.get("only-checked"), NotFound);
  });

  it("say all that was put", async () => {
    const start = new Date("2030-01-01T00:00:00Z");
    const end = new Date("2031-01-01T00:00:00Z");
    await client.schedules.put("all", {
      task: report.s({ kind: "all" }, { headers: { "x-team": "blue" } }),
      cron: "30 2 * * *", timeZone: "Europe/Berlin", gap: "skip", fold: "both", start, end,
      jitter: "90s", overlap: "cancel_previous", catchUp: "all", catchUpWindow: "2h", note: "for Ada",
    });
    const { createTime, updateTime, etag, nextFireTimes, ...rest } = await client.schedules.get("all");
    assert.ok(createTime && updateTime && etag);
    assert.deepEqual(nextFireTimes[0], new Date("2030-01-01T01:30:00Z"));
    assert.deepEqual(rest, {
      id: "all", cron: "30 2 * * *", timeZone: "Europe/Berlin", gap: "skip", fold: "both", start, end,
      jitter: 90_000, overlap: "cancel_previous", catchUp: "all", catchUpWindow: 7_200_000, note: "for Ada",
      job: { type: "report", queue: "reports", input: { kind: "all" }, tags: ["finance"], headers: { "x-team": "blue" } },
      paused: false, pauseReason: "", lastJobId: "", lastJobState: "unknown", firedCount: 0, skippedCount: 0,
    });
    await client.schedules.put("all", { task: report.s({ kind: "all" }), every: "90s" });
    const every = await client.schedules.get("all");
    assert.deepEqual([every.cron, every.every, every.gap, every.overlap, every.catchUp], [undefined, 90_000, "after", "allow", "last"]);
  });

  it("are listed page by page, paused, resumed and deleted, by ids and by filter", async () => {
    const task = defineTask("listed");
    const names = ["list-1", "list-2", "list-3", "list-4", "list-5"];
    for (const id of names) await client.schedules.put(id, { task: task.s(), every: "1h" });
    assert.deepEqual(await ids("type = listed"), names);
    assert.deepEqual((await client.schedules.pause(["list-1", "list-4", "nobody"], { reason: "moving" })).affected, 2);
    assert.deepEqual(await ids("type = listed AND paused = true"), ["list-1", "list-4"]);
    assert.deepEqual((({ paused, pauseReason }) => [paused, pauseReason])(await client.schedules.get("list-4")), [true, "moving"]);
    assert.equal((await client.schedules.resume({ filter: "type = listed AND paused = true" })).affected, 2);
    const counted = await client.schedules.delete({ filter: "type = listed" });
    assert.deepEqual([counted.matched, counted.affected, counted.sampleIds.toSorted()], [5, 0, names]);
    assert.equal((await client.schedules.delete("list-1")).affected, 1);
    assert.equal((await client.schedules.delete({ filter: "type = listed" }, { force: true })).affected, 4);
    assert.deepEqual(await ids("type = listed"), []);
    for (const act of [() => client.schedules.get("nobody"), () => client.schedules.pause("nobody"), () => client.schedules.delete("nobody"), () => client.schedules.trigger("nobody")]) {
      await assert.rejects(act, NotFound);
    }
  });

  it("are previewed, put or not, and backfilled", async () => {
    await client.schedules.put("past", NIGHTLY);
    const preview = await client.schedules.preview("past", { count: 3 });
    assert.deepEqual([preview.fireTimes.length, preview.description], [3, "At 02:30, Monday to Friday, Europe/Berlin"]);
    const winter = await client.schedules.preview({ cron: "30 2 * * *", timeZone: "Europe/Berlin", start: new Date("2030-03-30T00:00:00Z") }, { count: 2 });
    assert.deepEqual(winter.fireTimes, [new Date("2030-03-30T01:30:00Z"), new Date("2030-03-31T01:00:00Z")]);
    assert.equal((await client.schedules.preview({ every: "90s" })).fireTimes.length, 10);
    const week = { from: new Date("2025-11-03T00:00:00Z"), to: new Date("2025-11-10T00:00:00Z") };
    const would = await client.schedules.backfill("past", { ...week, dryRun: true });
    assert.deepEqual([would.ticks, would.fired, would.existing], [5, 5, 0]);
    const done = await client.schedules.backfill("past", week);
    assert.deepEqual([done.fired, done.sampleIds.length], [5, 5]);
    const again = await client.schedules.backfill("past", week);
    assert.deepEqual([again.ticks, again.fired, again.existing], [5, 0, 5]);
    const record = await client.job(done.sampleIds[0]!).status();
    assert.deepEqual([record.scheduleId, record.queue], ["past", "reports"]);
  });

  it("that the server refuses say which field", async () => {
    const never = client.schedules.put("never", { ...NIGHTLY, cron: "0 0 30 2 *" });
    await assert.rejects(never, (error: unknown) => error instanceof InvalidArgument && /never fires/.test(error.message));
  });

  async function working<T>(options: WorkerOptions, prepare: (worker: Worker) => void, act: (worker: Worker, done: Promise<void>) => Promise<T>): Promise<T> {
    const worker = new Worker(client, { signals: false, logger: silent, ...options });
    prepare(worker);
    const done = worker.run();
    done.catch(() => {});
    try {
      return await act(worker, done);
    } finally {
      await worker.stop({ grace: 0 }).catch(() => {});
    }
  }

  it("declared by a worker are put before its first job, and fire with their tick", async () => {
    const tick = defineTask<{ n: number }, string>("declared.tick");
    const seen: { scheduleId: string; fireTime: Date; at: number }[] = [];
    const started: string[] = [];
    // It waits for the worker: had the schedule been put later, the job would have run first.
    await client.enqueue(tick, { n: 0 });
    await working(
      {},
      (worker) =>
        worker
          .handle(tick, async (_, { scheduleId, fireTime }) => {
            if (started.length === 0) started.push((await client.schedules.get("declared")).id);
            if (fireTime) seen.push({ scheduleId, fireTime, at: Date.now() });
            if (seen.length === 2) worker.emit("draining", "enough");
            return "";
          })
          .schedule("declared", { task: tick.s({ n: 1 }), every: "1s" }),
      (worker) => once(worker, "draining"),
    );
    assert.deepEqual(started, ["declared"]);
    assert.deepEqual(seen.map(({ scheduleId }) => scheduleId), ["declared", "declared"]);
    assert.equal(seen[1]!.fireTime.getTime() - seen[0]!.fireTime.getTime(), 1_000);
    // To leave the declaration out deletes nothing.
    assert.equal((await client.schedules.get("declared")).every, 1_000);
    await client.schedules.delete("declared");
  });

  it("declared twice are put by both, and putSchedules: false leaves them out", async () => {
    const task = defineTask("declared.twice");
    const prepare = (worker: Worker) => void worker.handle(task, () => "").schedule("twice", { task: task.s(), cron: "@daily" });
    await working({ putSchedules: false }, prepare, (worker) => once(worker, "ready"));
    await assert.rejects(client.schedules.get("twice"), NotFound);
    for (let i = 0; i < 2; i++) await working({}, prepare, (worker) => once(worker, "ready"));
    assert.equal((await client.schedules.get("twice")).cron, "@daily");
  });

  it("declared and refused stop the worker, which has taken no job", async () => {
    const task = defineTask("declared.refused");
    const job = await client.enqueue(task, {});
    const prepare = (worker: Worker) => void worker.handle(task, () => "").schedule("refused", { task: task.s(), cron: "0 0 30 2 *" });
    await working({}, prepare, async (_, done) => {
      await assert.rejects(done, (error: unknown) => error instanceof InvalidArgument && /schedule refused: .*never fires/.test(error.message));
    });
    assert.equal((await job.status()).delivery, 0);
  });

  it("declared wait for the server, and give up when the worker is stopped", async () => {
    const proxy = await Proxy.to(server.url);
    const { url } = proxy;
    proxy.close();
    await using away = new Client({ url });
    const task = defineTask("declared.away");
    const worker = new Worker(away, { signals: false, logger: silent }).handle(task, () => "").schedule("away", { task: task.s(), cron: "@daily" });
    const done = worker.run();
    const [why] = (await once(worker, "disconnected")) as [string];
    assert.match(why, /No Jobwire server at/);
    await worker.stop();
    await done;
  });

  it("have words that tell a bad specification before anything is sent", () => {
    const task = report.s({ kind: "x" });
    const refused: [object, string, RegExp][] = [
      [{ task }, "cron", /say when/],
      [{ task, cron: "@daily", every: "5m" }, "every", /exclude each other/],
      [{ task, cron: "" }, "cron", /30 2 \* \* 1-5/],
      [{ task, every: "5 minutes" }, "every", /"30s"/],
      [{ task, every: "5m", timeZone: "Europe/Berlin" }, "timeZone", /goes with cron/],
      [{ task, cron: "@daily", overlap: "queue" }, "overlap", /"buffer_one"/],
      [{ task, cron: "@daily", catchUp: "one" }, "catchUp", /"last"/],
      [{ task, cron: "@daily", start: "2030-01-01" }, "start", /new Date/],
      [{ task, pattern: "@daily" }, "pattern", /cron is meant\?/],
      [{ task, cron: "@daily", tz: "UTC" }, "tz", /timeZone is meant\?/],
      [{ cron: "@daily" }, "task", /missing/],
      [{ task: report, cron: "@daily" }, "task", /the task itself/],
      [{ task: "report", cron: "@daily" }, "task", /task\.s\(/],
      [{ task: report.s({ kind: "x" }, { delay: "1s" }), cron: "@daily" }, "task.delay", /starts at the tick/],
      [{ task: report.opts({ at: new Date() }).s({ kind: "x" }), cron: "@daily" }, "task.at", /starts at the tick/],
    ];
    for (const [spec, field, message] of refused) {
      const fits = (error: unknown) => error instanceof InvalidArgument && error.field === field && message.test(error.message);
      assert.throws(() => new Worker(client).schedule("bad", spec as ScheduleSpec), fits, field);
    }
    const worker = new Worker(client).schedule("once", NIGHTLY);
    assert.throws(() => worker.schedule("once", NIGHTLY), /declared already/);
    assert.throws(() => new Worker(client, { putSchedules: true }).run(), /no handlers/);
  });
});
