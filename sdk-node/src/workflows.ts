// Workflows by the many: found, cancelled, run again, deleted.
import { call, paged, type Access } from "./access.js";
import { bulk, type BulkResult, type Which } from "./bulk.js";
import { durationField, type Duration } from "./duration.js";
import { NotFound } from "./errors.js";
import { WorkflowService } from "./gen/jobwire/v1/workflow_service_pb.js";
import type { ChangeOptions } from "./jobs.js";
import type { CallOptions, ListOptions } from "./types.js";
import { nodesOf, workflowOf } from "./workflow.js";
import type { NodeRecord, WorkflowRecord } from "./workflow-types.js";

const { method } = WorkflowService;

/** `client.workflows`. Looking needs scope `read`, changing `admin`. For one that is at hand there is `client.workflow(id)`. */
export class Workflows {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /** Throws NotFound when it is not there, or was purged. */
  async get(id: string, options: CallOptions = {}): Promise<WorkflowRecord> {
    const { workflow } = await call(this.#access, method.getWorkflow, { id }, options);
    if (!workflow) throw new NotFound(`no workflow ${id}`, { reason: "WORKFLOW_NOT_FOUND" });
    return workflowOf(workflow);
  }

  /** All workflows. Filterable: `id`, `name`, `state`, `tag`, `create_time`, `finish_time`, `parent_workflow_id`. */
  list(options: ListOptions = {}): AsyncGenerator<WorkflowRecord, void, undefined> {
    const { filter } = options;
    return paged(options, (page, limits) => call(this.#access, method.listWorkflows, { filter, ...page }, limits), ({ workflows }) => workflows.map(workflowOf));
  }

  /** The nodes of a workflow. Filterable: `name`, `group`, `state`. */
  nodes(id: string, options: ListOptions = {}): AsyncGenerator<NodeRecord, void, undefined> {
    return nodesOf(this.#access, id, options);
  }

  /** Cancels every node that has not ended. `grace`: for running handlers (default: as long as it takes). */
  async cancel(which: Which, options: ChangeOptions & { reason?: string; grace?: Duration } = {}): Promise<BulkResult> {
    const { reason, grace, dryRun, ...limits } = options;
    const request = { reason, grace: durationField(grace, "grace"), dryRun };
    return bulk(which, (selector, continueToken) => call(this.#access, method.cancelWorkflows, { ...request, selector, continueToken }, limits));
  }

  /** Runs failed nodes again, and revives what was cancelled because of them. Not repeated by itself. */
  async retry(which: Which, options: ChangeOptions = {}): Promise<BulkResult> {
    const { dryRun, ...limits } = options;
    return bulk(which, (selector, continueToken) => call(this.#access, method.retryWorkflows, { selector, dryRun, continueToken }, limits));
  }

  /** Deletes workflows with their nodes. By a filter, and where they have not ended, only with `force`; else those are counted. */
  async delete(which: Which, options: CallOptions & { force?: boolean } = {}): Promise<BulkResult> {
    const { force, ...limits } = options;
    return bulk(which, (selector, continueToken) => call(this.#access, method.deleteWorkflows, { selector, force, continueToken }, limits));
  }
}
