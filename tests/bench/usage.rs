//! What processes and the machine use, from procfs.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Ticks of /proc in a second; the kernel's ABI for user space.
const TICKS: f64 = 100.0;
/// The machine counts as quiet below this many busy cores.
const QUIET: f64 = 0.15;

/// CPU seconds of a process since its start, threads that have ended included.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// A process and all its descendants.
pub fn tree(pid: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == next).map(|(child, _)| *child));
        at += 1;
    }
    found
}

/// Resident bytes of a process.
pub fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// CPU seconds of the whole machine since its start.
fn machine_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    ticks.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, ticks)| ticks).sum::<f64>() / TICKS
}

/// Who used how many cores while something was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub seconds: f64,
    /// CPU seconds of the server, and of the Redis that it has.
    pub server: f64,
    /// CPU seconds of this process: producers and workers.
    pub generator: f64,
    /// CPU seconds of everything else on the machine, the kernel's own threads included.
    pub others: f64,
}

/// Measures a [`Load`] from its making to [`Meter::read`].
#[derive(Clone, Debug)]
pub struct Meter {
    server: Vec<u32>,
    begun: Instant,
    at_begin: [f64; 3],
}

impl Meter {
    pub fn start(server: Vec<u32>) -> Self {
        let at_begin = Self::now(&server);
        Self { server, begun: Instant::now(), at_begin }
    }

    pub fn read(&self) -> Load {
        let seconds = self.begun.elapsed().as_secs_f64();
        let now = Self::now(&self.server);
        let [server, generator, machine] = [0, 1, 2].map(|at| now[at] - self.at_begin[at]);
        Load { seconds, server, generator, others: (machine - server - generator).max(0.0) }
    }

    fn now(server: &[u32]) -> [f64; 3] {
        [server.iter().map(|&pid| cpu_seconds(pid)).sum(), cpu_seconds(std::process::id()), machine_seconds()]
    }
}

/// Waits until the machine is quiet, at most `patience`; the number of cores that were busy last.
pub async fn quiet(patience: Duration) -> f64 {
    let begun = Instant::now();
    loop {
        let (before, since) = (machine_seconds(), Instant::now());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let busy = (machine_seconds() - before) / since.elapsed().as_secs_f64();
        if busy < QUIET || begun.elapsed() > patience {
            return busy;
        }
    }
}

/// The type of the file system that `path` is on.
pub fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let deepest = mounts.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len());
    deepest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Median time of an append of 4 KiB with fdatasync in `dir`.
pub fn sync_time(dir: &Path) -> std::io::Result<Duration> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
