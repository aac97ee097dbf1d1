//! TLS, client certificates and tokens, against servers that insist on them.

use std::path::{Path, PathBuf};

use jobwire::prelude::*;
use jobwire::{Code, RawCtx};
use jobwire_proto::v1 as pb;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::script::{Answering, Seen, answer, serve, serve_with, soon};

/// A certificate authority, and what it signed, as PEM files.
struct Papers {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Papers {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let papers = Self { dir: TempDir::new().expect("a directory"), ca };
        papers.write("ca.pem", &papers.ca.pem());
        papers
    }

    /// Certificate and key, PEM.
    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let cert = params.signed_by(&key, &self.ca).expect("signed");
        (cert.pem(), key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn server(&self) -> ServerTlsConfig {
        let (cert, key) = self.signed("127.0.0.1");
        ServerTlsConfig::new().identity(Identity::from_pem(cert, key))
    }
}

fn accepting() -> Answering {
    Answering {
        enqueue: answer(|request: pb::EnqueueRequest| async move {
            Ok(pb::EnqueueResponse { job_id: request.job.expect("a job").id, status: 1, ..Default::default() })
        }),
        ..Default::default()
    }
}

fn client(url: &str, ca: Option<&Path>) -> jobwire::ClientBuilder {
    let builder = Client::builder().url(url).timeout(millis(500));
    match ca {
        Some(ca) => builder.ca_file(ca),
        None => builder,
    }
}

async fn enqueue(client: jobwire::ClientBuilder) -> Result<(), Error> {
    let client = client.build()?;
    client.enqueue_raw("any", &serde_json::json!({})).await.map(drop)
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_by_nobody_elses() {
    let papers = Papers::new();
    let mut server = serve_with(accepting(), Some(papers.server())).await;
    enqueue(client(&server.url, Some(&papers.ca_file()))).await.expect("trusted");
    let error = enqueue(client(&server.url, Some(&Papers::new().ca_file()))).await.expect_err("a stranger");
    assert_eq!(error.code(), Some(Code::Unavailable));
    enqueue(client(&server.url, None)).await.expect_err("not among the system's");
    let worker = Worker::builder(client(&server.url, Some(&papers.ca_file())).build().expect("a client"));
    let run = tokio::spawn(worker.handle_raw("any", |ctx: RawCtx| async move { Ok(ctx.payload().clone()) }).run());
    let mut conn = soon("stream", server.workers.recv()).await.expect("a stream");
    conn.welcome(pb::Welcome::default()).await;
    run.abort();
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let papers = Papers::new();
    let tls = papers.server().client_ca_root(Certificate::from_pem(papers.ca.pem()));
    let server = serve_with(accepting(), Some(tls)).await;
    enqueue(client(&server.url, Some(&papers.ca_file()))).await.expect_err("nothing shown");
    let (cert, key) = papers.signed("worker");
    let (cert, key) = (papers.write("cert.pem", &cert), papers.write("key.pem", &key));
    enqueue(client(&server.url, Some(&papers.ca_file())).identity_files(cert, key)).await.expect("shown");
}

#[tokio::test]
async fn files_that_are_missing_are_named() {
    let papers = Papers::new();
    let server = serve_with(accepting(), Some(papers.server())).await;
    let error = enqueue(client(&server.url, Some(Path::new("no/such/ca.pem")))).await.expect_err("no file").to_string();
    assert!(error.contains("no/such/ca.pem"), "{error}");
    let error = enqueue(client("jobwire://127.0.0.1", None).token_file("no/token")).await.expect_err("no file");
    assert!(error.to_string().contains("no/token"), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_read_again_once() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").expect("a file");
    let seen: Seen<String> = Seen::default();
    let log = seen.clone();
    let server = serve(Answering {
        authorize: Some(Box::new(move |metadata| {
            let token = metadata.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            log.lock().expect("no panic").push(token.to_owned());
            if token == "Bearer new" { Ok(()) } else { Err(Status::unauthenticated("expired")) }
        })),
        ..accepting()
    })
    .await;
    let client = Client::builder().url(&server.url).token_file(&file).build().expect("a client");
    let enqueue = || client.enqueue_raw("any", &serde_json::json!({})).into_future();
    let error = enqueue().await.expect_err("an old token");
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    assert!(!error.to_string().contains("old"), "no token in {error}");
    std::fs::write(&file, "new\n").expect("a file");
    enqueue().await.expect("read again");
    enqueue().await.expect("remembered");
    assert_eq!(*seen.lock().expect("no panic"), ["Bearer old", "Bearer old", "Bearer old", "Bearer new", "Bearer new"]);
}

#[tokio::test]
async fn a_token_stays_off_open_networks_unless_code_says_so() {
    let remote = || Client::builder().url("jobwire://203.0.113.1").token("t");
    let error = remote().build().expect_err("unencrypted").to_string();
    assert!(error.contains("jobwires://") && error.contains("allow_plaintext_token"), "{error}");
    remote().allow_plaintext_token().build().expect("said so");
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_one_is_away() {
    let server = serve(accepting()).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for url in [format!("jobwire://{gone},{}", server.url), format!("{},jobwire://{gone}", server.url)] {
        let client = Client::connect(url).expect("a client");
        soon("a job", client.enqueue_raw("any", &serde_json::json!({})).into_future()).await.expect("the other one");
    }
}
