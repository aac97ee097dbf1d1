// Certificates for a test, made by the openssl command: an authority, a server on this machine, a client, a stranger's
// authority.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Certificates {
  readonly folder = mkdtempSync(join(tmpdir(), "jobwire-tls-"));

  constructor() {
    this.#authority("ca");
    this.#authority("stranger");
    this.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
    this.issue("client", "extendedKeyUsage=clientAuth");
  }

  path(file: string): string {
    return join(this.folder, file);
  }

  read(file: string): Buffer {
    return readFileSync(this.path(file));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }

  #authority(name: string): void {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
    this.#openssl("req", "-x509", ...key, "-out", `${name}.pem`, "-days", "2", "-subj", `/CN=${name}`);
  }

  /** A certificate of the authority `ca`. */
  issue(name: string, extension: string): void {
    writeFileSync(this.path(`${name}.ext`), `${extension}\n`);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
    this.#openssl("req", ...key, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    const by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", `${name}.ext`];
    this.#openssl("x509", "-req", "-in", `${name}.csr`, ...by, "-out", `${name}.pem`, "-days", "2");
  }

  #openssl(...args: string[]): void {
    execFileSync("openssl", args, { cwd: this.folder, stdio: "pipe" });
  }
}
