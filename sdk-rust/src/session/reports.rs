//! Progress, checkpoints and log lines on their way: the latest progress wins, a job reports at most every 250 ms, and
//! at most 1 MiB of lines waits, the oldest being dropped.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use jobwire_proto::v1 as pb;
use prost::Message;

use super::lease::Token;

const INTERVAL: Duration = Duration::from_millis(250);
const LOG_BYTES_MAX: usize = 1 << 20;
/// A frame takes no more lines than this, so that nothing waits behind a large one.
const FRAME_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Reports {
    jobs: HashMap<Token, Pending>,
    log_bytes: usize,
}

#[derive(Debug, Default)]
struct Pending {
    progress: Option<pb::Progress>,
    checkpoint: Option<pb::Payload>,
    lines: VecDeque<pb::LogLine>,
    /// When it may be sent; None = nothing to send.
    due: Option<Instant>,
    sent: Option<Instant>,
}

/// What a handler had to say since it was last heard.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub progress: Option<pb::Progress>,
    /// For the next attempt, should this one never report an outcome.
    pub checkpoint: Option<pb::Payload>,
    pub lines: VecDeque<pb::LogLine>,
}

impl Reports {
    pub fn add(&mut self, token: &Token, news: News, now: Instant) {
        let pending = self.jobs.entry(token.clone()).or_default();
        if news.progress.is_some() {
            pending.progress = news.progress;
        }
        if news.checkpoint.is_some() {
            pending.checkpoint = news.checkpoint;
        }
        self.log_bytes += news.lines.iter().map(Message::encoded_len).sum::<usize>();
        pending.lines.extend(news.lines);
        while self.log_bytes > LOG_BYTES_MAX {
            let Some(dropped) = pending.lines.pop_front() else { break };
            self.log_bytes -= dropped.encoded_len();
        }
        pending.due = Some(pending.sent.map_or(now, |sent| now.max(sent + INTERVAL)));
    }

    pub fn next_at(&self) -> Option<Instant> {
        self.jobs.values().filter_map(|pending| pending.due).min()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The job ended and nothing of it is wanted.
    pub fn forget(&mut self, token: &str) {
        if let Some(pending) = self.jobs.remove(token) {
            self.log_bytes -= pending.lines.iter().map(Message::encoded_len).sum::<usize>();
        }
    }

    /// Writes what is due, and whatever is left of the jobs that `ended` names.
    pub fn write<'a>(
        &mut self,
        ended: impl Iterator<Item = &'a str>,
        now: Instant,
        frames: &mut Vec<pb::StreamJobsRequest>,
    ) {
        for token in ended {
            if let Some((token, mut pending)) = self.jobs.remove_entry(token) {
                self.log_bytes -= pending.take(&token, frames);
            }
        }
        for (token, pending) in &mut self.jobs {
            if pending.due.is_some_and(|due| due <= now) {
                pending.sent = Some(now);
                self.log_bytes -= pending.take(token, frames);
            }
        }
    }
}

impl Pending {
    /// Moves everything into the last frame, or further ones; gives the bytes of lines.
    fn take(&mut self, token: &Token, frames: &mut Vec<pb::StreamJobsRequest>) -> usize {
        self.due = None;
        let mut frame = frames.pop().unwrap_or_default();
        if self.progress.is_some() || self.checkpoint.is_some() {
            frame.progress.push(pb::ProgressReport {
                lease_token: token.to_string(),
                progress: self.progress.take(),
                checkpoint: self.checkpoint.take(),
            });
        }
        let bytes = self.lines.iter().map(Message::encoded_len).sum();
        while !self.lines.is_empty() {
            let mut room = FRAME_BYTES.saturating_sub(frame.logs.iter().map(Message::encoded_len).sum());
            let mut lines = Vec::new();
            while let Some(line) = self.lines.front() {
                let size = line.encoded_len();
                if size > room && !(lines.is_empty() && frame.logs.is_empty()) {
                    break;
                }
                room = room.saturating_sub(size);
                lines.extend(self.lines.pop_front());
            }
            if !lines.is_empty() {
                frame.logs.push(pb::LogReport { lease_token: token.to_string(), lines });
            }
            if !self.lines.is_empty() {
                frames.push(std::mem::take(&mut frame));
            }
        }
        frames.push(frame);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(size: usize) -> pb::LogLine {
        pb::LogLine { message: "x".repeat(size), ..Default::default() }
    }

    fn written(reports: &mut Reports, now: Instant) -> pb::StreamJobsRequest {
        let mut frames = vec![pb::StreamJobsRequest::default()];
        reports.write(std::iter::empty(), now, &mut frames);
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    #[test]
    fn latest_progress_wins_and_waits_250_ms() {
        let (mut reports, token, t0) = (Reports::default(), Token::from("t"), Instant::now());
        let progress = |percent| News {
            progress: Some(pb::Progress { percent: Some(percent), ..Default::default() }),
            ..Default::default()
        };
        reports.add(&token, progress(1.0), t0);
        assert_eq!(written(&mut reports, t0).progress.len(), 1);
        let later = t0 + Duration::from_millis(10);
        reports.add(&token, progress(2.0), later);
        reports.add(&token, progress(3.0), later);
        assert_eq!(reports.next_at(), Some(t0 + INTERVAL));
        assert!(written(&mut reports, later).progress.is_empty());
        let frame = written(&mut reports, t0 + INTERVAL);
        assert_eq!(frame.progress[0].progress.as_ref().and_then(|progress| progress.percent), Some(3.0));
        assert_eq!(reports.next_at(), None);
    }

    #[test]
    fn lines_beyond_1_mib_push_out_the_oldest() {
        let (mut reports, token, t0) = (Reports::default(), Token::from("t"), Instant::now());
        for _ in 0..300 {
            reports.add(&token, News { lines: VecDeque::from([line(8_000)]), ..Default::default() }, t0);
        }
        assert!(reports.log_bytes <= LOG_BYTES_MAX);
        let mut frames = vec![pb::StreamJobsRequest::default()];
        reports.write(std::iter::once("t"), t0, &mut frames);
        assert!(frames.len() > 3, "{} frames", frames.len());
        assert!(frames.iter().all(|frame| frame.encoded_len() <= FRAME_BYTES + 1_024));
        assert_eq!((reports.log_bytes, reports.is_empty()), (0, true));
    }
}
