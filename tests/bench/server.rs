//! A release server in a process of its own, and what it says about itself.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use jobwire::Client;
use jobwire_proto::v1::{
    self as pb, admin_service_client::AdminServiceClient, job_service_client::JobServiceClient,
    queue_service_client::QueueServiceClient, schedule_service_client::ScheduleServiceClient,
    worker_service_client::WorkerServiceClient,
};
use jobwire_redis_rig::{Append, Redis, Settings};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Failure, phases::Setting, redis::SLOW_US, usage};

/// Where servers keep their jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// In the process: gone with it
    Memory,
    /// In a directory
    Embedded,
    /// In a Redis that is started for each server
    Redis,
}

/// The store of one server.
enum Store {
    Memory,
    Embedded,
    Redis(Redis),
}

/// A server on a data directory that goes with it.
pub struct Server {
    program: PathBuf,
    dir: TempDir,
    store: Store,
    child: Child,
    pub address: SocketAddr,
    channel: Channel,
    /// From before the process was started to the line that says it is ready.
    pub start_time: Duration,
}

impl Server {
    /// Starts a server on an empty store.
    pub async fn start(setting: &Setting) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("jobwire-bench-").tempdir_in(&setting.dir)?;
        let store = match setting.place {
            Place::Memory => Store::Memory,
            Place::Embedded => Store::Embedded,
            Place::Redis => Store::Redis(redis(setting)),
        };
        let launched = launch(&setting.program, dir.path(), &store)?;
        Ok(Self::of(setting.program.clone(), dir, store, launched))
    }

    fn of(
        program: PathBuf,
        dir: TempDir,
        store: Store,
        (child, address, start_time): (Child, SocketAddr, Duration),
    ) -> Self {
        let channel = Endpoint::from(uri(address)).tcp_nodelay(true).connect_lazy();
        Self { program, dir, store, child, address, channel, start_time }
    }

    /// Ends the process with SIGKILL and starts another one on the same data.
    pub async fn kill_and_start(mut self) -> Result<Self, Failure> {
        self.end();
        let launched = launch(&self.program, self.dir.path(), &self.store)?;
        let (program, dir) = (std::mem::take(&mut self.program), std::mem::replace(&mut self.dir, TempDir::new()?));
        let store = std::mem::replace(&mut self.store, Store::Memory);
        Ok(Self::of(program, dir, store, launched))
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's process, and that of its Redis.
    pub fn pids(&self) -> Vec<u32> {
        [self.pid()].into_iter().chain(self.redis().map(Redis::pid)).collect()
    }

    /// Its Redis, if it has one.
    pub fn redis(&self) -> Option<&Redis> {
        if let Store::Redis(redis) = &self.store { Some(redis) } else { None }
    }

    /// Producers, without an SDK.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// Workers, without an SDK.
    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    /// Queues, without an SDK.
    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
    }

    /// Schedules, without an SDK.
    pub fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel.clone())
    }

    pub fn rss_bytes(&self) -> u64 {
        usage::rss_bytes(self.pid())
    }

    /// Bytes of the store's files, the reserve that it keeps for a full disk not counted.
    pub fn disk_bytes(&self) -> Result<u64, Failure> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.dir.path().join("data"))? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().contains("ballast") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }

    /// An SDK client with a connection of its own.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(format!("jobwire://{}", self.address))?)
    }

    pub async fn info(&self) -> Result<pb::GetServerInfoResponse, Failure> {
        let mut admin = AdminServiceClient::new(self.channel.clone());
        Ok(admin.get_server_info(pb::GetServerInfoRequest::default()).await?.into_inner())
    }

    /// Numbers of one queue.
    pub async fn queue(&self, name: &str) -> Result<pb::QueueStats, Failure> {
        let request = pb::GetQueueRequest { name: name.to_owned() };
        let queue = self.queues().get_queue(request).await?.into_inner().queue;
        Ok(queue.and_then(|queue| queue.stats).unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn uri(address: SocketAddr) -> http::Uri {
    format!("http://{address}").parse().expect("an address makes a URI")
}

/// A Redis of its own, that remembers slow calls.
pub fn redis(setting: &Setting) -> Redis {
    let append = if setting.always { Append::Always } else { Append::EverySec };
    let settings = Settings::new().append(append).set("slowlog-log-slower-than", &SLOW_US.to_string());
    Redis::start(settings.set("slowlog-max-len", "1000"))
}

fn launch(program: &Path, dir: &Path, store: &Store) -> Result<(Child, SocketAddr, Duration), Failure> {
    let mut command = Command::new(program);
    command.args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--store").arg(match store {
        Store::Memory => "memory".to_owned(),
        Store::Embedded => format!("embedded:{}", dir.join("data").display()),
        Store::Redis(redis) => redis.url(),
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::options().create(true).append(true).open(dir.join("log"))?);
    let begun = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let start_time = begun.elapsed();
    let ready: serde_json::Value = serde_json::from_str(&line).map_err(|_| {
        let _ = child.kill();
        format!("the server did not start: {}", std::fs::read_to_string(dir.join("log")).unwrap_or_default())
    })?;
    let address = ready["listening"].as_str().and_then(|text| text.parse().ok());
    Ok((child, address.ok_or("no address in the ready line")?, start_time))
}
