//! Jobs that wait for others without a workflow.
use jobwire_proto::v1::{self, DependencyCondition, JobState};
use tonic::Code;

use super::harness::{Rig, job, on, on_job, refused, told, when};
use crate::on_every_store;

on_every_store!(
    a_job_waits_for_others,
    what_has_ended_is_not_waited_for,
    what_cannot_come_cancels_who_waits,
    a_restart_forgets_nobody_who_waits,
    only_jobs_that_are_there,
);

async fn a_job_waits_for_others(rig: &mut Rig) {
    let (a, b) = (rig.enqueue(job("wa")).await, rig.enqueue(job("wb")).await);
    let both = v1::JobSpec { depends_on: vec![on_job(&a), on_job(&b)], ..job("wc") };
    let c = rig.enqueue(both).await;
    let waiting = rig.job(&c).await;
    assert_eq!(waiting.state(), JobState::Blocked);
    assert_eq!(waiting.spec.expect("as accepted").depends_on.len(), 2);
    rig.succeed("wb").await;
    rig.succeed("wa").await;
    let lease = rig.succeed("wc").await;
    let passed: Vec<&str> = lease.dependencies.iter().map(|each| told(&each.result)).collect();
    assert_eq!(passed, ["\"wa\"", "\"wb\""], "in declared order");
    rig.until_job(&c, JobState::Succeeded).await;
    super::harness::until("they are kept like any other again", async || {
        rig.job(&a).await.purge_time.is_some() && rig.job(&c).await.purge_time.is_some()
    })
    .await;
    rig.recount().await;
}

async fn what_has_ended_is_not_waited_for(rig: &mut Rig) {
    let a = rig.enqueue(job("wa")).await;
    rig.fail("wa").await;
    let after = v1::JobSpec { depends_on: vec![when(DependencyCondition::Failed, on_job(&a))], ..job("wb") };
    rig.enqueue(after).await;
    assert_eq!(rig.succeed("wb").await.dependencies[0].state(), JobState::Dead);
}

async fn what_cannot_come_cancels_who_waits(rig: &mut Rig) {
    let a = rig.enqueue(job("wa")).await;
    let b = rig.enqueue(v1::JobSpec { depends_on: vec![on_job(&a)], ..job("wb") }).await;
    let c = rig.enqueue(v1::JobSpec { depends_on: vec![on_job(&b)], ..job("wc") }).await;
    rig.fail("wa").await;
    let cancelled = rig.until_job(&c, JobState::Cancelled).await;
    assert_eq!(cancelled.failure.expect("why").kind(), v1::FailureKind::Dependency);
}

async fn a_restart_forgets_nobody_who_waits(rig: &mut Rig) {
    let a = rig.enqueue(job("wa")).await;
    let spec = v1::JobSpec { id: uuid::Uuid::now_v7().to_string(), depends_on: vec![on_job(&a)], ..job("wb") };
    let b = rig.enqueue(spec.clone()).await;
    assert_eq!(rig.enqueue(spec).await, b, "a repeat is the same job");
    rig.restart().await;
    rig.succeed("wa").await;
    rig.restart().await;
    rig.succeed("wb").await;
    rig.until_job(&b, JobState::Succeeded).await;
}

async fn only_jobs_that_are_there(rig: &mut Rig) {
    let nobody = uuid::Uuid::now_v7().to_string();
    let ask = async |depends_on| {
        let job = Some(v1::JobSpec { depends_on: vec![depends_on], ..job("wa") });
        rig.jobs().enqueue(v1::EnqueueRequest { job, ..Default::default() }).await
    };
    let missing = ask(on_job(&nobody)).await;
    refused(missing, Code::FailedPrecondition, "DEPENDENCY_NOT_FOUND", "job.depends_on[0]");
    refused(ask(on("x")).await, Code::InvalidArgument, "INVALID_FIELD", "job.depends_on[0]");
}
