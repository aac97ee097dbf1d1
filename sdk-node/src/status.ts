// What travels in the trailer `grpc-status-details-bin`: google.rpc.Status with ErrorInfo, RetryInfo, BadRequest and
// ResourceInfo. Five small messages, read by hand rather than generated, because the contract does not import them.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { msOf } from "./duration.js";
import { CODE_NAMES, makeError, type Code, type ErrorDetails, type JobwireError } from "./errors.js";
import type { ItemError } from "./gen/jobwire/v1/common_pb.js";

/** Name of a status number; numbers that gRPC does not define count as UNKNOWN. */
export function codeOf(status: number): Code {
  return CODE_NAMES[status] ?? "UNKNOWN";
}

/** The error of a failed call. `details` is the value of `grpc-status-details-bin`, if there was one. */
export function errorOfStatus(status: number, message: string, details?: Uint8Array, cause?: unknown): JobwireError {
  let parsed: ErrorDetails = {};
  try {
    if (details) parsed = readStatus(details);
  } catch {
    // A proxy's own or a damaged trailer: code and message still tell the story.
  }
  return makeError(codeOf(status), message, { ...parsed, cause });
}

/** The error of one item inside a successful call. */
export function errorOfItem(item: ItemError): JobwireError {
  return makeError(codeOf(item.code), item.message, {
    reason: item.reason,
    field: item.field || undefined,
    retryDelay: msOf(item.retryDelay),
    metadata: item.metadata,
  });
}

type Visit = (field: number, reader: BinaryReader) => boolean;

/** Calls `visit` for each field; it answers whether it has read the value, otherwise the value is skipped. */
function walk(bytes: Uint8Array, visit: Visit): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType !== WireType.LengthDelimited || !visit(field, reader)) reader.skip(wireType, field);
  }
}

function readStatus(bytes: Uint8Array): ErrorDetails {
  const found: ErrorDetails = {};
  walk(bytes, (field, reader) => {
    if (field !== 3) return false;
    readAny(reader.bytes(), found);
    return true;
  });
  return found;
}

function readAny(bytes: Uint8Array, found: ErrorDetails): void {
  let type = "";
  let value: Uint8Array = new Uint8Array();
  walk(bytes, (field, reader) => {
    if (field === 1) type = reader.string();
    else if (field === 2) value = reader.bytes();
    else return false;
    return true;
  });
  switch (type.slice(type.lastIndexOf("/") + 1)) {
    case "google.rpc.ErrorInfo":
      walk(value, (field, reader) => {
        if (field === 1) found.reason = reader.string();
        else if (field === 3) readEntry(reader.bytes(), (found.metadata ??= {}));
        else return false;
        return true;
      });
      break;
    case "google.rpc.RetryInfo":
      walk(value, (field, reader) => {
        if (field !== 1) return false;
        found.retryDelay = readDuration(reader.bytes());
        return true;
      });
      break;
    case "google.rpc.BadRequest":
      walk(value, (field, reader) => {
        if (field !== 1) return false;
        walk(reader.bytes(), (inner, violation) => {
          if (inner !== 1) return false;
          found.field ??= violation.string();
          return true;
        });
        return true;
      });
      break;
    case "google.rpc.ResourceInfo":
      walk(value, (field, reader) => {
        if (field !== 2) return false;
        (found.metadata ??= {})["resource"] = reader.string();
        return true;
      });
      break;
  }
}

function readEntry(bytes: Uint8Array, into: Record<string, string>): void {
  let key = "";
  let value = "";
  walk(bytes, (field, reader) => {
    if (field === 1) key = reader.string();
    else if (field === 2) value = reader.string();
    else return false;
    return true;
  });
  into[key] = value;
}

function readDuration(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes);
  let seconds = 0n;
  let nanos = 0;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) seconds = BigInt(reader.int64());
    else if (field === 2) nanos = reader.int32();
    else reader.skip(wireType, field);
  }
  return msOf({ seconds, nanos });
}
