// Between queues as operators read and configure them and the contract's.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Percentiles, QueueConfig, QueueRecord, QueueStats, RateLimit } from "./admin-types.js";
import { check, checkEach, duration, INT32_MAX, invalid, isRecord, isWhole, show, text, word, type Check, type Checks } from "./checks.js";
import { dateOf, durationField, msOf } from "./duration.js";
import {
  Durability, type DurationSummary, type Queue as PbQueue, type QueueConfig as PbQueueConfig, type QueueConfigSchema,
  type QueueStats as PbQueueStats, type RateLimit as PbRateLimit,
} from "./gen/jobwire/v1/queue_service_pb.js";
import { RETRY_OPTION } from "./options.js";
import { retryFrom, retryOf } from "./spec.js";

const DURABILITIES = { fast: Durability.FAST, fsync: Durability.FSYNC, replicated: Durability.REPLICATED };

const count = check((value) => isWhole(value, 0, INT32_MAX), "a whole number (0 = no limit)");
const kept = check((value) => isWhole(value, -1, Number.MAX_SAFE_INTEGER), "a whole number (0 = the default, -1 = no limit)");
const RATE: Checks<RateLimit> = {
  max: check((value) => isWhole(value, 1, INT32_MAX), "a whole number, 1 or more"),
  per: duration,
  burst: check((value) => isWhole(value, 0, INT32_MAX), "a whole number (0 = max)"),
};
const rate: Check = (value, field) => {
  if (!isRecord(value)) throw invalid(field, `${field} must be { max: 10, per: "1s" }, not ${show(value)}`);
  checkEach(RATE, value, `${field}.`, { duration: "per", limit: "max" });
  for (const part of ["max", "per"]) if (value[part] === undefined) throw invalid(`${field}.${part}`, `${field}.${part} is missing`);
};
const weights: Check = (value, field) => {
  const fits = isRecord(value) && Object.values(value).every((weight) => isWhole(weight, 1, 1_000));
  if (!fits) throw invalid(field, `${field} must be { key: 1 to 1,000, … }, not ${show(value)}`);
};

const CONFIG: Checks<QueueConfig> = {
  maxRunning: count,
  rateLimit: rate,
  maxRunningPerKey: count,
  rateLimitPerKey: rate,
  keyWeights: weights,
  maxDepth: check((value) => isWhole(value, 0, Number.MAX_SAFE_INTEGER), "a whole number (0 = no limit)"),
  retry: RETRY_OPTION,
  timeout: duration,
  ttl: duration,
  retention: duration,
  deadRetention: duration,
  maxFinished: kept,
  maxDead: kept,
  durability: word(DURABILITIES),
  shards: count,
  note: text,
};

/** What people write who come from elsewhere. */
const MEANT = { limiter: "rateLimit", concurrency: "maxRunning", maxLength: "maxDepth", weights: "keyWeights" };

/** The contract's form. Throws InvalidArgument, naming the field, for what no queue can have. */
export function queueConfigInit(config: QueueConfig): MessageInitShape<typeof QueueConfigSchema> {
  checkEach(CONFIG, config, "", MEANT);
  const { rateLimit, rateLimitPerKey, retry, timeout, ttl, retention, deadRetention, maxDepth, maxFinished, maxDead, durability, ...rest } = config;
  return {
    ...rest,
    rateLimit: rateLimit && rateInit(rateLimit),
    rateLimitPerKey: rateLimitPerKey && rateInit(rateLimitPerKey),
    retry: retryOf(retry),
    timeout: durationField(timeout, "timeout"),
    ttl: durationField(ttl, "ttl"),
    retention: durationField(retention, "retention"),
    deadRetention: durationField(deadRetention, "deadRetention"),
    maxDepth: maxDepth === undefined ? undefined : BigInt(maxDepth),
    maxFinished: maxFinished === undefined ? undefined : BigInt(maxFinished),
    maxDead: maxDead === undefined ? undefined : BigInt(maxDead),
    durability: durability && DURABILITIES[durability],
  };
}

/** Names of the contract's fields for those that `config` has, `undefined` ones included: these go back to their default. */
export function configPaths(config: QueueConfig): string[] {
  return Object.keys(config).map((name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
}

function rateInit({ max, per, burst }: RateLimit) {
  return { max, per: durationField(per, "rateLimit.per"), burst };
}

/** The public form of a queue. */
export function queueOf(queue: PbQueue): QueueRecord {
  const record: QueueRecord = {
    name: queue.name,
    config: queue.config ? configOf(queue.config) : {},
    stats: statsOf(queue.stats),
    paused: queue.paused,
    pauseReason: queue.pauseReason,
    pauseActor: queue.pauseActor,
    etag: queue.etag,
  };
  for (const field of ["pauseTime", "resumeTime"] as const) {
    const time = dateOf(queue[field]);
    if (time) record[field] = time;
  }
  return record;
}

function configOf(config: PbQueueConfig): QueueConfig {
  const set: QueueConfig = {};
  const rateOf = ({ max, per, burst }: PbRateLimit): RateLimit => ({ max, per: msOf(per) ?? 0, ...(burst !== 0 && { burst }) });
  if (config.rateLimit) set.rateLimit = rateOf(config.rateLimit);
  if (config.rateLimitPerKey) set.rateLimitPerKey = rateOf(config.rateLimitPerKey);
  if (Object.keys(config.keyWeights).length > 0) set.keyWeights = { ...config.keyWeights };
  if (config.retry) set.retry = retryFrom(config.retry);
  for (const field of ["maxRunning", "maxRunningPerKey", "maxDepth", "maxFinished", "maxDead"] as const) {
    if (Number(config[field]) !== 0) set[field] = Number(config[field]);
  }
  if (config.shards > 1) set.shards = config.shards;
  for (const field of ["timeout", "ttl", "retention", "deadRetention"] as const) {
    const ms = msOf(config[field]);
    if (ms !== undefined) set[field] = ms;
  }
  const durability = (Object.keys(DURABILITIES) as (keyof typeof DURABILITIES)[]).find((one) => DURABILITIES[one] === config.durability);
  if (durability) set.durability = durability;
  if (config.note !== "") set.note = config.note;
  return set;
}

function statsOf(stats: PbQueueStats | undefined): QueueStats {
  const percentiles = (summary: DurationSummary | undefined): Percentiles => ({
    p50: msOf(summary?.p50) ?? 0, p95: msOf(summary?.p95) ?? 0, p99: msOf(summary?.p99) ?? 0, max: msOf(summary?.max) ?? 0,
  });
  const number = (field: "ready" | "running" | "scheduled" | "retrying" | "blocked" | "dead" | "finished") => Number(stats?.[field] ?? 0);
  return {
    ready: number("ready"), running: number("running"), scheduled: number("scheduled"), retrying: number("retrying"),
    blocked: number("blocked"), dead: number("dead"), finished: number("finished"),
    latencyMs: msOf(stats?.latency) ?? 0,
    enqueuedPerSecond: stats?.enqueuedPerSecond ?? 0,
    startedPerSecond: stats?.startedPerSecond ?? 0,
    succeededPerSecond: stats?.succeededPerSecond ?? 0,
    failedPerSecond: stats?.failedPerSecond ?? 0,
    wait: percentiles(stats?.wait),
    run: percentiles(stats?.run),
    workers: stats?.workers ?? 0,
    slots: stats?.slots ?? 0,
    slotsBusy: stats?.slotsBusy ?? 0,
    unhandledTypes: Object.fromEntries(Object.entries(stats?.unhandledTypes ?? {}).map(([type, jobs]) => [type, Number(jobs)])),
  };
}
