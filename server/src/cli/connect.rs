//! Finding a server and calling it.
use std::{future::Future, time::Duration};

use jobwire_proto::v1::{
    admin_service_client::AdminServiceClient, job_service_client::JobServiceClient,
    queue_service_client::QueueServiceClient, schedule_service_client::ScheduleServiceClient,
    workflow_service_client::WorkflowServiceClient,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use super::exit::{Exit, Failure};

/// Where a server listens if nothing else is said.
pub const DEFAULT_URL: &str = "jobwire://127.0.0.1:7420";
const DEFAULT_PORT: u16 = 7420;
/// Time to reach one address.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Answers may hold a page of whole jobs.
const ANSWER_BYTES: usize = 256 << 20;

/// A connected server.
#[derive(Clone)]
pub struct Server {
    channel: Channel,
    /// Longest time for one answer.
    patience: Duration,
    /// HOST:PORT, for messages.
    pub address: String,
}

impl Server {
    /// Connects to the first address of the list that answers.
    pub async fn connect(urls: &str, patience: Duration) -> Result<Self, Failure> {
        let addresses = urls.split(',').map(address).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
        let mut cause = None;
        for address in &addresses {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|_| Failure::usage(format!("`{address}` is not HOST:PORT")))?
                .connect_timeout(CONNECT_PATIENCE.min(patience))
                .tcp_nodelay(true);
            match endpoint.connect().await {
                Ok(channel) => return Ok(Self { channel, patience, address: address.clone() }),
                Err(error) => cause = Some(error),
            }
        }
        let mut message = format!("No Jobwire server at {}. Start one: jobwire dev", addresses.join(" or "));
        if let Some(cause) = cause.as_ref().filter(|cause| !is_refused(*cause)) {
            message.push_str(&format!("\n({})", root(cause)));
        }
        Err(Failure::new(Exit::Unreachable, message))
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    pub fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    pub fn workflows(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for one answer.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
        self.ask_within(self.patience, call).await
    }

    /// Waits for the answer of a call that itself waits for `wait` on the server.
    pub async fn ask_waiting<T>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.ask_within(wait + self.patience, call).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failure(status)),
            Err(_) => {
                let waited = crate::duration::format(patience);
                let message = format!("{} did not answer within {waited}; whether it acted is unknown", self.address);
                Err(Failure::new(Exit::Unreachable, message))
            }
        }
    }

    /// What a status means. Without details it is not from the server: the connection broke.
    pub fn failure(&self, status: Status) -> Failure {
        if status.code() == Code::Unavailable && status.details().is_empty() {
            let message = format!("The server at {} went away ({})", self.address, status.message());
            return Failure::new(Exit::Unreachable, message);
        }
        status.into()
    }
}

/// A message as a request. Reads better than `Request::new` in a chain.
pub fn request<T>(message: T) -> Request<T> {
    Request::new(message)
}

/// HOST:PORT of one URL.
fn address(url: &str) -> Result<String, String> {
    let url = url.trim();
    let rest = match url.split_once("://") {
        Some(("jobwire" | "http", rest)) => rest,
        Some(("jobwires" | "https", _)) => {
            return Err(format!("`{url}` asks for TLS, which this version of the command line does not speak"));
        }
        Some(_) => return Err(format!("`{url}` is not a server; write jobwire://HOST:PORT")),
        None => url,
    };
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', '?', ' ']) {
        return Err(format!("`{url}` is not a server; write jobwire://HOST:PORT"));
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:{DEFAULT_PORT}") })
}

fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        at = error.source();
    }
    false
}

/// The innermost cause, which says most.
fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_addresses() {
        for (url, expected) in [
            (DEFAULT_URL, "127.0.0.1:7420"),
            ("jobwire://mail.example", "mail.example:7420"),
            ("http://h:1/", "h:1"),
            ("h:1", "h:1"),
            (" h ", "h:7420"),
            ("jobwire://[::1]", "[::1]:7420"),
            ("jobwire://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(address(url).as_deref(), Ok(expected), "{url}");
        }
        for bad in ["", "redis://x", "jobwires://x", "jobwire://a/b", "jobwire://u:p@h"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
