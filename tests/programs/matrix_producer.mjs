// A producer for the matrix: one JSON line for each scene it is asked to play, one for what it saw; see
// tests/tests/matrix/scene.rs. Written with the public API only. Environment: JOBWIRE_URL.
import { createInterface } from "node:readline";
import { AlreadyExists, Client, JobwireError } from "../../sdk-node/dist/index.js";

const PATIENCE = "20s";
const client = new Client();

/** Integers beyond 2^53 come as `{"$big": "DIGITS"}`. */
const revive = (_key, value) => (typeof value?.$big === "string" ? BigInt(value.$big) : value);

/** JSON, with every digit of a bigint. */
function write(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}:${write(item)}`).join(",")}}`;
}

const camel = (name) => name.replace(/_(.)/g, (_match, letter) => letter.toUpperCase());
const optionsOf = (given) =>
  Object.fromEntries(
    Object.entries(given).map(([name, value]) => [
      camel(name),
      name === "retry" || name === "unique" ? optionsOf(value) : value,
    ]),
  );

function errorOf(error) {
  if (!(error instanceof JobwireError)) throw error;
  return {
    class: error.constructor.name,
    message: error.failure?.message ?? error.message,
    kind: error.failure?.kind ?? "",
    type: error.failure?.type ?? "",
    job_id: error instanceof AlreadyExists ? error.jobId : "",
  };
}

async function enqueue({ type, payloads, options }, saw) {
  let last;
  for (const payload of payloads) {
    try {
      last = await client.enqueue(type, payload, optionsOf(options));
      saw.enqueued.push({ id: last.id, status: last.enqueued });
    } catch (error) {
      saw.enqueued.push({ error: errorOf(error) });
    }
  }
  return last;
}

/** Something that happens, and can be awaited. */
function milestone() {
  let reach;
  const reached = new Promise((resolve) => (reach = resolve));
  return { reach, reached };
}

async function follow(job, saw, begun, running) {
  try {
    for await (const event of job.events()) {
      if (event.kind === "state") {
        saw.states.push(event.state);
        if (event.state === "running") running.reach();
      } else if (event.kind === "progress") {
        const { percent = null, current = 0, total = 0, message = "", data = {} } = event.progress;
        saw.progress.push({ percent, current, total, message, data });
      } else {
        saw.logs.push([event.line.level, event.line.message]);
      }
      begun.reach();
    }
  } finally {
    begun.reach();
    running.reach();
  }
}

async function play(scene) {
  const saw = { enqueued: [], states: [], progress: [], logs: [] };
  const job = await enqueue(scene, saw);
  const [begun, running] = [milestone(), milestone()];
  const following = follow(job, saw, begun, running);
  await begun.reached;
  if (scene.hurry) await job.retry();
  if (scene.cancel !== null) {
    await running.reached;
    await job.cancel(scene.cancel);
  }
  try {
    saw.result = await job.result({ timeout: PATIENCE });
  } catch (error) {
    saw.error = errorOf(error);
  }
  await following;
  const { state, attempt, delivery, crashes } = await job.status();
  return { ...saw, status: { state, attempt, delivery, crashes } };
}

async function answer(line) {
  const scene = JSON.parse(line, revive);
  const saw = await play(scene).catch((error) => ({ fault: String(error?.stack ?? error) }));
  process.stdout.write(`${write({ ...saw, number: scene.number })}\n`);
}

const scenes = [];
for await (const line of createInterface({ input: process.stdin })) scenes.push(answer(line));
await Promise.all(scenes);
await client.close();
