// [primes]
import type { Context } from "jobwire";

/** Counts primes below `limit`: seconds of work for one CPU. */
export default function primes({ limit }: { limit: number }, ctx: Context): number {
  let count = 0;
  for (let n = 2; n < limit; n++) {
    if (n % 1_000 === 0 && ctx.cancelled) ctx.signal.throwIfAborted();
    let prime = true;
    for (let d = 2; d * d <= n && prime; d++) prime = n % d !== 0;
    if (prime) count += 1;
  }
  return count;
}
// [/primes]
