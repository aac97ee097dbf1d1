// How a worker introduces itself.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { spanOf } from "./duration.js";
import type { BatchRule } from "./gathering.js";
import type { HelloSchema } from "./gen/jobwire/v1/worker_service_pb.js";
import type { Lease } from "./lease.js";

type HelloInit = Exclude<MessageInitShape<typeof HelloSchema>, { $typeName: string }>;

/** Protocol revision of worker_service.proto that this package speaks. */
const REVISION = 1;

/** What stays the same for the life of a worker. */
export interface SessionConfig {
  sessionId: string;
  workerId: string;
  types: string[];
  subscriptions: HelloInit["subscriptions"];
  /** Handlers that may run at once. */
  concurrency: number;
  /** The same for single types, where they have a limit of their own. */
  typeConcurrency?: Record<string, number>;
  /** Types whose jobs are run several in one call. */
  batches?: Record<string, BatchRule>;
  /** Leases to hold beyond that; without it, adapts to how long handlers run. */
  prefetch?: number;
  leaseTtlMs?: number;
  graceMs: number;
  info: HelloInit["info"];
}

/** The first frame of a stream: `slots` are the leases it wants to hold, `held` is the inventory. */
export function helloInit(config: SessionConfig, slots: number, held: Lease[], now: number): HelloInit {
  return {
    sessionId: config.sessionId,
    workerId: config.workerId,
    held: held.map((lease) => ({
      leaseToken: lease.token,
      runningFor: lease.startedAt === undefined ? undefined : spanOf(now - lease.startedAt),
    })),
    types: config.types,
    subscriptions: config.subscriptions,
    capacity: { slots, concurrency: config.concurrency },
    info: config.info,
    revision: REVISION,
    leaseTtl: config.leaseTtlMs === undefined ? undefined : spanOf(config.leaseTtlMs),
  };
}
