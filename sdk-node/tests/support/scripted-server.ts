// A gRPC server whose every answer the test writes.
import {
  create, fromBinary, toBinary,
  type DescMessage, type DescMethod, type MessageInitShape, type MessageShape,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { spanOf } from "../../src/duration.js";
import { JobService } from "../../src/gen/jobwire/v1/job_service_pb.js";
import { WorkflowService } from "../../src/gen/jobwire/v1/workflow_service_pb.js";
import { StreamJobsResponseSchema, WorkerService, type StreamJobsRequest } from "../../src/gen/jobwire/v1/worker_service_pb.js";

type FrameInit = Exclude<MessageInitShape<typeof StreamJobsResponseSchema>, { $typeName: string }>;

/** Longest a test waits for something that should happen at once. */
const PATIENCE_MS = 10_000;

/** Values that arrive over time; tests await the next one that fits. */
export class Inbox<T> {
  readonly all: T[] = [];
  #read = 0;
  #waiting: (() => void)[] = [];

  push(value: T): void {
    this.all.push(value);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The next unread value that fits; those before it count as read. */
  async next(fits: (value: T) => boolean = () => true, what = "a value"): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      while (this.#read < this.all.length) {
        const value = this.all[this.#read++]!;
        if (fits(value)) return value;
      }
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), deadline - performance.now());
        this.#waiting.push(() => (clearTimeout(timer), resolve()));
      });
    }
  }
}

/** One StreamJobs call, seen from the server. */
export class WorkerStream {
  readonly frames = new Inbox<StreamJobsRequest>();
  /** Resolves when the worker half-closes, cancels or loses the stream. */
  readonly halfClosed: Promise<void>;
  readonly cancelled: Promise<void>;
  #seq = 0;

  constructor(readonly call: grpc.ServerDuplexStream<StreamJobsRequest, unknown>) {
    call.on("data", (frame: StreamJobsRequest) => this.frames.push(frame));
    call.on("error", () => {});
    this.halfClosed = new Promise((resolve) => call.on("end", resolve));
    this.cancelled = new Promise((resolve) => call.on("cancelled", resolve));
  }

  send(frame: FrameInit): number {
    this.#seq += 1;
    this.call.write(create(StreamJobsResponseSchema, { seq: BigInt(this.#seq), ...frame }));
    return this.#seq;
  }

  welcome(more: NonNullable<FrameInit["welcome"]> = {}): void {
    const usual = { slots: 8, leaseTtl: spanOf(30_000), deliveryTtl: spanOf(10_000), heartbeatInterval: spanOf(10_000), serverId: "scripted" };
    this.send({ welcome: { ...usual, ...more } as NonNullable<FrameInit["welcome"]> });
  }

  job(token: string, type: string, input: unknown = {}, more: object = {}): void {
    this.send({
      jobs: [{
        leaseToken: token, attempt: 1, maxAttempts: 20, delivery: 1,
        task: { id: `id-${token}`, type, queue: type, payload: { body: { case: "text", value: JSON.stringify(input) } } },
        ...more,
      }],
    });
  }

  /** The frame that carries the outcome of `token`, and that outcome. */
  async outcome(token: string) {
    const frame = await this.frames.next((frame) => frame.outcomes.some((outcome) => outcome.leaseToken === token), `the outcome of ${token}`);
    return { frame, outcome: frame.outcomes.find((outcome) => outcome.leaseToken === token)! };
  }

  /** Acknowledges everything from here on and ends when the worker does: for the end of a test. */
  finish(): void {
    const ack = (frame: StreamJobsRequest) => this.send({ ackedSeq: frame.seq });
    const last = this.frames.all.at(-1);
    if (last) ack(last);
    this.call.on("data", ack);
    this.call.on("end", () => this.call.end());
  }

  end(code?: grpc.status, details = "", metadata = new grpc.Metadata()): void {
    if (code === undefined) this.call.end();
    else this.call.emit("error", Object.assign(new Error(details), { code, details, metadata }));
  }
}

type Unary = (request: any) => object | Promise<object>;

/** How a scripted unary call fails. */
export function fail(code: grpc.status, details: string, bin?: Uint8Array): never {
  const metadata = new grpc.Metadata();
  if (bin) metadata.set("grpc-status-details-bin", Buffer.from(bin));
  throw Object.assign(new Error(details), { code, details, metadata });
}

export class ScriptedServer {
  readonly streams = new Inbox<WorkerStream>();
  /** Every unary call, by method name. */
  readonly calls: { method: string; request: any; metadata: grpc.Metadata }[] = [];
  unary: Partial<Record<string, Unary>> = {};
  serverStream: Partial<Record<string, (call: grpc.ServerWritableStream<any, any>) => void>> = {};
  bidi: Partial<Record<string, (call: grpc.ServerDuplexStream<any, any>) => void>> = {};
  #server = new grpc.Server();
  port = 0;

  constructor(private readonly credentials = grpc.ServerCredentials.createInsecure()) {}

  get url(): string {
    return `jobwire${this.credentials._isSecure() ? "s" : ""}://127.0.0.1:${this.port}`;
  }

  async listen(port = 0): Promise<this> {
    for (const service of [JobService, WorkerService, WorkflowService]) {
      const handlers: grpc.UntypedServiceImplementation = {};
      for (const method of service.methods) {
        const name = method.localName;
        if (method.methodKind === "unary") handlers[name] = (call: any, reply: any) => void this.#answer(method, call, reply);
        else if (method.methodKind === "server_streaming") handlers[name] = (call: any) => this.serverStream[name]?.(call);
        else handlers[name] = (call: any) => this.bidi[name]?.(call);
      }
      if (service === WorkerService) {
        handlers["streamJobs"] = (call: grpc.ServerDuplexStream<StreamJobsRequest, unknown>) => this.streams.push(new WorkerStream(call));
      }
      this.#server.addService(this.#definition(service), handlers);
    }
    this.port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${port}`, this.credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  async #answer(method: DescMethod, call: grpc.ServerUnaryCall<any, any>, reply: grpc.sendUnaryData<any>): Promise<void> {
    this.calls.push({ method: method.localName, request: call.request, metadata: call.metadata });
    try {
      const answer = this.unary[method.localName] ?? (() => fail(grpc.status.UNIMPLEMENTED, method.name));
      reply(null, create(method.output, (await answer(call.request)) as Record<string, unknown>));
    } catch (error) {
      reply(error as grpc.ServiceError);
    }
  }

  #definition(service: { typeName: string; methods: DescMethod[] }): grpc.ServiceDefinition {
    return Object.fromEntries(
      service.methods.map((method) => [
        method.localName,
        {
          path: `/${service.typeName}/${method.name}`,
          requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
          responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
          ...codec("request", method.input),
          ...codec("response", method.output),
        },
      ]),
    ) as unknown as grpc.ServiceDefinition;
  }
}

function codec<D extends DescMessage>(side: "request" | "response", schema: D) {
  return {
    [`${side}Serialize`]: (message: MessageShape<D>) => Buffer.from(toBinary(schema, message)),
    [`${side}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes),
  };
}
