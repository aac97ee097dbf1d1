// The only file that knows the gRPC library. Everything above it sees the interface, protobuf messages and JobwireError.
import { readFileSync } from "node:fs";
import {
  create, fromBinary, toBinary,
  type DescMessage, type DescMethodBiDiStreaming, type DescMethodServerStreaming, type DescMethodUnary,
  type MessageInitShape, type MessageShape,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { Connection } from "./endpoints.js";
import { InvalidArgument, Unauthenticated, Unavailable, type JobwireError } from "./errors.js";
import { errorOfStatus } from "./status.js";

/** Limits of one call. */
export interface CallLimits {
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

/** What a stream reports; nothing after `end`. */
export interface StreamHandlers<O> {
  message(message: O): void;
  /** `error` is absent when the server ended the stream with OK. */
  end(error?: JobwireError): void;
}

/** Our half of a stream. */
export interface StreamCall<I> {
  send(message: I): void;
  halfClose(): void;
  /** Abandons the stream; no handler is called any more. */
  cancel(): void;
}

/** The seam between the SDK and a gRPC library. */
export interface Transport {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    limits?: CallLimits,
  ): Promise<MessageShape<O>>;
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    limits?: CallLimits,
  ): AsyncIterable<MessageShape<O>>;
  /** Opens a stream on a connection of its own, at once: what is sent meanwhile is queued. No deadline. */
  bidi<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    handlers: StreamHandlers<MessageShape<O>>,
  ): StreamCall<MessageShape<I>>;
  close(): void;
}

const OPTIONS: grpc.ChannelOptions = {
  // One knob for stream and connection; 65,535 bytes, the default, would be 3 MB/s at 20 ms.
  "grpc-node.flow_control_window": 4 << 20,
  "grpc.max_receive_message_length": 4 << 20,
  "grpc.max_send_message_length": 4 << 20,
  // Statistics for its own debugging page; a tenth of the cost of a call.
  "grpc.enable_channelz": 0,
  // Retries are ours: they keep ids and know RetryInfo.
  "grpc.enable_retries": 0,
  "grpc.service_config_disable_resolution": 1,
  // A new channel must be a new connection.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 5_000,
  // A server that is frozen, or beyond a broken network, never says so: while calls are out it is asked.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  // HTTP proxies are for the web; the variables of the environment do not mean this connection.
  "grpc.enable_http_proxy": 0,
};

export class GrpcTransport implements Transport {
  #client: grpc.Client | undefined;
  #endpoint: number;
  #token: string | undefined;
  #closed = false;

