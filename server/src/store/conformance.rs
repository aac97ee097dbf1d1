//! What every store must do, as code: one function per topic, run on each store by `store_conformance!`. Only documented
//! behaviour of [`Store`](super::Store) is used, in virtual time: nothing sleeps.
//!
//! A harness hands out a fresh store with a clock that is moved by hand. After each topic the store's own recount must
//! agree, and a durable store must show the same jobs after it was opened again.
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::SharedStore;
use crate::model::time::{Clock, Now};

pub mod admin;
pub mod bounds;
pub mod cancels;
pub mod claims;
pub mod grid;
pub mod keys;
pub mod kit;
pub mod leases;
pub mod lockstep;
pub mod puts;
pub mod queues;
pub mod records;
pub mod timing;
pub mod trims;
pub mod turns;

pub use kit::Kit;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    mono_ms: AtomicI64,
}

impl Default for ManualClock {
    /// Some day in 2025; the monotonic clock has run for a while.
    fn default() -> Self {
        Self { wall_ms: AtomicI64::new(1_750_000_000_000), mono_ms: AtomicI64::new(1_000_000) }
    }
}

impl ManualClock {
    /// Time passes.
    pub fn advance(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.mono_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; the monotonic one goes on.
    pub fn step_wall(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms.load(Ordering::SeqCst), mono_ms: self.mono_ms.load(Ordering::SeqCst) }
    }
}

/// A store to be tested.
#[async_trait]
pub trait Harness: Send {
    fn store(&self) -> SharedStore;

    /// The clock that the store was given.
    fn clock(&self) -> &ManualClock;

    /// Closes the store and opens it again on the same data: the life that every running job's lease then has, in
    /// milliseconds. `None` = this store does not outlive its process; nothing happened.
    async fn reopen(&mut self) -> Option<i64>;
}

/// Runs one topic and then holds the store against itself.
pub async fn run(harness: impl Harness + 'static, topic: impl AsyncFnOnce(&mut Kit)) {
    let mut kit = Kit::new(Box::new(harness));
    topic(&mut kit).await;
    kit.check().await;
}

/// One test per topic, for the harness that the given async function makes.
#[macro_export]
macro_rules! store_conformance {
    ($make:path) => {
        $crate::store_conformance! { @each $make;
            grid::every_state_act_and_guard,
            grid::a_job_that_is_not_there,
            puts::ready_or_scheduled_by_the_start,
            puts::a_repeat_changes_nothing,
            puts::a_large_batch_is_answered_in_order,
            claims::arrival_order_within_priority,
            claims::the_bottom_does_not_starve,
            claims::bodies_are_bounded_but_the_first_fits,
            claims::more_is_exact,
            claims::a_lease_carries_what_its_worker_needs,
            claims::expired_jobs_are_skipped,
            claims::nothing_from_an_unknown_queue,
            leases::a_lapsed_lease_goes_back,
            leases::naming_it_takes_the_job_and_the_crash_back,
            leases::late_work_counts_until_another_has_the_job,
            leases::a_delivery_lease_is_short_until_named,
            leases::extending_never_shortens,
            leases::a_renewal_wins_over_the_reaper,
            leases::given_back_jobs_come_first,
            leases::an_outcome_settles_once,
            leases::crashes_are_charged_only_when_started,
            cancels::a_running_job_is_asked_to_stop,
            cancels::nothing_runs_it_again,
            cancels::success_that_comes_first_stands,
            cancels::asking_again_only_shortens,
            timing::scheduled_jobs_become_due,
            timing::retries_count_and_wait,
            timing::expiry_ends_with_the_first_start,
            timing::a_deadline_ends_what_waits,
            timing::due_is_ordered_and_bounded,
            timing::the_next_entry_is_exact,
            timing::the_wall_clock_cannot_end_a_lease,
            timing::a_timer_is_raised_when_something_is_earlier,
            admin::retry_starts_afresh,
            admin::retry_cuts_off_old_leases,
            admin::retry_into_another_queue_later,
            admin::patch_moves_waiting_jobs,
            admin::patch_changes_the_start,
            admin::patch_replaces_the_body,
            admin::delete_forgets_everything,
            admin::versions_guard_changes,
            records::documents_compare_and_swap,
            records::documents_become_due,
            records::a_document_and_its_jobs_are_written_together,
            records::logs_are_numbered_and_trimmed,
            records::history_is_bounded_and_newest_first,
            records::a_snooze_keeps_the_failure,
            records::progress_and_checkpoint_replace,
            records::effects_are_recorded_once,
            records::a_closed_store_says_so,
            queues::a_paused_queue_hands_out_nothing,
            queues::pauses_end_by_themselves,
            queues::facts_are_exact,
            queues::wakes_on_the_edge_only,
            queues::lists_page_without_gaps,
            bounds::a_configuration_stays_until_the_next,
            bounds::no_more_run_than_may,
            bounds::starts_keep_to_the_rate,
            bounds::a_full_queue_takes_no_more,
            bounds::as_many_ended_ones_are_kept_as_may,
            keys::a_job_holds_its_key_until_it_ends,
            keys::two_in_one_call_are_one,
            keys::a_key_until_the_start_is_free_once_handed_out,
            keys::a_key_for_a_time_outlives_its_job,
            keys::a_request_is_remembered_by_its_key,
            keys::a_retry_needs_its_key,
            keys::the_last_waits_behind_the_one_at_work,
            keys::a_successor_is_changed_and_ends_by_itself,
            keys::the_key_passes_on_however_its_holder_ends,
            keys::a_successor_counts_in_the_depth,
            trims::records_go_when_their_time_is_up,
            trims::the_oldest_go_when_there_are_too_many,
        }
    };
    // Stores that know fairness keys.
    (turns $make:path) => {
        $crate::store_conformance! { @each $make;
            turns::keys_take_turns,
            turns::keys_that_come_to_a_queue_without_any,
            turns::heavier_keys_have_more_turns,
            turns::priorities_count_within_a_key,
            turns::a_key_at_its_limit_blocks_nobody,
            turns::each_key_keeps_to_the_rate,
            turns::the_queues_bounds_come_first,
            turns::a_throttle_holds_its_key_back,
            turns::a_throttle_holds_its_queue_back,
            turns::resuming_ends_a_throttle,
            turns::an_open_throttle_is_no_burst,
            turns::a_key_stays_with_its_job,
            turns::many_keys_that_come_and_go,
            turns::lists_show_all_keys_in_order,
        }
    };
    (@each $make:path; $($module:ident :: $topic:ident,)*) => {
        $(
            #[tokio::test]
            async fn $topic() {
                use $crate::store::conformance;
                conformance::run($make().await, conformance::$module::$topic).await;
            }
        )*
    };
}
