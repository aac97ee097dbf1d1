//! Changes of many items: count first, show samples, ask; then bounded calls with progress, ended cleanly by Ctrl-C.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use jobwire_proto::v1::{BulkResult, Selector};

use super::{
    confirm::confirm,
    exit::{Exit, Failure},
    output::{Format, Output},
    text,
};

/// Which jobs a command is about.
#[derive(clap::Args, Clone, Debug)]
pub struct Select {
    /// Ids
    #[arg(value_name = "ID", required_unless_present = "filter")]
    pub ids: Vec<String>,
    /// All that match instead, as "state = DEAD AND queue = mail"; * = all there are
    #[arg(long, conflicts_with = "ids")]
    pub filter: Option<String>,
    #[command(flatten)]
    pub bounds: Bounds,
}

/// How far to go.
#[derive(clap::Args, Clone, Debug)]
pub struct Bounds {
    /// Count, show samples, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Change at most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// What is done, in words.
pub struct Words {
    /// `Cancel`
    pub verb: &'static str,
    /// `cancelled`
    pub done: &'static str,
}

/// One bounded call.
pub struct Call {
    pub selector: Selector,
    pub dry_run: bool,
    pub limit: i32,
    pub continue_token: String,
}

/// Ids in one call.
const IDS: usize = 1_000;
/// Items in one call: few enough for progress to be seen.
const STEP: u64 = 1_000;
/// Items counted in one dry run.
const COUNT_STEP: u64 = 10_000;

/// Runs a bulk change to its end, and prints what it did. `name` is the response message, which holds a `result`.
pub async fn run(
    out: &Output,
    name: &str,
    words: &Words,
    select: Select,
    mut call: impl AsyncFnMut(Call) -> Result<BulkResult, Failure>,
) -> Result<Exit, Failure> {
    let bounds = &select.bounds;
    let chunks: Vec<Selector> = match &select.filter {
        Some(filter) => vec![Selector { filter: filter.clone(), ids: Vec::new() }],
        None => select.ids.chunks(IDS).map(|ids| Selector { ids: ids.to_vec(), filter: String::new() }).collect(),
    };
    let mut expected = None;
    if bounds.dry_run || select.filter.is_some() {
        let stop = Stop::default();
        let counted = repeat(&chunks, bounds.limit, COUNT_STEP, true, &stop, &mut call, |_| {}).await?;
        if bounds.dry_run {
            return finish(out, name, &counted, &format!("would be {}; nothing was changed", words.done), true);
        }
        if counted.matched_count == 0 {
            return finish(out, name, &counted, words.done, false);
        }
        let sample = counted.sample_ids.iter().take(3).map(|id| format!("  {id}\n")).collect::<String>();
        let count = text::number(counted.matched_count);
        if !confirm(&format!("{count} match, such as\n{sample}{} them?", words.verb), bounds.yes)? {
            eprintln!("Nothing was changed.");
            return Ok(Exit::Done);
        }
        expected = Some(counted.matched_count as u64);
    }
    let stop = Stop::listen();
    let bar = expected.filter(|expected| *expected > STEP).map(progress_bar);
    let done = repeat(&chunks, bounds.limit, STEP, false, &stop, &mut call, |so_far| {
        if let Some(bar) = &bar {
            bar.set_position(so_far.affected_count as u64);
        }
    })
    .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let done = done?;
    let exit = finish(out, name, &done, words.done, false)?;
    if stop.asked() && !done.continue_token.is_empty() {
        eprintln!("Interrupted: the rest was not touched.");
        return Ok(Exit::Interrupted);
    }
    Ok(exit)
}

/// Calls until nothing is left, `limit` is reached or a stop was asked for. Adds everything up.
async fn repeat(
    chunks: &[Selector],
    limit: Option<u64>,
    step: u64,
    dry_run: bool,
    stop: &Stop,
    call: &mut impl AsyncFnMut(Call) -> Result<BulkResult, Failure>,
    mut tell: impl FnMut(&BulkResult),
) -> Result<BulkResult, Failure> {
    let mut total = BulkResult::default();
    'all: for selector in chunks {
        let mut continue_token = String::new();
        loop {
            let counted = if dry_run { total.matched_count } else { total.affected_count } as u64;
            let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(counted));
            if left == 0 || stop.asked() {
                total.continue_token = continue_token;
                break 'all;
            }
            let limit = left.min(step) as i32;
            let one = Call { selector: selector.clone(), dry_run, limit, continue_token };
            let answer = call(one).await.map_err(|failure| so_far(failure, &total, dry_run))?;
            continue_token = answer.continue_token.clone();
            add(&mut total, answer);
            tell(&total);
            if continue_token.is_empty() {
                break;
            }
        }
    }
    Ok(total)
}

