// The client of a Next.js application, for its server actions and route handlers.
// [client]
import { Client } from "jobwire";

const kept = globalThis as { jobwire?: Client };

/** One client, however often the development server loads this module anew. */
export const client = (kept.jobwire ??= new Client());
// [/client]