  constructor(private readonly connection: Connection) {
    this.#endpoint = Math.floor(Math.random() * connection.endpoints.length);
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    limits: CallLimits = {},
  ): Promise<MessageShape<O>> {
    try {
      return await this.#unary(method, request, limits);
    } catch (error) {
      // A refused call has done nothing: once more, with what the token's file says now.
      if (!(error instanceof Unauthenticated) || this.connection.tokenFile === undefined) throw error;
      return this.#unary(method, request, limits);
    }
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    { timeoutMs, signal }: CallLimits,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelled(signal));
      const client = this.#shared();
      const call = client.makeUnaryRequest(
        pathOf(method),
        serializer(method.input),
        deserializer(method.output),
        create(method.input, request),
        this.#metadata(),
        timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
        (error, response) => {
          signal?.removeEventListener("abort", abort);
          if (!error) return resolve(response as MessageShape<O>);
          reject(signal?.aborted ? cancelled(signal) : this.#failed(error, client));
        },
      );
      const abort = () => call.cancel();
      signal?.addEventListener("abort", abort);
    });
  }

  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    { signal }: CallLimits = {},
  ): AsyncGenerator<MessageShape<O>> {
    if (signal?.aborted) throw cancelled(signal);
    const client = this.#shared();
    const call = client.makeServerStreamRequest(
      pathOf(method),
      serializer(method.input),
      deserializer(method.output),
      create(method.input, request),
      this.#metadata(),
    );
    const abort = () => call.cancel();
    signal?.addEventListener("abort", abort);
    try {
      for await (const message of call) yield message as MessageShape<O>;
    } catch (error) {
      throw signal?.aborted ? cancelled(signal) : this.#failed(error as grpc.ServiceError, client);
    } finally {
      signal?.removeEventListener("abort", abort);
      call.cancel();
    }
  }

  bidi<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    handlers: StreamHandlers<MessageShape<O>>,
  ): StreamCall<MessageShape<I>> {
    let live = true;
    let client: grpc.Client;
    let call: grpc.ClientDuplexStream<MessageShape<I>, MessageShape<O>>;
    try {
      client = this.#open();
      call = client.makeBidiStreamRequest(pathOf(method), serializer(method.input), deserializer(method.output), this.#metadata());
    } catch (error) {
      setImmediate(() => live && handlers.end(error as JobwireError));
      return { send: () => {}, halfClose: () => {}, cancel: () => void (live = false) };
    }
    call.on("data", (message: MessageShape<O>) => live && handlers.message(message));
    call.on("error", () => {});
    // The status may overtake messages that are still being handed out.
    call.on("status", (status) =>
      setImmediate(() => {
        client.close();
        if (!live) return;
        live = false;
        handlers.end(status.code === grpc.status.OK ? undefined : this.#failed(status, client));
      }),
    );
    return {
      send: (message) => void (live && call.write(message)),
      halfClose: () => void (live && call.end()),
      cancel: () => {
        // Given up because its server was silent: the next stream goes elsewhere, if there is an elsewhere.
        if (live) this.#endpoint += 1;
        live = false;
        call.cancel();
        client.close();
      },
    };
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
    this.#client = undefined;
  }

  #shared(): grpc.Client {
    if (this.#closed) throw errorOfStatus(grpc.status.CANCELLED, "the client is closed");
    return (this.#client ??= this.#open());
  }

  #open(): grpc.Client {
    const { tls, caFile, certFile, keyFile } = this.connection;
    const credentials = tls
      ? grpc.credentials.createSsl(read(caFile, "caFile"), read(keyFile, "keyFile"), read(certFile, "certFile"))
      : grpc.credentials.createInsecure();
    return new grpc.Client(this.#address(), credentials, OPTIONS);
  }

  #address(): string {
    return this.connection.endpoints[this.#endpoint % this.connection.endpoints.length]!;
  }

  #metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    const { token, tokenFile } = this.connection;
    this.#token ??= token ?? read(tokenFile, "tokenFile")?.toString("utf8").trim();
    if (this.#token !== undefined) metadata.set("authorization", `Bearer ${this.#token}`);
    return metadata;
  }

  /** Turns a gRPC error into ours, and moves on from an endpoint or a token that did not work. */
  #failed(error: Pick<grpc.ServiceError, "code" | "details" | "metadata">, client: grpc.Client): JobwireError {
    const address = this.#address();
    if (error.code === grpc.status.UNAUTHENTICATED) this.#token = undefined;
    if (error.code === grpc.status.UNAVAILABLE) {
      this.#endpoint += 1;
      if (client === this.#client) {
        this.#client = undefined;
        client.close();
      }
      const why = unreachable(address, this.connection.tls, error.details);
      if (why) return new Unavailable(why, { cause: error });
    }
    const details = error.metadata?.get("grpc-status-details-bin")[0];
    return errorOfStatus(error.code, error.details, Buffer.isBuffer(details) ? details : undefined, error);
  }
}

/** What to tell people when there was no connection; `undefined` when there was one. */
function unreachable(address: string, tls: boolean, details: string): string | undefined {
  if (/ECONNREFUSED|ENOTFOUND|Name resolution failed/.test(details)) return `No Jobwire server at ${address}. Start one: jobwire dev`;
  const last = /No connection established.*?Last error: (?:Error: )?(.*?)\s*(?:\(\d{4}-[^)]*\))?\. Resolution note/s.exec(details)?.[1];
  if (last === undefined) return details.startsWith("No connection established") ? `No Jobwire server at ${address}. Start one: jobwire dev` : undefined;
  // OpenSSL's own words are the fifth of many.
  const reason = /:SSL routines:[^:]*:([^:]+):/.exec(last)?.[1] ?? last;
  if (tls) return `No TLS connection to ${address}: ${reason}. The server needs a certificate that caFile, or Node, trusts; it may ask for certFile and keyFile`;
  return `No Jobwire server at ${address}: ${reason}. If it wants TLS, write jobwires://`;
}

function cancelled(signal: AbortSignal): JobwireError {
  return errorOfStatus(grpc.status.CANCELLED, "the caller gave up", undefined, signal.reason);
}

function read(file: string | undefined, option: string): Buffer | null {
  try {
    return file === undefined ? null : readFileSync(file);
  } catch (error) {
    throw new InvalidArgument(`${option}: ${(error as Error).message}`, { reason: "INVALID_FIELD", field: option, cause: error });
  }
}

function pathOf(method: { parent: { typeName: string }; name: string }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function serializer<D extends DescMessage>(schema: D) {
  return (message: MessageShape<D>): Buffer => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function deserializer<D extends DescMessage>(schema: D) {
  return (bytes: Buffer): MessageShape<D> => fromBinary(schema, bytes, { readUnknownFields: false });
}
