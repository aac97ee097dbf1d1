//! One connection: TCP, TLS or a socket, then who we are, then whether the server is one to work with.
use std::{io::Cursor, path::Path, sync::Arc, time::Duration};

use futures::future::select_ok;
use redis::{
    AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo, Value,
    aio::MultiplexedConnection,
    io::tcp::socket2::{SockRef, TcpKeepalive},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::fault::Fault;
use crate::store::redis::{
    health::Facts,
    target::{Addr, Secret, Target, Tls, Topology},
};

/// Longest time until a connection may be used.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time that an answer is waited for. What was asked may still be done after that.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that wait for the socket of one connection.
const BUFFER: usize = 512;

/// A connection that was opened.
pub(crate) struct Dialed {
    pub(crate) conn: MultiplexedConnection,
    /// Ends when the connection does. Dropping it ends nothing: answers under way still come.
    pub(crate) closed: JoinHandle<()>,
    /// What the server said of itself; empty where it must not be asked.
    pub(crate) facts: Facts,
}

/// Where pushed messages go.
pub(crate) type PushSink = Arc<dyn Fn(PushInfo) -> Result<(), ()> + Send + Sync>;

/// Opens connections the way the target says.
pub(crate) struct Dialer {
    target: Target,
}

impl Dialer {
    pub(crate) fn new(target: Target) -> Self {
        Self { target }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// To a server that takes writes: the master's role, nothing being loaded, the kind of server that the URL promises.
    pub(crate) async fn master(&self, addr: &Addr) -> Result<Dialed, Fault> {
        let mut dialed = within(self.open(addr, self.target.password.as_ref(), None)).await?;
        let info = redis::cmd("INFO");
        match dialed.conn.send_packed_command(&info).await.map_err(|error| Fault::of(&error))? {
            Value::BulkString(text) => dialed.facts = Facts::read(&String::from_utf8_lossy(&text)),
            // Without the right to ask, the first write tells.
            Value::ServerError(error) if error.code() == "NOPERM" => {}
            Value::ServerError(error) => return Err(Fault::said(&error)),
            other => return Err(Fault::Gone(format!("INFO answered {other:?}"))),
        }
        dialed.facts.serves(matches!(self.target.topology, Topology::Cluster(_)))?;
        Ok(dialed)
    }

    /// To a server of which anything is asked: a node of a cluster, for the map.
    pub(crate) async fn node(&self, addr: &Addr) -> Result<Dialed, Fault> {
        within(self.open(addr, self.target.password.as_ref(), None)).await
    }

    /// For channels: what is pushed goes to the sink, the end of the connection too.
    pub(crate) async fn pushed(&self, addr: &Addr, sink: PushSink) -> Result<Dialed, Fault> {
        within(self.open(addr, self.target.password.as_ref(), Some(sink))).await
    }

    /// To a sentinel. Those without a password of their own may still want the servers'.
    pub(crate) async fn sentinel(&self, addr: &Addr) -> Result<Dialed, Fault> {
        within(async {
            let dialed = self.open(addr, self.target.sentinel_password.as_ref(), None).await?;
            let own = self.target.sentinel_password.is_some() || self.target.password.is_none();
            let mut conn = dialed.conn.clone();
            match conn.send_packed_command(&redis::cmd("PING")).await.map_err(|error| Fault::of(&error))? {
                Value::ServerError(error) if error.code() == "NOAUTH" && !own => {
                    self.open(addr, self.target.password.as_ref(), None).await
                }
                Value::ServerError(error) => Err(Fault::said(&error)),
                _ => Ok(dialed),
            }
        })
        .await
    }

    async fn open(&self, addr: &Addr, password: Option<&Secret>, push: Option<PushSink>) -> Result<Dialed, Fault> {
        match addr {
            Addr::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| Fault::io("no connection", error))?;
                self.greet(stream, password, push).await
            }
            Addr::Tcp { host, port } => {
                let stream = connect(host, *port).await.map_err(|error| Fault::io("no connection", error))?;
                let alive =
                    TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
                // Refused = the system's own, hours instead of seconds.
                _ = SockRef::from(&stream).set_tcp_keepalive(&alive.with_retries(3));
                _ = stream.set_nodelay(true);
                let Some(tls) = &self.target.tls else { return self.greet(stream, password, push).await };
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| Fault::Wrong(format!("`{host}` cannot be the name on a certificate")))?;
                let connector = TlsConnector::from(Arc::new(client_config(tls).await?));
                let stream = connector.connect(name, stream).await.map_err(|error| {
                    // rustls says what is wrong with a certificate; everything else may pass.
                    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                        Some(inner) => Fault::Wrong(format!("TLS: {inner}")),
                        None => Fault::io("TLS", error),
                    }
                })?;
                self.greet(stream, password, push).await
            }
        }
    }

    /// Logs in and takes the database.
    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        password: Option<&Secret>,
        push: Option<PushSink>,
    ) -> Result<Dialed, Fault> {
        let mut config =
            AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT)).set_pipeline_buffer_size(BUFFER);
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let pushed = push.is_some();
        if let Some(sink) = push {
            config = config.set_push_sender(move |push| sink(push));
            info = info.set_protocol(ProtocolVersion::RESP3);
            if let Some(password) = password {
                info = info.set_username(self.user()).set_password(password.reveal());
            }
        }
        let (mut conn, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(|error| Fault::of(&error))?;
        let closed = tokio::spawn(driver);

        let mut hello = redis::pipe();
        if let (Some(password), false) = (password, pushed) {
            hello.cmd("AUTH").arg(self.user()).arg(password.reveal());
        }
        if self.target.db != 0 {
            hello.cmd("SELECT").arg(self.target.db);
        }
        let count = hello.len();
        // For whoever reads CLIENT LIST; without the right to say so it stays unsaid.
        hello.cmd("CLIENT").arg("SETNAME").arg("jobwire");
        let answers = conn.send_packed_commands(&hello, 0, count + 1).await.map_err(|error| Fault::of(&error))?;
        for answer in answers.into_iter().take(count) {
            if let Value::ServerError(error) = answer {
                let fault = Fault::said(&error);
                return Err(match error.code() {
                    "LOADING" | "BUSY" | "MASTERDOWN" => fault,
                    _ if fault.is_denial() => fault,
                    // Such as a database that is not there, or a password that nobody asked for.
                    _ => Fault::Wrong(fault.words()),
                });
            }
        }
        Ok(Dialed { conn, closed, facts: Facts::default() })
    }

    fn user(&self) -> &str {
        self.target.user.as_deref().unwrap_or("default")
    }
}

