//! The language, its errors, and that narrowing never loses a match.
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// A job of a given state and queue, with the rest of its fields as pairs.
#[derive(Debug)]
struct Job {
    id: JobId,
    state: State,
    queue: &'static str,
    rest: Vec<(&'static str, Value)>,
}

impl Row for Job {
    fn values(&self, field: &str) -> Vec<Value> {
        match field {
            "id" => vec![Value::Text(self.id.to_string())],
            "state" => vec![Value::Text(self.state.name().into())],
            "queue" => vec![Value::Text(self.queue.into())],
            _ => self.rest.iter().filter(|(name, _)| *name == field).map(|(_, value)| value.clone()).collect(),
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn job() -> Job {
    Job {
        id: JobId::from_bytes([7; 16]),
        state: State::Dead,
        queue: "mail",
        rest: vec![
            ("type", text("mail.send")),
            ("tag", text("vip")),
            ("tag", text("eu")),
            ("attempt", Value::Number(3.0)),
            ("priority", Value::Number(-2.0)),
            ("failure.type", text("smtp.Timeout")),
            ("finish_time", Value::Time(1_750_000_000_000)),
        ],
    }
}

fn parse(text: &str) -> Filter {
    Filter::parse(text, JOB_FIELDS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_matches_and_what_does_not() {
    for yes in [
        "",
        "*",
        "state=DEAD",
        "state = dead",
        "state:DEAD AND queue=mail",
        "state != READY",
        "queue = \"ma*\"",
        "queue=ma*",
        "type = mail.send",
        "tag = vip AND tag = eu",
        "tag:vip",
        "tag : *",
        "attempt >= 3 AND attempt<4",
        "priority = -2",
        "failure.type='smtp.Timeout'",
        "finish_time < 2026-11-01T00:00:00Z",
        "finish_time > \"2025-01-01T00:00:00+02:00\"",
        "NOT queue = sms",
        "-queue = sms",
        "NOT (queue = sms OR queue = push)",
        "start_time != 2026-11-01T00:00:00Z",
        "NOT start_time : *",
        "id = 07070707-0707-0707-0707-070707070707",
        // OR binds tighter: (mail or sms) and dead.
        "queue = mail OR queue = sms AND state = DEAD",
    ] {
        assert!(parse(yes).matches(&job()), "{yes}");
    }
    for no in [
        "state=READY",
        "queue=mailbox",
        "tag=vi",
        "tag:\"us\"",
        "attempt > 3",
        "start_time < 2026-11-01T00:00:00Z",
        "start_time:*",
        "queue = \"ma\\*\"",
        "queue = mail OR queue = sms AND state = READY",
        "NOT tag = eu",
    ] {
        assert!(!parse(no).matches(&job()), "{no}");
    }
}

#[test]
fn errors_say_where_and_why() {
    for (bad, position, part) in [
        ("state", 5, "expected one of"),
        ("state DEAD", 6, "expected one of"),
        ("state = ", 8, "expected a value"),
        ("state = PAUSED", 8, "is not one of"),
        ("colour = red", 0, "unknown field"),
        ("state < DEAD", 6, "takes only"),
        ("type > a", 5, "takes only"),
        ("attempt = many", 10, "not a number"),
        ("attempt = NaN", 10, "not a number"),
        ("finish_time < yesterday", 14, "RFC 3339"),
        ("id = 12", 5, "UUID"),
        ("queue = a queue = b", 10, "expected AND"),
        ("(queue = a", 10, "expected \")\""),
        ("queue = a)", 9, "unexpected"),
        ("queue = \"a", 8, "does not end"),
        ("queue = a*b", 8, "only at the end"),
        ("attempt = 1*", 10, "on text only"),
        ("queue = a AND", 13, "name of a field"),
        ("AND", 0, "name of a field"),
        ("ünïcode = 1", 0, "unknown field"),
    ] {
        let error = Filter::parse(bad, JOB_FIELDS).expect_err(bad);
        assert_eq!(error.position, position, "{bad}: {error}");
        assert!(error.message.contains(part), "{bad}: {error}");
    }
}

#[test]
fn parentheses_have_a_floor() {
    let nested = |depth: usize| format!("{}queue = a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(32), JOB_FIELDS).is_ok());
    let error = Filter::parse(&nested(1_000), JOB_FIELDS).expect_err("too deep");
    assert!(error.message.contains("deeper than 32"), "{error}");
}

#[test]
fn labels_take_any_key() {
    let filter = Filter::parse("label.app.kubernetes.io/name = web", WORKER_FIELDS).expect("a label");
    assert!(filter.mentions("label.app.kubernetes.io/name"));
    assert!(Filter::parse("label. = web", WORKER_FIELDS).is_err());
}

#[test]
fn the_scope_is_narrow_where_it_can_be() {
    let scope = parse("queue = mail AND (state = DEAD OR state = CANCELLED)").scope();
    assert_eq!(scope.states, StateSet::of(&[State::Dead, State::Cancelled]));
    assert_eq!(scope.queues, Some(vec!["mail".parse().expect("a name")]));
    assert!(scope.ids.is_none());
    assert!(!parse("NOT state = DEAD").scope().states.has(State::Dead));
    assert!(parse("NOT (state = DEAD AND attempt = 1)").scope().states.has(State::Dead));
    assert!(parse("queue = a OR tag = b").scope().queues.is_none());
    assert_eq!(parse("queue = \"not a name\"").scope().queues, Some(Vec::new()));
    assert_eq!(parse("queue = a AND queue = b").scope().queues, Some(Vec::new()));
}

const QUEUES: [&str; 3] = ["mail", "sms", "mailbox"];

fn id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn comparison() -> impl Strategy<Value = Expr> {
    let op = prop_oneof![Just(Op::Eq), Just(Op::Ne), Just(Op::Has)];
    let any_op =
        prop_oneof![Just(Op::Eq), Just(Op::Ne), Just(Op::Has), Just(Op::Lt), Just(Op::Gt), Just(Op::Le), Just(Op::Ge)];
    let test = |field: &str, op, arg| Expr::Test(Test { field: field.into(), op, arg });
    prop_oneof![
        (op.clone(), 0..10usize).prop_map(move |(op, n)| test("state", op, Arg::Value(text(State::ALL[n].name())))),
        (op.clone(), 0..3usize).prop_map(move |(op, n)| test("queue", op, Arg::Value(text(QUEUES[n])))),
        (op.clone(), 0..3usize).prop_map(move |(op, n)| test("queue", op, Arg::Prefix(QUEUES[n].into()))),
        (op.clone(), 0..3u8).prop_map(move |(op, n)| test("id", op, Arg::Value(text(&id(n).to_string())))),
        (op, ".*").prop_map(move |(op, s)| test("tag", op, Arg::Value(Value::Text(s)))),
        (any_op.clone(), -4..5i32).prop_map(move |(op, n)| test(
            "priority",
            op,
            Arg::Value(Value::Number(f64::from(n)))
        )),
        (any_op, -5_000_000_000_000..5_000_000_000_000i64).prop_map(move |(op, n)| test(
            "create_time",
            op,
            Arg::Value(Value::Time(n))
        )),
    ]
}

/// As the parser builds them: no AND or OR of one.
fn filters() -> impl Strategy<Value = Filter> {
    comparison()
        .prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
                inner.prop_map(|e| Expr::Not(Box::new(e))),
            ]
        })
        .prop_map(|root| Filter { root: Some(root) })
}

fn jobs() -> impl Strategy<Value = Job> {
    (0..3u8, 0..10usize, 0..3usize, -4..5i32, prop::option::of(".*")).prop_map(|(n, state, queue, priority, tag)| Job {
        id: id(n),
        state: State::ALL[state],
        queue: QUEUES[queue],
        rest: std::iter::once(("priority", Value::Number(f64::from(priority))))
            .chain(tag.map(|tag| ("tag", Value::Text(tag))))
            .collect(),
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Filter::parse(&text, JOB_FIELDS);
    }

    #[test]
    fn text_that_looks_like_a_filter_is_read_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "state", "queue", "tag", "AND", "OR", "NOT", "-", "(", ")", "=", "!=", "<", ":", "*", "\"", "a*", "DEAD", "é",
                " ", "\\",
            ]),
            0..40,
        )
    ) {
        let text: String = words.concat();
        match Filter::parse(&text, JOB_FIELDS) {
            Ok(filter) => prop_assert_eq!(parse(&filter.to_string()), filter),
            Err(error) => prop_assert!(text.is_char_boundary(error.position) && error.position <= text.len()),
        }
    }

    #[test]
    fn a_printed_filter_reads_back(filter in filters()) {
        prop_assert_eq!(Filter::parse(&filter.to_string(), JOB_FIELDS).expect("it was printed"), filter);
    }

    #[test]
    fn what_matches_is_in_scope(filter in filters(), job in jobs()) {
        if filter.matches(&job) {
            let scope = filter.scope();
            prop_assert!(scope.states.has(job.state));
            prop_assert!(scope.ids.is_none_or(|ids| ids.contains(&job.id)));
            prop_assert!(scope.queues.is_none_or(|queues| queues.iter().any(|q| q.as_str() == job.queue)));
        }
    }
}

#[test]
fn ids_are_compared_in_one_spelling() {
    let upper = Uuid::from_bytes([0xab; 16]).to_string().to_uppercase();
    let scope = parse(&format!("id = {upper}")).scope();
    assert_eq!(scope.ids, Some(vec![JobId::from_bytes([0xab; 16])]));
}
