//! Messages that are none, for every call.
use http_body_util::{BodyExt as _, Full};
use prost::bytes::Bytes;
use prost_reflect::MethodDescriptor;
use tonic::{Code, Status, body::Body};
use tower::{Service as _, ServiceExt as _};

use super::{
    base::is_stream,
    call::{Seen, call, path},
    harness::{Harness, soon},
};

fn violation() -> Seen {
    Seen::new(Code::InvalidArgument, "PROTOCOL_VIOLATION", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_read() {
    let mut harness = Harness::start().await;
    let nested = |levels: usize| {
        // Field 1, again and again, each inside the one before.
        (0..levels).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        })
    };
    let garbled: [(&str, Vec<u8>); 5] = [
        ("no protobuf", vec![0xff; 16]),
        ("a cut varint", vec![0x08, 0xff]),
        ("a length beyond everything", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("field 0", vec![0x00, 0x00]),
        ("a group that does not end", vec![0xf3, 0x01]),
    ];
    for method in harness.methods() {
        let send = |message: Vec<u8>| call(&harness.channel, &method, vec![message]);
        for (what, message) in &garbled {
            let seen = soon(what, send(message.clone())).await;
            assert_eq!(seen, violation(), "{}: {what}", method.full_name());
        }
        let oversize = soon("oversize", send(vec![0; (3 << 20) + 1])).await;
        let too_large = Seen::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "");
        assert_eq!(oversize, too_large, "{}", method.full_name());
        let deep = soon("deep", send(nested(500))).await;
        assert_ne!(deep.code, Code::Internal, "{}: deep nesting", method.full_name());
        let nothing = soon("nothing", call(&harness.channel, &method, vec![])).await;
        let expected = if is_stream(&method) { Seen::ok() } else { violation() };
        assert_eq!(nothing, expected, "{}: half-closed at once", method.full_name());
        harness.counts().await;
        harness.bystander_goes_on();
    }
    harness.stop().await;
}

/// Sends bytes as they are, and reads the status.
async fn send(harness: &Harness, method: &MethodDescriptor, bytes: &'static [u8]) -> Seen {
    let request = http::Request::post(format!("http://jobwire{}", path(method)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from_static(bytes))))
        .expect("a request");
    let mut channel = harness.channel.clone();
    let response = channel.ready().await.expect("a connection").call(request).await.expect("a response");
    let head = Status::from_header_map(response.headers());
    let tail = response.into_body().collect().await.expect("a body").trailers().and_then(Status::from_header_map);
    head.or(tail).map_or_else(Seen::ok, |status| Seen::of(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none() {
    let mut harness = Harness::start().await;
    for method in harness.methods() {
        for (what, bytes) in [
            ("flag 2", &[2, 0, 0, 0, 0][..]),
            ("compressed, without saying how", &[1, 0, 0, 0, 1, 0]),
            ("a cut body", &[0, 0, 0, 0, 9, 1, 2]),
            ("a cut prefix", &[0, 0]),
            ("3 MiB announced, one byte sent", &[0, 0, 0x30, 0, 0, 1]),
        ] {
            let seen = soon(what, send(&harness, &method, bytes)).await;
            assert_eq!(seen, violation(), "{}: {what}", method.full_name());
        }
        harness.bystander_goes_on();
    }
    let unknown = harness.methods().remove(0);
    let nowhere = path(&unknown).replace("JobService", "NoService");
    let mut grpc = tonic::client::Grpc::new(harness.channel.clone());
    for path in [nowhere, "/jobwire.v1.JobService/Nothing".to_owned()] {
        grpc.ready().await.expect("a connection");
        let request = tonic::Request::new(Bytes::new());
        let status = grpc.unary(request, path.parse().expect("a path"), super::call::Raw).await.expect_err("unknown");
        assert_eq!(Seen::of(&status), Seen::new(Code::Unimplemented, "FEATURE_DISABLED", ""), "{path}");
    }
    harness.stop().await;
}
