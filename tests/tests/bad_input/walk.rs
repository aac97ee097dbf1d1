//! The walk over the contract: every field of every request, every value that its rule forbids.
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};
use tonic::Code;

use super::{
    base::{self, hello, is_disabled, is_stream, seed},
    call::{Seen, call},
    cases::{Case, Change, Expect, Place, cases},
    harness::{Harness, soon},
    rules::{Rule, rule},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_request() {
    let mut harness = Harness::start().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for method in harness.methods() {
        let good = soon(
            method.full_name(),
            call(&harness.channel, &method, frames(&method, &[], good(&harness, &method, &[]).encode_to_vec())),
        )
        .await;
        if is_disabled(&method) {
            let disabled = Seen::new(Code::Unimplemented, "FEATURE_DISABLED", "");
            assert_eq!(good, disabled, "{}", method.full_name());
            continue;
        }
        assert_eq!(good, Seen::ok(), "the good request of {}", method.full_name());
        let mut walk = Walk { harness: &harness, method: &method, wrong: &mut wrong, tried: 0 };
        walk.message(&method.input(), &mut Vec::new()).await;
        tried += walk.tried;
        harness.bystander_goes_on();
    }
    harness.stop().await;
    assert!(wrong.is_empty(), "{} of {tried} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 500, "the walk has found {tried} cases only");
}

/// Every string of the contract, requests of calls to come included.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8() {
    let mut harness = Harness::start().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for method in harness.methods() {
        for path in strings(&method.input()) {
            let mut message = good(&harness, &method, &path).encode_to_vec();
            message.extend(bad_text(&path));
            let name = format!("{} {}", method.full_name(), names(&path));
            let seen = soon(&name, call(&harness.channel, &method, frames(&method, &path, message))).await;
            if seen != Seen::new(Code::InvalidArgument, "PROTOCOL_VIOLATION", "") {
                wrong.push(format!("{name}: {seen:?}"));
            }
            tried += 1;
        }
        harness.bystander_goes_on();
    }
    harness.stop().await;
    assert!(wrong.is_empty(), "{} of {tried} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 100, "the walk has found {tried} strings only");
}

/// Whether the path leads into the first frame of a worker's stream.
fn in_hello(path: &[FieldDescriptor]) -> bool {
    path.len() > 1 && path[0].full_name() == "jobwire.v1.StreamJobsRequest.hello"
}

/// A message in which the field at the path can be spoiled.
fn good(harness: &Harness, method: &MethodDescriptor, path: &[FieldDescriptor]) -> DynamicMessage {
    if in_hello(path) {
        let hello = hello().encode_to_vec();
        return DynamicMessage::decode(method.input(), hello.as_slice()).expect("a hello");
    }
    base::request(harness, method)
}

/// The messages of a call: on a worker's stream a good hello goes before a bad frame, unless the hello is bad itself.
fn frames(method: &MethodDescriptor, path: &[FieldDescriptor], message: Vec<u8>) -> Vec<Vec<u8>> {
    match method.name() {
        "StreamJobs" if !in_hello(path) => vec![hello().encode_to_vec(), message],
        _ => vec![message],
    }
}

struct Walk<'a> {
    harness: &'a Harness,
    method: &'a MethodDescriptor,
    wrong: &'a mut Vec<String>,
    tried: usize,
}

impl Walk<'_> {
    /// Tries the fields of a message, and those of the messages in it.
    async fn message(&mut self, descriptor: &MessageDescriptor, path: &mut Vec<FieldDescriptor>) {
        for field in descriptor.fields() {
            let Some(rule) = rule(descriptor.name(), field.name()) else {
                self.wrong.push(format!("{}: no rule says what it may hold", field.full_name()));
                continue;
            };
            path.push(field.clone());
            let outer = path.iter().rev().nth(1).map(|outer| outer.name().to_owned());
            let place = Place { field: &field, outer: outer.as_deref(), stream: is_stream(self.method) };
            for case in cases(&place, rule) {
                self.case(path, case).await;
            }
            let inside =
                matches!(rule, Rule::Inside | Rule::Needed | Rule::Hello | Rule::List { item: Rule::Inside, .. });
            if let Kind::Message(inner) = field.kind()
                && inside
            {
                Box::pin(self.message(&inner, path)).await;
            }
            path.pop();
        }
    }

    async fn case(&mut self, path: &[FieldDescriptor], case: Case) {
        let Case { what, change, expect } = case;
        let mut message = good(self.harness, self.method, path);
        set(&mut message, path, change, matches!(expect, Expect::NotUtf8));
        let messages = frames(self.method, path, message.encode_to_vec());
        let name = format!("{} {}: {what}", self.method.full_name(), names(path));
        let before = self.harness.counts().await;
        let seen = soon(&name, call(&self.harness.channel, self.method, messages)).await;
        self.tried += 1;
        let outer = names(&path[..path.len() - 1]);
        let right = match expect.seen(&names(path), &outer) {
            Some(expected) => seen == expected,
            None => !matches!(seen.code, Code::Internal | Code::Unknown | Code::Unavailable),
        };
        if !right {
            self.wrong.push(format!("{name}: {seen:?}, not {:?}", expect.seen(&names(path), &outer)));
        }
        if seen.code != Code::Ok && before != self.harness.counts().await {
            self.wrong.push(format!("{name}: the store has changed"));
        }
    }
}

/// Sets the last field of the path, making the messages on the way.
fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], change: Change, json: bool) {
    let (field, rest) = path.split_first().expect("a field");
    if rest.is_empty() {
        match change {
            Change::Clear => message.clear_field(field),
            Change::Set(value) => message.set_field(field, value),
        }
        if json {
            message.set_field_by_name("content_type", Value::String("application/json".into()));
        }
        return;
    }
    let Kind::Message(descriptor) = field.kind() else { panic!("a message on the way") };
    if !message.has_field(field) {
        let seeded = Value::Message(seed(&descriptor));
        message.set_field(field, if field.is_list() { Value::List(vec![seeded]) } else { seeded });
    }
    match message.get_field_mut(field) {
        Value::Message(inner) => set(inner, rest, change, json),
        Value::List(items) => {
            let inner = items[0].as_message_mut().expect("a list of messages");
            set(inner, rest, change, json);
        }
        other => panic!("{other:?} on the way"),
    }
}

/// The path as errors spell it: items by number.
fn names(path: &[FieldDescriptor]) -> String {
    let mut names = String::new();
    for (i, field) in path.iter().enumerate() {
        if i > 0 {
            names.push('.');
        }
        names.push_str(field.name());
        if field.is_list() && i + 1 < path.len() {
            names.push_str("[0]");
        }
    }
    names
}

/// The paths of all strings, without going round in circles.
fn strings(descriptor: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    fn walk(descriptor: &MessageDescriptor, path: &mut Vec<FieldDescriptor>, found: &mut Vec<Vec<FieldDescriptor>>) {
        for field in descriptor.fields() {
            let again = path.iter().any(|outer| outer.parent_message() == field.parent_message());
            path.push(field.clone());
            match field.kind() {
                Kind::String => found.push(path.clone()),
                Kind::Message(inner) if !again => walk(&inner, path, found),
                _ => {}
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(descriptor, &mut Vec::new(), &mut found);
    found
}

/// The encoding of a message that has a byte that is not UTF-8 at the end of the path.
fn bad_text(path: &[FieldDescriptor]) -> Vec<u8> {
    let mut bytes = vec![0xff];
    for field in path.iter().rev() {
        let mut outer = Vec::new();
        prost::encoding::encode_key(field.number(), prost::encoding::WireType::LengthDelimited, &mut outer);
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    bytes
}
