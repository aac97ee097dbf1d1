//! What tonic decides by itself, in our words; health and reflection.
use jobwire_proto::v1;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::harness::{Server, job, refused, soon, text};

#[tokio::test]
async fn an_oversized_message_is_told_so_and_the_server_goes_on() {
    let server = Server::start().await;
    let huge = v1::JobSpec { payload: Some(text(&"x".repeat(3 << 20))), ..job("a") };
    let request = v1::EnqueueRequest { job: Some(huge), ..Default::default() };
    let mut jobs = server.jobs().max_encoding_message_size(8 << 20);
    refused(jobs.enqueue(request).await, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "");
    let one_more = v1::JobSpec { payload: Some(text(&"x".repeat((1 << 20) + 1))), ..job("a") };
    let request = v1::EnqueueRequest { job: Some(one_more), ..Default::default() };
    refused(jobs.enqueue(request).await, Code::InvalidArgument, "INVALID_FIELD", "job.payload");
    server.enqueue(job("a")).await;
}

#[tokio::test]
async fn what_is_to_come_says_so() {
    let server = Server::start().await;
    let explain = server.jobs().explain_job(v1::ExplainJobRequest::default()).await;
    refused(explain, Code::Unimplemented, "FEATURE_DISABLED", "");
    let config = v1::QueueConfig { durability: v1::Durability::Fast.into(), ..Default::default() };
    let request = v1::PutQueueRequest { name: "a".into(), config: Some(config), ..Default::default() };
    refused(server.queues().put_queue(request).await, Code::Unimplemented, "FEATURE_DISABLED", "config.durability");
    let delete = server.queues().delete_queue(v1::DeleteQueueRequest { name: "a".into() }).await;
    refused(delete, Code::Unimplemented, "FEATURE_DISABLED", "");
}

#[tokio::test]
async fn health_follows_the_handle() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in ["", "jobwire.v1.JobService", "jobwire.v1.WorkerService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.health.not_serving().await;
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    refused(soon(watch.message()).await, Code::Unavailable, "SHUTTING_DOWN", "");
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_knows_the_contract_in_both_versions() {
    use tokio_stream::iter;
    let server = Server::start().await;
    {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let answer = client.server_reflection_info(iter([ask])).await.unwrap().into_inner().message().await.unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.unwrap().message_response else {
            panic!("a list of services")
        };
        assert!(list.service.iter().any(|service| service.name == "jobwire.v1.WorkerService"), "{list:?}");
    }
    {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol("jobwire.v1.JobSpec".into())),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let answer = client.server_reflection_info(iter([ask])).await.unwrap().into_inner().message().await.unwrap();
        assert!(matches!(answer.unwrap().message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    }
}