fn add(total: &mut BulkResult, part: BulkResult) {
    total.matched_count += part.matched_count;
    total.affected_count += part.affected_count;
    total.sample_ids.extend(part.sample_ids);
    total.sample_ids.truncate(100);
    total.errors.extend(part.errors);
    total.errors.truncate(100);
    total.continue_token = part.continue_token;
}

fn so_far(failure: Failure, total: &BulkResult, dry_run: bool) -> Failure {
    if dry_run || total.affected_count == 0 {
        return failure;
    }
    Failure::new(
        failure.exit,
        format!("{}\n{} had been changed before", failure.message, text::number(total.affected_count)),
    )
}

/// Prints the sum. The exit code is that of the first item that could not be changed.
fn finish(out: &Output, name: &str, result: &BulkResult, done: &str, dry_run: bool) -> Result<Exit, Failure> {
    match out.format {
        Format::Table => {
            let count = if dry_run { result.matched_count } else { result.affected_count };
            out.line(&format!("{} {done}", text::number(count)))?;
            if dry_run {
                result.sample_ids.iter().take(3).try_for_each(|id| out.line(&format!("  {id}")))?;
            }
        }
        Format::Json | Format::Jsonl => out.json(name, &Wrapped { result: Some(result.clone()) })?,
        Format::Id => result.sample_ids.iter().try_for_each(|id| out.line(id))?,
    }
    let mut exit = Exit::Done;
    for (place, item) in result.errors.iter().enumerate() {
        let error = item.error.clone().unwrap_or_default();
        if place == 0 {
            exit = Exit::of(tonic::Code::from(error.code));
        }
        if place < 10 {
            eprintln!("{}: {} [{}]", item.id, text::line(&error.message), error.reason);
        }
    }
    if result.errors.len() > 10 {
        eprintln!("and {} more", result.errors.len() - 10);
    }
    Ok(exit)
}

/// The shape that all bulk responses share.
#[derive(Clone, PartialEq, prost::Message)]
struct Wrapped {
    #[prost(message, optional, tag = "1")]
    result: Option<BulkResult>,
}

fn progress_bar(expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len}  {eta}").expect("a valid template");
    let bar = ProgressBar::new(expected).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// The first Ctrl-C asks for a stop between two calls, the second ends the program.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn listen() -> Self {
        let stop = Self::default();
        let asked = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                asked.0.store(true, Relaxed);
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
        });
        stop
    }

    fn asked(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with `left` matching items that answers in pages.
    async fn changed(left: &mut i32, call: Call) -> Result<BulkResult, Failure> {
        let now = call.limit.min(*left);
        if !call.dry_run {
            *left -= now;
        }
        let more = if call.dry_run { false } else { *left > 0 };
        Ok(BulkResult {
            matched_count: now,
            affected_count: if call.dry_run { 0 } else { now },
            continue_token: if more { "more".into() } else { String::new() },
            ..BulkResult::default()
        })
    }

    fn everything() -> [Selector; 1] {
        [Selector { filter: "*".into(), ids: Vec::new() }]
    }

    #[tokio::test]
    async fn calls_go_on_until_nothing_is_left() {
        let mut left = 2_500;
        let mut calls = 0;
        let mut call = async |call: Call| {
            calls += 1;
            changed(&mut left, call).await
        };
        let done = repeat(&everything(), None, STEP, false, &Stop::default(), &mut call, |_| {}).await.expect("done");
        assert_eq!((done.affected_count, done.continue_token.as_str(), calls), (2_500, "", 3));
    }

    #[tokio::test]
    async fn a_limit_is_kept_over_several_calls() {
        let mut left = 5_000;
        let mut call = async |call: Call| changed(&mut left, call).await;
        let done = repeat(&everything(), Some(1_500), STEP, false, &Stop::default(), &mut call, |_| {}).await;
        assert_eq!(done.expect("done").affected_count, 1_500);
    }

    #[tokio::test]
    async fn a_stop_ends_between_two_calls() {
        let mut left = 5_000;
        let stop = Stop::default();
        let mut call = async |call: Call| changed(&mut left, call).await;
        let done = repeat(&everything(), None, STEP, false, &stop, &mut call, |_| stop.0.store(true, Relaxed)).await;
        let done = done.expect("done");
        assert_eq!((done.affected_count, done.continue_token.as_str()), (1_000, "more"));
    }

    #[tokio::test]
    async fn a_failure_says_how_far_it_came() {
        let mut left = 5_000;
        let mut call = async |one: Call| match left {
            5_000 => changed(&mut left, one).await,
            _ => Err(Failure::new(Exit::Unreachable, "gone")),
        };
        let failure = repeat(&everything(), None, STEP, false, &Stop::default(), &mut call, |_| {}).await;
        assert_eq!(failure.expect_err("failed").message, "gone\n1,000 had been changed before");
    }
}