/// To the fastest of the addresses that the name stands for: one that swallows everything must not use up the time.
async fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let tries: Vec<_> = lookup_host((host, port)).await?.map(|addr| Box::pin(TcpStream::connect(addr))).collect();
    if tries.is_empty() {
        return Err(std::io::Error::other("the name stands for no address"));
    }
    select_ok(tries).await.map(|(stream, _)| stream)
}

/// The end of a [`CONNECT_TIMEOUT`] is a fault like any other.
async fn within(work: impl Future<Output = Result<Dialed, Fault>>) -> Result<Dialed, Fault> {
    match tokio::time::timeout(CONNECT_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Gone(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Trust and identity, from the files as they are now.
async fn client_config(tls: &Tls) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path).await? {
                roots.add(certificate).map_err(|error| wrong(path, error))?;
            }
        }
        None => {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
                .await
                .map_err(|error| Fault::io("TLS", error))?;
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(Fault::Wrong("TLS: this machine trusts nobody; name a file with ?ca=FILE".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Wrong(format!("TLS: {error}")))?
        .with_root_certificates(roots);
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates(cert).await?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(|error| wrong(key, error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| wrong(cert, error))
        }
    }
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = CertificateDer::pem_reader_iter(Cursor::new(read(path).await?)).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(wrong(path, "there is no certificate in it")),
        found => found.map_err(|error| wrong(path, error)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    tokio::fs::read(path).await.map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> Fault {
    Fault::Wrong(format!("{}: {error}", path.display()))
}
