//! `/metrics`: asks the engine for its numbers at the moment of the scrape.
use crate::{
    engine::QueueView,
    listen::Refused,
    model::{
        state::State,
        worker::{WorkerState, WorkerView},
    },
    store::StoreInfo,
    telemetry::scrape::Scrape,
};

use super::{STORE_PATIENCE, Shared};

/// The text of one scrape. Never fails: what the store does not answer is left out, and `store_up` says so.
pub(super) async fn text(shared: &Shared) -> String {
    let mut scrape = Scrape::new(&shared.names);
    scrape.add("ready", &[], f64::from(u8::from(shared.unready().await.is_none())));
    let mut store = None;
    if let Some(engine) = shared.engine.get() {
        let asked = tokio::time::timeout(STORE_PATIENCE, async {
            Ok::<_, crate::store::StoreError>((engine.store_info().await?, engine.queues(None).await?))
        });
        if let Ok(Ok((info, queues))) = asked.await {
            add_queues(&mut scrape, &queues, engine.wall_ms());
            store = Some(info);
        }
        scrape.add("store_up", &[], f64::from(u8::from(store.is_some())));
        add_workers(&mut scrape, &engine.workers());
        for counter in engine.counters() {
            let labels: Vec<&str> = counter.labels.iter().map(String::as_str).collect();
            scrape.add(counter.name, &labels, counter.value as f64);
        }
    }
    add_store(&mut scrape, store.as_ref());
    for (listener, stats) in shared.listeners.get().into_iter().flatten() {
        scrape.add("connections", &[listener], stats.open() as f64);
        scrape.add("accept_errors_total", &[listener], stats.accept_errors() as f64);
        for why in Refused::ALL {
            scrape.add("connections_refused_total", &[listener, why.name()], stats.refused(why) as f64);
        }
    }
    scrape.text()
}

fn add_store(scrape: &mut Scrape<'_>, store: Option<&StoreInfo>) {
    let kind = store.map_or("unknown", |store| store.kind);
    let commit = option_env!("JOBWIRE_COMMIT").unwrap_or("unknown");
    scrape.add("build_info", &[env!("CARGO_PKG_VERSION"), commit, kind], 1.0);
    if let Some(store) = store {
        scrape.add("durability_info", &[store.durability.name()], 1.0);
        scrape.add("store_bytes", &[], store.bytes as f64);
        scrape.add("store_full", &[], f64::from(u8::from(store.full)));
        scrape.add("store_warnings", &[], store.warnings.len() as f64);
    }
}

fn add_queues(scrape: &mut Scrape<'_>, queues: &[QueueView], wall_ms: i64) {
    for queue in queues {
        let name = queue.facts.name.as_str();
        for state in State::ALL {
            scrape.add("jobs", &[name, &state.name().to_lowercase()], queue.facts.count(state) as f64);
        }
        let waited_ms = queue.facts.oldest_ready_ms.map_or(0, |since| (wall_ms - since).max(0));
        scrape.add("queue_latency_seconds", &[name], waited_ms as f64 / 1_000.0);
        scrape.add("queue_paused", &[name], f64::from(u8::from(queue.facts.pause.is_some())));
        scrape.add("worker_slots", &[name, "busy"], f64::from(queue.slots_busy));
        scrape.add("worker_slots", &[name, "free"], f64::from(queue.slots.saturating_sub(queue.slots_busy)));
        for (kind, jobs) in &queue.unhandled {
            scrape.add("unhandled_jobs", &[name, kind], *jobs as f64);
        }
    }
}

fn add_workers(scrape: &mut Scrape<'_>, workers: &[WorkerView]) {
    scrape.add("streams", &[], workers.len() as f64);
    for worker in workers {
        let state = match worker.state {
            WorkerState::Active => "active",
            WorkerState::Quiet => "quiet",
            WorkerState::Draining => "draining",
        };
        scrape.add("workers", &[state, sdk(&worker.info.sdk)], 1.0);
    }
}

/// Workers write what they like here; the label's values are closed.
fn sdk(name: &str) -> &'static str {
    ["rust", "python", "node"].into_iter().find(|known| name.contains(known)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::Rates,
        model::{queue::QueueFacts, worker::WorkerInfo},
        store::Durability,
        telemetry::scrape::Names,
    };

    #[test]
    fn queues_are_described_by_state_latency_and_slots() {
        let mut counts = [0; 11];
        counts[State::Ready as usize] = 12;
        let view = QueueView {
            shards: 1,
            facts: QueueFacts {
                name: "mail".parse().expect("a name"),
                pause: None,
                config: None,
                throttled_ms: None,
                counts,
                oldest_ready_ms: Some(1_000),
            },
            rates: Rates::default(),
            workers: 1,
            slots: 10,
            slots_busy: 3,
            unhandled: vec![("mail.x".to_owned(), 2)],
        };
        let names = Names::default();
        let mut scrape = Scrape::new(&names);
        add_queues(&mut scrape, &[view], 3_500);
        let text = scrape.text();
        for line in [
            "jobwire_jobs{queue=\"mail\",state=\"ready\"} 12",
            "jobwire_jobs{queue=\"mail\",state=\"dead\"} 0",
            "jobwire_queue_latency_seconds{queue=\"mail\"} 2.5",
            "jobwire_queue_paused{queue=\"mail\"} 0",
            "jobwire_worker_slots{queue=\"mail\",state=\"free\"} 7",
            "jobwire_worker_slots{queue=\"mail\",state=\"busy\"} 3",
            "jobwire_unhandled_jobs{queue=\"mail\",type=\"mail.x\"} 2",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_durability_level_is_named_and_an_sdk_cannot_invent_labels() {
        let names = Names::default();
        let mut scrape = Scrape::new(&names);
        let info = StoreInfo::own("embedded", Durability::EmbeddedFsync, 42, false);
        add_store(&mut scrape, Some(&info));
        let text = scrape.text();
        assert!(text.contains("\njobwire_durability_info{level=\"embedded-fsync\"} 1\n"), "{text}");
        assert!(text.contains("\njobwire_store_bytes 42\n"), "{text}");
        let info = WorkerInfo { sdk: "jobwire-python".to_owned(), ..WorkerInfo::default() };
        assert_eq!(sdk(&info.sdk), "python");
        assert_eq!(sdk("evil-4711"), "other");
    }
}
