// UUIDv7: 48 bits of Unix milliseconds, then random bits. The server overwrites 12 of them with the job's place.
import { randomFillSync } from "node:crypto";

const POOL = Buffer.allocUnsafe(16 * 128);
let used = POOL.length;

/** A new UUID of version 7. */
export function uuidv7(now = Date.now()): string {
  if (used === POOL.length) {
    randomFillSync(POOL);
    used = 0;
  }
  const bytes = POOL.subarray(used, (used += 16));
  bytes.writeUIntBE(now, 0, 6);
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
