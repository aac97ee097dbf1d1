//! Every limit in one place. Advertised in Welcome and GetServerInfo; an SDK checks before it sends.
//!
//! I22: nothing without a limit.
use super::time::DAY;

/// What the server enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub payload_bytes: usize,
    pub result_bytes: usize,
    pub checkpoint_bytes: usize,
    pub headers: usize,
    pub headers_bytes: usize,
    pub tags: usize,
    pub tag_bytes: usize,
    pub dependencies: usize,
    pub progress_bytes: usize,
    pub log_line_bytes: usize,
    pub log_lines: usize,
    pub message_bytes: usize,
    pub outcomes: usize,
    pub slots: usize,
    pub jobs_per_call: usize,
    pub workflow_call_bytes: usize,
    pub workflow_nodes: usize,
    pub ids: usize,
    pub filter_bytes: usize,
    pub page_size: usize,
    pub delay_ms: i64,
    pub timeout_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 1 << 20,
            result_bytes: 1 << 20,
            checkpoint_bytes: 64 << 10,
            headers: 64,
            headers_bytes: 8 << 10,
            tags: 16,
            tag_bytes: 64,
            dependencies: 1_000,
            progress_bytes: 4 << 10,
            log_line_bytes: 8 << 10,
            log_lines: 10_000,
            message_bytes: 3 << 20,
            outcomes: 1_000,
            slots: 10_000,
            jobs_per_call: 1_000,
            workflow_call_bytes: 1 << 20,
            workflow_nodes: 1_000_000,
            ids: 1_000,
            filter_bytes: 2 << 10,
            page_size: 1_000,
            delay_ms: 3_653 * DAY,
            timeout_ms: 30 * DAY,
        }
    }
}

/// A failure's message is cut to this.
pub const FAILURE_MESSAGE_BYTES: usize = 4 << 10;
/// A failure's stack trace is cut in the middle to this.
pub const FAILURE_STACK_BYTES: usize = 32 << 10;
/// Causes kept below a failure.
pub const FAILURE_DEPTH: usize = 5;
/// Attempts kept in a job's history.
pub const ATTEMPTS_KEPT: u32 = 25;
/// A failure's type and message are cut to this in the history, so that 25 attempts fit in 4 KiB.
pub const ATTEMPT_MESSAGE_BYTES: usize = 96;
/// Jobs in one frame to a worker are bounded by this many bytes; one larger job travels alone.
pub const FRAME_BYTES: usize = 256 << 10;
/// Jobs in one call to the store.
pub const STORE_BATCH: usize = 500;
/// Records that one ListJobs or bulk call examines at most.
pub const EXAMINED: usize = 5_000;
/// Items that one bulk call changes: default and most.
pub const BULK_DEFAULT: usize = 1_000;
pub const BULK_MOST: usize = 10_000;
/// Ids and errors that a bulk answer lists.
pub const BULK_SAMPLE: usize = 100;
