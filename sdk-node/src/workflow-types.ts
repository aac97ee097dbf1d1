// Workflows as they are read. No behaviour, no protobuf.
import type { Failure, JobState, Progress } from "./types.js";

/** Where a workflow is. `held`: a node failed for good, and what waits for it waits for somebody to retry it. */
export type WorkflowState = "running" | "held" | "succeeded" | "failed" | "cancelled" | "unknown";

/** A workflow, as the server keeps it. */
export interface WorkflowRecord {
  id: string;
  name: string;
  state: WorkflowState;
  /** More nodes may come. */
  open: boolean;
  onNodeFailure: "cancel_dependants" | "cancel_all" | "hold" | "unknown";
  nodeCount: number;
  /** Nodes by state; states without any are left out. */
  counts: Partial<Record<JobState, number>>;
  /** 0 to 100: nodes that have ended over all of them. */
  percent: number;
  createTime?: Date;
  finishTime?: Date;
  /** When it goes away, with its nodes. */
  purgeTime?: Date;
  /** Empty when it has none. */
  parentId: string;
  tags: string[];
  /** Ids of the callbacks that were enqueued. */
  callbackJobIds: string[];
}

/** A node, as the server keeps it. */
export interface NodeRecord {
  name: string;
  group: string;
  /** Empty when the node is a workflow of its own. */
  jobId: string;
  state: JobState;
  /** Names of the nodes and groups, and ids of the jobs, that it waits for. */
  after: string[];
  progress?: Progress;
  failure?: Failure;
  startTime?: Date;
  finishTime?: Date;
}
