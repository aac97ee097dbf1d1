//! The gRPC edge: reads requests into the model (`convert`), calls [`Engine`], writes the answers. One file per service;
//! `status.rs` is the only place that makes an error, `layer.rs` wraps every call.
use jobwire_proto::{
    DESCRIPTOR_SET,
    v1::{
        admin_service_server::AdminServiceServer, job_service_server::JobServiceServer,
        queue_service_server::QueueServiceServer, schedule_service_server::ScheduleServiceServer,
        worker_service_server::WorkerServiceServer, workflow_service_server::WorkflowServiceServer,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::engine::Engine;

mod admin;
mod convert;
mod jobs;
mod layer;
mod queues;
mod schedules;
mod status;
mod stream;
mod workers;
mod workflows;

pub use convert::spec::ProtoTasks;
pub use layer::Guarded;

/// What a handler answers, in tonic's words.
type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: convert::Parsed<T>) -> Answer<T> {
    result.map(Response::new).map_err(Status::from)
}

/// How the requests of a unary call are checked.
fn unary(engine: &Engine) -> convert::Ctx<'_> {
    convert::Ctx { limits: engine.limits(), now_ms: engine.wall_ms(), strict: true }
}

/// How the frames of a stream are checked.
fn streaming(engine: &Engine) -> convert::Ctx<'_> {
    convert::Ctx { strict: false, ..unary(engine) }
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// Names that health checks ask for; the empty one stands for the whole server.
pub const SERVICES: [&str; 7] = [
    "",
    "jobwire.v1.JobService",
    "jobwire.v1.WorkerService",
    "jobwire.v1.QueueService",
    "jobwire.v1.AdminService",
    "jobwire.v1.ScheduleService",
    "jobwire.v1.WorkflowService",
];

/// What health checks are told. Every service starts as SERVING.
pub struct Health {
    reporter: HealthReporter,
    draining: CancellationToken,
}

impl Health {
    /// The server is about to stop. Health checks say NOT_SERVING; calls and streams that wait for something end with
    /// UNAVAILABLE, so that clients go to another server. Workers' streams are the engine's to end.
    pub async fn not_serving(&self) {
        for service in SERVICES {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.draining.cancel();
    }
}

/// All services behind one tower service, to be mounted on a listener.
pub async fn services(engine: Engine) -> (Guarded<Routes>, Health) {
    let draining = CancellationToken::new();
    let most = engine.limits().message_bytes;
    let (reporter, health_server) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    macro_rules! mount {
        ($($server:ident($service:expr)),+ $(,)?) => { $(
            let server = $server::new($service).max_decoding_message_size(most).max_encoding_message_size(most);
            reporter.set_service_status(name_of(&server), ServingStatus::Serving).await;
            routes.add_service(server);
        )+ };
    }
    mount!(
        JobServiceServer(jobs::Jobs::new(engine.clone(), draining.clone())),
        WorkerServiceServer(workers::Workers::new(engine.clone())),
        QueueServiceServer(queues::Queues::new(engine.clone())),
        ScheduleServiceServer(schedules::Schedules::new(engine.clone())),
        WorkflowServiceServer(workflows::Workflows::new(engine.clone(), draining.clone())),
        AdminServiceServer(admin::Admin::new(engine)),
    );
    routes.add_service(health_server);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Error details, so that generic clients can show them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(reflection().build_v1().expect("the descriptor set is part of the program"));
    routes.add_service(reflection().build_v1alpha().expect("the descriptor set is part of the program"));
    (Guarded::new(routes.routes().prepare(), draining.clone()), Health { reporter, draining })
}
