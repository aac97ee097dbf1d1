//! Memory and CPU of this process, for the dashboard. Zeros where the platform does not tell.

use std::time::Instant;

/// Remembers the last reading, because CPU is a rate.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    last: Option<(Instant, u64)>,
}

impl Vitals {
    /// Resident bytes, and per cent of one core since the last call.
    pub fn read(&mut self, now: Instant) -> (i64, f64) {
        let Some((resident_pages, ticks)) = read_proc() else { return (0, 0.0) };
        let percent = self.last.map_or(0.0, |(then, before)| {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            // 100 ticks a second: a tick is one per cent of a second.
            if seconds > 0.0 { ticks.saturating_sub(before) as f64 / seconds } else { 0.0 }
        });
        self.last = Some((now, ticks));
        (resident_pages * 4_096, percent)
    }
}

/// Resident pages, and CPU ticks so far.
fn read_proc() -> Option<(i64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((fields.get(21)?.parse().ok()?, ticks))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let (rss, percent) = Vitals::default().read(Instant::now());
        assert!(rss > 100_000, "{rss}");
        assert_eq!(percent, 0.0);
    }
}
