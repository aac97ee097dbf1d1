// Where the server is and how to prove who we are: options, then environment, then defaults.
import { InvalidArgument } from "./errors.js";

/** Connection options of a client. Each falls back to an environment variable. */
export interface ConnectionOptions {
  /**
   * `jobwire://host[:7420]`, `jobwires://` for TLS (`http`, `https` mean the same); a comma list names several
   * endpoints: a random one first, the next when one is unavailable. Default `JOBWIRE_URL`, then
   * `jobwire://127.0.0.1:7420`.
   */
  url?: string;
  /** Bearer token. Default `JOBWIRE_TOKEN`. */
  token?: string;
  /** File with the token, read again when the server refuses it; `token` wins. Default `JOBWIRE_TOKEN_FILE`. */
  tokenFile?: string;
  /** PEM file of the certificate authority. Default `JOBWIRE_CA_FILE`, then those that Node trusts. */
  caFile?: string;
  /** PEM file of the client certificate, with `keyFile`. Default `JOBWIRE_CERT_FILE`. */
  certFile?: string;
  /** PEM file of the client key, with `certFile`. Default `JOBWIRE_KEY_FILE`. */
  keyFile?: string;
  /** Send the token without TLS to hosts other than loopback. Default false. */
  allowPlaintextToken?: boolean;
}

/** The resolved form; plain data, so that it can cross to the session's thread. */
export interface Connection {
  /** `host:port` each. */
  endpoints: string[];
  tls: boolean;
  token: string | undefined;
  tokenFile: string | undefined;
  caFile: string | undefined;
  certFile: string | undefined;
  keyFile: string | undefined;
}

const DEFAULT_URL = "jobwire://127.0.0.1:7420";
const SCHEMES: Record<string, boolean> = { "jobwire:": false, "http:": false, "jobwires:": true, "https:": true };

/** Resolves options against `env`. Throws InvalidArgument that names the option. */
export function resolveConnection(options: ConnectionOptions = {}, env: NodeJS.ProcessEnv = process.env): Connection {
  const urls = (options.url ?? env["JOBWIRE_URL"] ?? "").trim() || DEFAULT_URL;
  const parsed = urls.split(",").map((url) => parseUrl(url.trim()));
  const tls = parsed[0]!.tls;
  if (parsed.some((endpoint) => endpoint.tls !== tls)) throw invalid("url", "endpoints with and without TLS cannot be mixed");
  // An empty variable is as good as none; what the code says wins over all of the environment.
  const fallback = (name: string): string | undefined => env[name] || undefined;
  const token = options.token ?? (options.tokenFile === undefined ? fallback("JOBWIRE_TOKEN") : undefined);
  const connection: Connection = {
    endpoints: parsed.map(({ host, port }) => `${host}:${port}`),
    tls,
    token,
    tokenFile: token === undefined ? (options.tokenFile ?? fallback("JOBWIRE_TOKEN_FILE")) : undefined,
    caFile: options.caFile ?? fallback("JOBWIRE_CA_FILE"),
    certFile: options.certFile ?? fallback("JOBWIRE_CERT_FILE"),
    keyFile: options.keyFile ?? fallback("JOBWIRE_KEY_FILE"),
  };
  const exposed = !tls && parsed.find(({ host }) => !isLoopback(host));
  if ((connection.token ?? connection.tokenFile) !== undefined && exposed && !options.allowPlaintextToken) {
    throw invalid("url", `a token would travel in clear to ${exposed.host}; use jobwires://, or set allowPlaintextToken`);
  }
  if ((connection.certFile === undefined) !== (connection.keyFile === undefined)) {
    throw invalid("certFile", "certFile and keyFile go together");
  }
  return connection;
}

function parseUrl(text: string): { host: string; port: string; tls: boolean } {
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `jobwire://${text}`);
  } catch {
    throw invalid("url", `${JSON.stringify(text)} is not a URL; write jobwire://host:7420`);
  }
  const tls = SCHEMES[url.protocol];
  if (tls === undefined) throw invalid("url", `${url.protocol}// is not known; write jobwire:// or jobwires://`);
  if (url.hostname === "") throw invalid("url", `${JSON.stringify(text)} names no host`);
  if (url.username || url.password) throw invalid("url", "credentials do not belong into the URL; use token or tokenFile");
  return { host: url.hostname, port: url.port || (text.match(/:(80|443)\/?$/)?.[1] ?? "7420"), tls };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\./.test(host);
}

function invalid(field: string, message: string): InvalidArgument {
  return new InvalidArgument(`${field}: ${message}`, { reason: "INVALID_FIELD", field });
}
