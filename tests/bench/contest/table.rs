//! What the comparison should show, and what it has shown.

use super::{
    Phase,
    system::{Peer, Sdk, System},
};
use crate::figures::number;

/// One figure of one round.
#[derive(Clone, Debug)]
pub struct Measured {
    pub system: System,
    pub round: usize,
    pub figure: Figure,
    pub value: f64,
    /// CPU seconds per second of producer, worker and store, where a rate is.
    pub cores: Option<[f64; 3]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Rate(Phase),
    P50,
    P99,
    WorkerRss,
}

impl Figure {
    const ALL: [Self; 8] = [
        Self::Rate(Phase::One),
        Self::Rate(Phase::Callers),
        Self::Rate(Phase::Many),
        Self::Rate(Phase::Drain),
        Self::Rate(Phase::EndToEnd),
        Self::P50,
        Self::P99,
        Self::WorkerRss,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Rate(Phase::One) => "enqueue, one awaited at a time (jobs/s)",
            Self::Rate(Phase::Callers) => "enqueue, 256 callers at once (jobs/s)",
            Self::Rate(Phase::Many) => "enqueue many (jobs/s)",
            Self::Rate(Phase::Drain) => "drain of a filled queue (jobs/s)",
            Self::Rate(Phase::EndToEnd | Phase::Latency) => "producer and worker at once (jobs/s)",
            Self::P50 => "enqueue to handler, p50 (ms)",
            Self::P99 => "enqueue to handler, p99 (ms)",
            Self::WorkerRss => "worker after the drain, resident (MB)",
        }
    }
}

/// At least, or at most, so many times the peer's figure.
#[derive(Clone, Copy, Debug)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", number(least)),
            Self::AtMost(most) => format!("≤ {}", number(most)),
        }
    }

    fn reached(self, value: f64) -> &'static str {
        let reached = match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        };
        if reached { "yes" } else { "**no**" }
    }
}

/// What the ratio of an SDK's figure to a peer's should be.
fn ratio_target(sdk: Sdk, peer: Peer, figure: Figure) -> Option<Target> {
    use Figure::{P50, P99, Rate, WorkerRss};
    use Target::{AtLeast, AtMost};
    Some(match (sdk, peer, figure) {
        (Sdk::Python, Peer::Celery, Rate(Phase::One)) => AtLeast(1.5),
        (Sdk::Python, Peer::Celery, Rate(Phase::Many)) => AtLeast(20.0),
        (Sdk::Python, Peer::Celery, Rate(Phase::Drain)) => AtLeast(12.0),
        (Sdk::Python, Peer::Taskiq, Rate(Phase::Drain)) => AtLeast(5.0),
        (Sdk::Python, Peer::Celery, Rate(Phase::EndToEnd)) => AtLeast(10.0),
        (Sdk::Python, Peer::Celery, P50 | P99 | WorkerRss) => AtMost(0.5),
        (Sdk::Node, Peer::Bullmq, Rate(Phase::One)) => AtLeast(0.45),
        (Sdk::Node, Peer::Bullmq, Rate(Phase::Many)) => AtLeast(3.0),
        (Sdk::Node, Peer::Bullmq, Rate(Phase::Drain | Phase::EndToEnd)) => AtLeast(2.0),
        (Sdk::Node, Peer::Bullmq, P50 | P99) => AtMost(0.6),
        (Sdk::Node, Peer::Bullmq, WorkerRss) => AtMost(1.0),
        _ => return None,
    })
}

/// What an SDK's figure itself should be.
fn own_target(sdk: Sdk, figure: Figure) -> Option<Target> {
    use Target::{AtLeast, AtMost};
    Some(match (sdk, figure) {
        (Sdk::Python, Figure::Rate(Phase::Callers)) => AtLeast(15_000.0),
        (Sdk::Node, Figure::Rate(Phase::Callers)) => AtLeast(30_000.0),
        (Sdk::Rust, Figure::Rate(Phase::One)) => AtLeast(5_000.0),
        (Sdk::Rust, Figure::Rate(Phase::Callers)) => AtLeast(40_000.0),
        (Sdk::Rust, Figure::Rate(Phase::Many)) => AtLeast(120_000.0),
        (Sdk::Rust, Figure::Rate(Phase::Drain)) => AtLeast(60_000.0),
        (Sdk::Rust, Figure::Rate(Phase::EndToEnd)) => AtLeast(35_000.0),
        (Sdk::Rust, Figure::P50) => AtMost(0.6),
        (Sdk::Rust, Figure::P99) => AtMost(2.0),
        _ => return None,
    })
}

/// Peers that users of an SDK come from.
pub fn rivals(sdk: Sdk) -> &'static [Peer] {
    match sdk {
        Sdk::Python => &[Peer::Celery, Peer::Taskiq],
        Sdk::Node => &[Peer::Bullmq],
        Sdk::Rust => &[],
    }
}

/// Prints medians of all rounds, and of the ratios within each.
pub fn print(measured: &[Measured], sdks: &[Sdk], peers: &[Peer]) {
    println!();
    println!("| figure | SDK | cores: producer, worker, store | peer | cores | ratio | target | reached |");
    println!("|---|---|---|---|---|---|---|---|");
    for &sdk in sdks {
        for figure in Figure::ALL {
            let Some(own) = median(measured, System::Jobwire(sdk), figure) else { continue };
            let head = format!("| {}, {} | {} | {} |", sdk.name(), figure.title(), number(own.value), cores(&own));
            let against: Vec<Peer> = rivals(sdk).iter().copied().filter(|peer| peers.contains(peer)).collect();
            let target = own_target(sdk, figure);
            if target.is_some() || against.is_empty() {
                let (text, reached) = target.map_or_else(Default::default, |t| (t.text(), t.reached(own.value)));
                println!("{head} | | | {text} | {reached} |");
            }
            for peer in against {
                let Some(theirs) = median(measured, System::Peer(peer), figure) else { continue };
                let mut ratios: Vec<f64> = pairs(measured, sdk, peer, figure);
                ratios.sort_by(f64::total_cmp);
                let ratio = ratios[ratios.len() / 2];
                let target = ratio_target(sdk, peer, figure);
                let (text, reached) =
                    target.map_or_else(Default::default, |t| (format!("{} ×", t.text()), t.reached(ratio)));
                let theirs_text = format!("{} {}", peer.name(), number(theirs.value));
                println!("{head} {theirs_text} | {} | {ratio:.2} | {text} | {reached} |", cores(&theirs));
            }
        }
    }
    println!("\ncores: CPU seconds per second. ratio: the SDK's figure over the peer's, round by round.");
}

fn of(measured: &[Measured], system: System, figure: Figure) -> impl Iterator<Item = &Measured> {
    measured.iter().filter(move |one| one.system == system && one.figure == figure)
}

fn median(measured: &[Measured], system: System, figure: Figure) -> Option<Measured> {
    let mut all: Vec<&Measured> = of(measured, system, figure).collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    all.get(all.len() / 2).copied().cloned()
}

fn pairs(measured: &[Measured], sdk: Sdk, peer: Peer, figure: Figure) -> Vec<f64> {
    let ours = of(measured, System::Jobwire(sdk), figure);
    let theirs: Vec<&Measured> = of(measured, System::Peer(peer), figure).collect();
    ours.filter_map(|own| Some(own.value / theirs.iter().find(|their| their.round == own.round)?.value)).collect()
}

fn cores(one: &Measured) -> String {
    one.cores.map_or_else(String::new, |cores| cores.map(|cores| format!("{cores:.2}")).join(", "))
}
