// A TCP proxy that can be cut: a network that fails.
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class Proxy {
  readonly #sockets = new Set<Socket>();
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(readonly server: Server) {}

  static async to(url: string): Promise<Proxy> {
    const { hostname, port } = new URL(url);
    const proxy: Proxy = new Proxy(
      createServer((near) => {
        proxy.accepted += 1;
        const far = connect(Number(port), hostname);
        for (const [from, into] of [[near, far], [far, near]] as const) {
          proxy.#sockets.add(from);
          from.on("error", () => {});
          from.on("close", () => (proxy.#sockets.delete(from), into.destroy()));
          from.pipe(into);
        }
      }),
    );
    await new Promise<void>((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `jobwire://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Breaks every connection; new ones are accepted. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.server.close();
    this.cut();
  }
}
