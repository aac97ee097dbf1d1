// The names of spans, attributes and metrics, and nothing else: the messaging conventions of OpenTelemetry, which are
// still in development, and what Jobwire adds to them.

export const SCOPE = "jobwire";

export const SPAN = {
  enqueue: (queue: string) => `enqueue ${queue}`,
  process: (queue: string) => `process ${queue}`,
} as const;

/** The outcome of an attempt is an event of its span. */
export const OUTCOME_EVENT = "jobwire.outcome";

export const ATTRIBUTE = {
  system: "messaging.system",
  /** The queue. */
  destination: "messaging.destination.name",
  operationName: "messaging.operation.name",
  operationType: "messaging.operation.type",
  /** The job. */
  messageId: "messaging.message.id",
  /** The workflow. */
  conversationId: "messaging.message.conversation_id",
  batchCount: "messaging.batch.message_count",
  /** The worker. */
  clientId: "messaging.client.id",
  errorType: "error.type",
  type: "jobwire.type",
  attempt: "jobwire.attempt",
  delivery: "jobwire.delivery",
  scheduleId: "jobwire.schedule_id",
  /** How the attempt ended: `succeeded`, `failed`, `snoozed`, `released`, `cancelled`; `lost` with its lease. */
  state: "jobwire.state",
  /** Of a slot: `free` or `busy`. */
  slotState: "state",
} as const;

export const SYSTEM = "jobwire";

export const METRIC = {
  processDuration: "messaging.process.duration",
  operationDuration: "messaging.client.operation.duration",
  sent: "messaging.client.sent.messages",
  consumed: "messaging.client.consumed.messages",
  slots: "jobwire.worker.slots",
  loopLag: "jobwire.worker.loop_lag",
  reconnects: "jobwire.client.reconnects",
} as const;

/** Bounds of durations in seconds, as the conventions advise. */
export const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
