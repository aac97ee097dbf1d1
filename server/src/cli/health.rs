//! `health` and `version`.
use jobwire_proto::v1::GetServerInfoRequest;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    Context,
    connect::request,
    exit::{Exit, Failure},
    text,
};

/// Exit code 0 if the server takes calls, 1 if it says that it does not, 4 if it does not answer.
pub async fn health(context: &Context) -> Result<Exit, Failure> {
    let server = context.server().await?;
    let mut client = HealthClient::new(server.channel());
    let answer = server.ask(client.check(request(HealthCheckRequest { service: String::new() }))).await?;
    let serving = answer.status() == ServingStatus::Serving;
    context.out.line(if serving { "serving" } else { "not serving" })?;
    Ok(if serving { Exit::Done } else { Exit::Unsuccessful })
}

/// This program's version, and the server's if one answers. Always 0.
pub async fn version(context: &Context) -> Result<Exit, Failure> {
    context.out.line(&format!("jobwire {}", env!("CARGO_PKG_VERSION")))?;
    let asked = async {
        let server = context.server().await?;
        server.ask(server.admin().get_server_info(request(GetServerInfoRequest {}))).await
    };
    if let Ok(info) = asked.await {
        let up = info.uptime.map(text::words).unwrap_or_default();
        let facts = format!("server {}, store {}, durability {}, up {up}", info.version, info.store, info.durability);
        context.out.line(&text::line(&facts))?;
    }
    Ok(Exit::Done)
}
