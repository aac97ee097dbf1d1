// jobwire/nest: a client to inject, and methods of providers as handlers. Needs `@nestjs/common` and `@nestjs/core`.
import { Inject, Logger as NestLogger, Module, SetMetadata, type DynamicModule, type ModuleMetadata, type Provider } from "@nestjs/common";
import { DiscoveryModule, DiscoveryService, MetadataScanner } from "@nestjs/core";
import { Client, type ClientOptions } from "./client.js";
import type { Handler } from "./runner.js";
import type { AnyTask, Task } from "./tasks.js";
import type { Logger } from "./types.js";
import { Worker } from "./worker.js";
import type { WorkerOptions } from "./worker-options.js";

/** Options of the module. */
export interface JobwireModuleOptions {
  /** How to reach the server. Default: the environment, as `new Client()`. */
  client?: ClientOptions;
  /**
   * Options of the worker that serves the methods marked with `@Handle`; `false` for processes that only enqueue. There is
   * none either when no method is marked. Signals are Nest's: call `app.enableShutdownHooks()`.
   */
  worker?: Omit<WorkerOptions, "signals"> | false;
}

/** Options that are made by a factory, with what it injects. */
export interface JobwireModuleAsyncOptions extends Pick<ModuleMetadata, "imports"> {
  /** Tokens of the factory's arguments. */
  inject?: NonNullable<Extract<Provider, { useFactory: unknown }>["inject"]>;
  useFactory(...injected: any[]): JobwireModuleOptions | Promise<JobwireModuleOptions>;
}

const OPTIONS = Symbol("jobwire.options");
const HOST = Symbol("jobwire.host");
const HANDLES = "jobwire:handles";

/** Injects the `Client` of the application; its class as a type does the same where TypeScript emits metadata. */
export const InjectJobwire = (): PropertyDecorator & ParameterDecorator => Inject(Client);

/** A method that handles a task: the compiler holds its parameters and its result to the task. */
export type HandlerMethod<Parsed, Returned> = <Method extends Handler<Parsed, Returned>>(
  target: object,
  name: string | symbol,
  descriptor: TypedPropertyDescriptor<Method>,
) => void;

/**
 * Marks a method of a provider as the handler of a task: it gets the input and the context. The provider must be a
 * singleton, which is the default; each task has one handler.
 *
 * ```ts
 * @Handle(sendMail)
 * async send(mail: Mail, ctx: Context) { … }
 * ```
 */
export function Handle<Parsed, Returned>(task: Task<any, any, Parsed, Returned>): HandlerMethod<Parsed, Returned> {
  return SetMetadata(HANDLES, task) as HandlerMethod<Parsed, Returned>;
}

/** The module: one client for the whole application, and one worker for its handlers. Import it once, in the root. */
export class JobwireModule {
  static forRoot(options: JobwireModuleOptions = {}): DynamicModule {
    return JobwireModule.#made([], { provide: OPTIONS, useValue: options });
  }

  static forRootAsync({ imports = [], inject = [], useFactory }: JobwireModuleAsyncOptions): DynamicModule {
    return JobwireModule.#made(imports, { provide: OPTIONS, inject, useFactory });
  }

  static #made(imports: NonNullable<ModuleMetadata["imports"]>, options: Provider): DynamicModule {
    return {
      module: JobwireModule,
      global: true,
      imports: [...imports, DiscoveryModule],
      providers: [
        options,
        { provide: Client, inject: [OPTIONS], useFactory: ({ client }: JobwireModuleOptions) => new Client(client) },
        {
          provide: HOST,
          inject: [Client, OPTIONS, DiscoveryService, MetadataScanner],
          useFactory: (...made: ConstructorParameters<typeof WorkerHost>) => new WorkerHost(...made),
        },
      ],
      exports: [Client],
    };
  }
}
Module({})(JobwireModule);

/** Starts the worker when the application is up, drains it when it goes down, and closes the client last. */
class WorkerHost {
  #worker: Worker | undefined;

  constructor(
    private readonly client: Client,
    private readonly options: JobwireModuleOptions,
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  onApplicationBootstrap(): void {
    const { worker: options = {} } = this.options;
    if (options === false) return;
    const worker = new Worker(this.client, { logger: nestLogger(), ...options, signals: false });
    let handlers = 0;
    for (const { task, handler } of this.#handlers()) {
      worker.handle(task, handler);
      handlers += 1;
    }
    if (handlers === 0) return;
    this.#worker = worker;
    // Refused by the server for good: an application that silently works off nothing would be worse than one that ends.
    worker.run().catch((error: unknown) => setImmediate(() => {
      throw error;
    }));
  }

  /** Before connections that handlers may use are closed. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.#worker?.stop();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.client.close();
  }

  *#handlers(): Generator<{ task: AnyTask; handler: Handler<any, unknown> }> {
    for (const wrapper of [...this.discovery.getProviders(), ...this.discovery.getControllers()]) {
      const { metatype } = wrapper;
      const prototype: object | undefined = typeof metatype === "function" ? (metatype.prototype as object | undefined) : undefined;
      if (!prototype || wrapper.isNotMetatype) continue;
      for (const name of this.scanner.getAllMethodNames(prototype)) {
        const method = (prototype as Record<string, unknown>)[name];
        const task = typeof method === "function" ? (Reflect.getMetadata(HANDLES, method) as AnyTask | undefined) : undefined;
        if (!task) continue;
        if (!wrapper.isDependencyTreeStatic()) {
          throw new Error(`${wrapper.name}.${name} handles ${task.name}, but its provider is not a singleton: give it the default scope`);
        }
        const instance = wrapper.instance as Record<string, Handler<any, unknown>>;
        yield { task, handler: (input, context) => instance[name]!(input, context) };
      }
    }
  }
}

function nestLogger(): Logger {
  const logger = new NestLogger("Jobwire");
  return {
    info: (message) => logger.log(message),
    warn: (message) => logger.warn(message),
    error: (message) => logger.error(message),
  };
}
