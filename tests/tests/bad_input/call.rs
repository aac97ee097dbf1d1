//! Any call with any bytes, and what became of it.
use jobwire_proto::v1;
use prost::{Message as _, bytes::Bytes};
use prost_reflect::MethodDescriptor;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt as _;

/// Messages as bytes, whatever they mean.
#[derive(Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use prost::bytes::Buf as _;
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Code, reason and field of a refusal; of the call, or of the one item in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub code: Code,
    pub reason: String,
    pub field: String,
}

impl Seen {
    pub fn new(code: Code, reason: &str, field: &str) -> Self {
        Self { code, reason: reason.into(), field: field.into() }
    }

    pub fn ok() -> Self {
        Self::new(Code::Ok, "", "")
    }

    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        let field = details.bad_request().map_or("", |bad| bad.field_violations[0].field.as_str());
        Self::new(status.code(), reason, field)
    }
}

pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Sends the messages, half-closes, and reads to the end.
pub async fn call(channel: &Channel, method: &MethodDescriptor, messages: Vec<Vec<u8>>) -> Seen {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("a connection");
    let path = path(method).parse().expect("a path");
    let messages = tokio_stream::iter(messages.into_iter().map(Bytes::from));
    let mut answers = match grpc.streaming(tonic::Request::new(messages), path, Raw).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Seen::of(&status),
    };
    let mut item = None;
    loop {
        match answers.message().await {
            Ok(Some(answer)) => item = item.or_else(|| item_error(method.name(), answer)),
            Ok(None) => return item.unwrap_or_else(Seen::ok),
            Err(status) => return Seen::of(&status),
        }
    }
}

/// The first error inside an answer.
fn item_error(method: &str, answer: Bytes) -> Option<Seen> {
    let item = |error: v1::ItemError| Seen::new(Code::from_i32(error.code), &error.reason, &error.field);
    match method {
        "EnqueueMany" => {
            let answer = v1::EnqueueManyResponse::decode(answer).expect("an answer");
            answer.results.into_iter().find_map(|result| result.error).map(item)
        }
        "EnqueueStream" => {
            let answer = v1::EnqueueStreamResponse::decode(answer).expect("an answer");
            answer.errors.into_iter().find_map(|error| error.error).map(item)
        }
        "ReportJobs" => rejection(v1::ReportJobsResponse::decode(answer).expect("an answer").rejections),
        "StreamJobs" => rejection(v1::StreamJobsResponse::decode(answer).expect("an answer").rejections),
        _ => None,
    }
}

/// A rejection in the words of the others: its message begins with the field.
fn rejection(rejections: Vec<v1::OutcomeRejection>) -> Option<Seen> {
    let rejection = rejections.into_iter().next()?;
    let (code, reason) = match rejection.reason() {
        v1::RejectionReason::Invalid => (Code::InvalidArgument, "INVALID_FIELD"),
        v1::RejectionReason::Unsupported => (Code::Unimplemented, "FEATURE_DISABLED"),
        // The tokens here are of jobs that do not exist: an outcome that was read and found good.
        v1::RejectionReason::UnknownLease => return None,
        other => panic!("an unexpected rejection: {other:?}"),
    };
    let field = rejection.message.split(": ").next().unwrap_or_default();
    Some(Seen::new(code, reason, &format!("outcomes[0].{field}")))
}
