// Classifiers: what errors of the usual libraries mean for a job, recognised by their shape.
import { NonRetryable, RetryAfter, type Directive } from "./directives.js";
import { responseOf, retryAfterMs, statusOf } from "./http-response.js";
import { isInstance } from "./thrown.js";

/**
 * Looks at an error and answers what should happen (the directive a handler would have thrown), or `undefined` when it
 * has no opinion: then the next one is asked. One that throws is as one without an opinion.
 */
export type Classifier = (error: unknown) => Directive | undefined;

/**
 * On by default: an error that carries an HTTP answer 429 or 503 with a Retry-After header is retried after it, not
 * before. Knows the errors of axios, got, ky, undici, superagent, most API clients, and a thrown `Response`.
 */
export const http: Classifier = (error) => {
  const response = responseOf(error);
  const status = response && statusOf(response);
  if (!response || (status !== 429 && status !== 503)) return undefined;
  const delay = retryAfterMs(response);
  return delay === undefined ? undefined : new RetryAfter(delay);
};

/** As `http`; other 4xx answers but 408 and 425 are not retried. */
export const httpStrict: Classifier = (error) => {
  const response = responseOf(error);
  const status = response && statusOf(response);
  const hopeless = status !== undefined && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  return hopeless ? new NonRetryable() : http(error);
};

const CONFLICTS = new Set<unknown>([
  "40001", "40P01", // PostgreSQL and CockroachDB: serialization_failure, deadlock_detected
  "ER_LOCK_DEADLOCK", // mysql, mysql2, mariadb
  "P2034", // Prisma: write conflict or deadlock
  "SQLITE_BUSY_SNAPSHOT",
]);
const MYSQL_DEADLOCK = 1213;
/** SQL Server: victim of a deadlock, conflict of snapshots. */
const MSSQL_CONFLICTS = new Set<unknown>([1205, 3960]);
const WRAPPERS = ["cause", "driverError", "original", "parent", "originalError"] as const;

/**
 * A deadlock or a serialisation failure of a database is retried after 100 ms to 1 s, drawn at random. Knows pg, mysql2,
 * mariadb, mssql, Prisma, and what Knex, TypeORM, Sequelize and Drizzle make of these.
 */
export const database: Classifier = (error) => (isConflict(error, 5) ? new RetryAfter(100 + Math.random() * 900) : undefined);

function isConflict(error: unknown, depth: number): boolean {
  if (typeof error !== "object" || error === null || depth === 0) return false;
  const { code, errno, number } = error as { code?: unknown; errno?: unknown; number?: unknown };
  if (CONFLICTS.has(code) || errno === MYSQL_DEADLOCK || MSSQL_CONFLICTS.has(number)) return true;
  return WRAPPERS.some((key) => isConflict((error as Record<string, unknown>)[key], depth - 1));
}

/** Errors after which another attempt is useless: these classes and their subclasses. */
export function noRetryOn(...classes: (new (...args: any[]) => Error)[]): Classifier {
  return (error) => (classes.some((Class) => isInstance(error, Class)) ? new NonRetryable() : undefined);
}
