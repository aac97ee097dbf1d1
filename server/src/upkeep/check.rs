//! `store check`.
use std::sync::Arc;

use super::{LEASE_MS, Secrets, open};
use crate::{
    api::ProtoTasks,
    store::{Checked, Mend},
};

#[derive(clap::Args, Clone, Debug)]
pub struct Check {
    /// The store: embedded:DIR or redis://HOST:PORT/DB, as for serve [env: JOBWIRE_STORE]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// What its keys in Redis begin with [default: jobwire] [env: JOBWIRE_REDIS_PREFIX]
    #[arg(long, value_name = "WORD")]
    redis_prefix: Option<String>,
    #[command(flatten)]
    secrets: Secrets,
    /// Mend what can be mended beside servers at work
    #[arg(long)]
    repair: bool,
}

/// 0 = all agrees, or does now; 1 = something does not.
pub async fn run(check: Check) -> Result<u8, String> {
    let opened = open(check.store.as_deref(), check.redis_prefix.as_deref(), &check.secrets, None).await?;
    let tasks = check.repair.then(|| Arc::new(ProtoTasks) as _);
    let checked = opened.store.check(Mend { tasks, lease_ms: LEASE_MS }).await;
    opened.store.close().await;
    let checked = checked.map_err(|error| error.to_string())?;
    for found in &checked.found {
        match &found.mended {
            None => println!("{}", found.what),
            Some(Ok(done)) => println!("{}; mended: {done}", found.what),
            Some(Err(why)) => println!("{}; not mended: {why}", found.what),
        }
    }
    for skipped in &checked.skipped {
        eprintln!("jobwire: {skipped}");
    }
    println!("{}", summary(&opened.name, &checked));
    Ok(u8::from(checked.left() > 0))
}

fn summary(store: &str, checked: &Checked) -> String {
    let (found, left) = (checked.found.len(), checked.left());
    let verdict = match (found, left) {
        (0, _) => "all agrees".to_owned(),
        (found, 0) => format!("{found} did not agree, all mended"),
        (found, left) if left < found => format!("{found} did not agree, {left} of them still do not"),
        (found, _) => format!("{found} do not agree"),
    };
    format!("{store}: {} jobs looked at, {verdict}", checked.jobs)
}
