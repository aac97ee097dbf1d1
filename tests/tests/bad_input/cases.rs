//! From a rule to the values that break it, or just do not, and what is to be answered.
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};
use tonic::Code;

use super::{
    base::{seconds_and_nanos, seed, token},
    call::Seen,
    rules::Rule,
};

/// A value of one field.
pub enum Change {
    Set(Value),
    Clear,
}

/// What is to be answered.
pub enum Expect {
    Ok,
    /// INVALID_ARGUMENT / INVALID_FIELD at the field plus this.
    Invalid(String),
    /// The same at the message that the field is in.
    InvalidOuter,
    Filter(&'static str),
    Reason(Code, &'static str),
    NotUtf8,
    /// Not an error of the call: told in another way, or ignored.
    Goes,
}

pub struct Case {
    pub what: String,
    pub change: Change,
    pub expect: Expect,
}

/// Where a field stands.
pub struct Place<'a> {
    pub field: &'a FieldDescriptor,
    /// The field that holds the message that holds this one.
    pub outer: Option<&'a str>,
    pub stream: bool,
}

struct Cases<'a> {
    place: &'a Place<'a>,
    cases: Vec<Case>,
}

/// All values to try for a field with this rule.
pub fn cases(place: &Place<'_>, rule: Rule) -> Vec<Case> {
    let mut cases = Cases { place, cases: Vec::new() };
    match rule {
        Rule::List { min, max, item } => cases.list(min, max, *item),
        Rule::Needed | Rule::Template => cases.add("absent", Change::Clear, invalid()),
        Rule::Time { needed } => {
            if needed {
                cases.add("absent", Change::Clear, invalid());
            }
            for (what, value, expect) in cases.broken_times() {
                cases.add(&what, Change::Set(value), expect);
            }
        }
        Rule::Any if place.field.is_list() && !matches!(place.field.kind(), Kind::Message(_)) => {
            let many = vec![cases.number_or_text(); 1_001];
            cases.add("many", Change::Set(Value::List(many)), Expect::Goes);
        }
        Rule::Selector { jobs } => cases.selector(jobs),
        Rule::Headers => cases.headers(),
        Rule::Hello => cases.add(
            "a second one",
            Change::Set(Value::Message(seed(place.field.kind().as_message().expect("a message")))),
            Expect::Reason(Code::InvalidArgument, "PROTOCOL_VIOLATION"),
        ),
        Rule::NotYet if place.field.is_list() => {
            let one = cases.plain();
            cases.add("used", Change::Set(Value::List(vec![one])), not_yet());
        }
        rule => {
            for (what, value, expect) in cases.values(rule) {
                cases.add(&what, Change::Set(value), expect);
            }
        }
    }
    cases.cases
}

fn not_yet() -> Expect {
    Expect::Reason(Code::Unimplemented, "FEATURE_DISABLED")
}

fn invalid() -> Expect {
    Expect::Invalid(String::new())
}

impl Cases<'_> {
    fn add(&mut self, what: &str, change: Change, expect: Expect) {
        self.cases.push(Case { what: what.to_owned(), change, expect });
    }

    /// Something of the field's kind that is not its default.
    fn plain(&self) -> Value {
        if self.place.field.is_map() {
            return Value::Map([(MapKey::String("x".into()), Value::I32(1))].into());
        }
        match self.place.field.kind() {
            Kind::Int32 => Value::I32(1),
            Kind::Int64 => Value::I64(1),
            Kind::String => Value::String("x".into()),
            Kind::Enum(_) => Value::EnumNumber(1),
            Kind::Message(descriptor) => Value::Message(seed(&descriptor)),
            other => panic!("no plain value of {other:?}"),
        }
    }

    fn number_or_text(&self) -> Value {
        match self.place.field.kind() {
            Kind::String => Value::String("x".into()),
            other => other.default_value(),
        }
    }

    fn list(&mut self, min: usize, max: usize, item: Rule) {
        let plain = match item {
            Rule::Span { .. } => self.span(1, 0),
            Rule::Any | Rule::Inside | Rule::Name { .. } | Rule::Pattern | Rule::Text { .. } => self.plain(),
            other => panic!("no list of {other:?}"),
        };
        if min > 0 {
            self.add("empty", Change::Set(Value::List(Vec::new())), invalid());
        }
        // The most is tried where an item is small and means nothing.
        if matches!(item, Rule::Text { .. } | Rule::Span { .. } | Rule::Any) {
            self.add("the most", Change::Set(Value::List(vec![plain.clone(); max])), Expect::Ok);
        }
        self.add("one more than the most", Change::Set(Value::List(vec![plain; max + 1])), invalid());
        if matches!(item, Rule::Any | Rule::Inside) {
            return;
        }
        for (what, value, expect) in self.values(item) {
            let expect = match expect {
                Expect::Invalid(inner) => Expect::Invalid(format!("[0]{inner}")),
                other => other,
            };
            self.add(&format!("item {what}"), Change::Set(Value::List(vec![value])), expect);
        }
    }

    fn span(&self, seconds: i64, nanos: i32) -> Value {
        seconds_and_nanos(self.place.field.kind().as_message().expect("a span or a time"), seconds, nanos)
    }

    /// Numbers of the field's own width; what does not fit cannot be sent.
    fn int(&self, number: i64) -> Option<Value> {
        match self.place.field.kind() {
            Kind::Int32 => i32::try_from(number).ok().map(Value::I32),
            Kind::Int64 => Some(Value::I64(number)),
            other => panic!("{other:?} is no whole number"),
        }
    }

    fn values(&self, rule: Rule) -> Vec<(String, Value, Expect)> {
        let text = |what: &str, text: &str, expect| (what.to_owned(), Value::String(text.to_owned()), expect);
        match rule {
            Rule::Any | Rule::Inside => Vec::new(),
            Rule::Name { needed } => {
                let mut cases = vec![text("of 128", &"n".repeat(128), Expect::Goes)];
                for (what, bad) in [
                    ("with a blank", "a b"),
                    ("with NUL", "a\0"),
                    ("with a line end", "a\r\n"),
                    ("with braces", "{a}"),
                    ("with a star", "a*"),
                    ("not ASCII", "ä"),
                    ("turning round", "\u{202e}a"),
                    ("of 129", &"n".repeat(129)),
                ] {
                    cases.push(text(what, bad, invalid()));
                }
                cases.push(text("empty", "", if needed { invalid() } else { Expect::Ok }));
                cases
            }
            Rule::Pattern => vec![
                text("a star in the middle", "a*b", invalid()),
                text("two stars", "a**", invalid()),
                text("with a blank", "a b*", invalid()),
                text("empty", "", invalid()),
                text("of 130", &"n".repeat(130), invalid()),
                text("a prefix", "a*", Expect::Ok),
            ],
            Rule::Id { needed } => vec![
                // On the stream of jobs an id must be there; everywhere else an empty one says nothing.
                text("empty", "", if needed || self.id_of_stream() { invalid() } else { Expect::Ok }),
                text("no UUID", "7", invalid()),
                text("long", &"7".repeat(10_000), invalid()),
            ],
            Rule::Text { min, max } => {
                let mut cases = vec![text("one more than the most", &"x".repeat(max + 1), invalid())];
                if min > 0 {
                    cases.push(text("empty", "", invalid()));
                }
                cases
            }
            Rule::Span { min, max } => {
                let mut cases = self.broken_spans();
                cases.push(("too long".into(), self.span(max, 1), invalid()));
                if min > 0 {
                    cases.push(("too short".into(), self.span(min - 1, 0), invalid()));
                }
                cases
            }
            Rule::PositiveSpan { max } => {
                let mut cases = self.broken_spans();
                cases.push(("too long".into(), self.span(max, 1), invalid()));
                cases.push(("nothing".into(), self.span(0, 0), invalid()));
                cases
            }
            Rule::Start => {
                let mut cases = self.broken_times();
                cases.push(("in the year 9999".into(), self.span(253_402_300_799, 0), invalid()));
                cases.push(("long ago".into(), self.span(1, 0), Expect::Goes));
                cases
            }
            Rule::Expiry => {
                let mut cases = self.broken_times();
                cases.push(("long ago".into(), self.span(1, 0), invalid()));
                cases
            }
            Rule::Int { min, max } => [min.checked_sub(1), max.checked_add(1), Some(i64::MIN), Some(i64::MAX)]
                .into_iter()
                .flatten()
                .filter(|number| !(min..=max).contains(number))
                .filter_map(|number| Some((number.to_string(), self.int(number)?, invalid())))
                .collect(),
            Rule::Size => vec![
                ("negative".into(), Value::I32(-1), invalid()),
                ("the most that can be said".into(), Value::I32(i32::MAX), Expect::Ok),
            ],
            Rule::Float { min, max, zero } => {
                let mut bad = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];
                bad.extend([min - 0.1, max + 0.1].into_iter().filter(|number| !(min..=max).contains(number)));
                bad.retain(|number| !(zero && *number == 0.0));
                bad.into_iter().map(|number| (number.to_string(), Value::F64(number), invalid())).collect()
            }
            Rule::Enum => {
                let expect = if self.place.stream { Expect::Ok } else { invalid() };
                vec![("unknown".into(), Value::EnumNumber(9_999), expect)]
            }
            Rule::Choice => vec![
                ("unspecified".into(), Value::EnumNumber(0), invalid()),
                ("unknown".into(), Value::EnumNumber(9_999), invalid()),
            ],
            Rule::Token => vec![text("garbage", "garbage", invalid()), text("long", &"A".repeat(10_000), invalid())],
            Rule::Etag => vec![text("garbage", "garbage", invalid())],
            Rule::Filter => {
                self.filters().into_iter().map(|(what, filter)| text(what, &filter, Expect::Filter(""))).collect()
            }
            Rule::Body => self.bodies(),
            Rule::Json => {
                let Kind::Message(descriptor) = self.place.field.kind() else { panic!("a structure") };
                let number = |number| {
                    let mut value = DynamicMessage::new(descriptor.clone());
                    value.set_field_by_name("number_value", Value::F64(number));
                    Value::Message(value)
                };
                let fine = if self.place.stream { invalid() } else { Expect::Ok };
                vec![("NaN".into(), number(f64::NAN), invalid()), ("a number".into(), number(1.0), fine)]
            }
            Rule::Seq => [0, 1_000, -1]
                .map(|seq| {
                    (seq.to_string(), Value::I64(seq), Expect::Reason(Code::InvalidArgument, "PROTOCOL_VIOLATION"))
                })
                .into(),
            Rule::ReceivedSeq => [-1, i64::MAX]
                .map(|seq| {
                    (seq.to_string(), Value::I64(seq), Expect::Reason(Code::InvalidArgument, "PROTOCOL_VIOLATION"))
                })
                .into(),
            Rule::Revision => [0, -1]
                .map(|revision| {
                    let expect = Expect::Reason(Code::FailedPrecondition, "REVISION_UNSUPPORTED");
                    (revision.to_string(), Value::I32(revision), expect)
                })
                .into(),
            Rule::LeaseToken => {
                vec![text("empty", "", Expect::Goes), text("long", &token().repeat(1_000), Expect::Goes)]
            }
            Rule::NotYet => vec![("used".into(), self.plain(), not_yet())],
            Rule::Needed
            | Rule::Template
            | Rule::Time { .. }
            | Rule::Selector { .. }
            | Rule::List { .. }
            | Rule::Headers
            | Rule::Hello => {
                panic!("{rule:?} is no rule of a single value")
            }
        }
    }

    fn id_of_stream(&self) -> bool {
        self.place.stream && self.place.outer == Some("jobs") && self.place.field.name() == "id"
    }

    fn broken_spans(&self) -> Vec<(String, Value, Expect)> {
        [
            ("negative", -1, 0),
            ("a little negative", 0, -1),
            ("of unlike signs", 1, -1),
            ("with too many nanos", 0, 1_000_000_000),
            ("beyond everything", i64::MAX, 0),
        ]
        .map(|(what, seconds, nanos)| (what.to_owned(), self.span(seconds, nanos), invalid()))
        .into()
    }

    fn broken_times(&self) -> Vec<(String, Value, Expect)> {
        [
            ("in the year 0", -62_135_596_801, 0),
            ("in the year 10000", 253_402_300_800, 0),
            ("with negative nanos", 1, -1),
            ("with too many nanos", 1, 1_000_000_000),
        ]
        .map(|(what, seconds, nanos)| (what.to_owned(), self.span(seconds, nanos), invalid()))
        .into()
    }

    fn filters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("syntax", "state = ".into()),
            ("no operator", "garbage".into()),
            ("unknown field", "colour = red".into()),
            ("2 KiB + 1", format!("state = DEAD{}", " ".repeat(2_049 - 12))),
            ("1,000 parentheses", format!("{}state = DEAD{}", "(".repeat(1_000), ")".repeat(1_000))),
        ]
    }

    fn bodies(&self) -> Vec<(String, Value, Expect)> {
        let max = if self.place.outer == Some("checkpoint") { 64 << 10 } else { 1 << 20 };
        match self.place.field.kind() {
            Kind::String => vec![
                ("the most".into(), Value::String("x".repeat(max)), Expect::Goes),
                ("one more than the most".into(), Value::String("x".repeat(max + 1)), Expect::InvalidOuter),
            ],
            _ => vec![
                ("one more than the most".into(), Value::Bytes(vec![0; max + 1].into()), Expect::InvalidOuter),
                // The content type of the base says JSON when the walk sets it.
                ("not UTF-8".into(), Value::Bytes(vec![0xff].into()), Expect::NotUtf8),
            ],
        }
    }

    fn selector(&mut self, jobs: bool) {
        let Kind::Message(descriptor) = self.place.field.kind() else { panic!("a selector") };
        let selector = |ids: Vec<&str>, filter: &str| {
            let mut selector = DynamicMessage::new(descriptor.clone());
            let ids = ids.into_iter().map(|id| Value::String(id.to_owned())).collect();
            selector.set_field_by_name("ids", Value::List(ids));
            selector.set_field_by_name("filter", Value::String(filter.to_owned()));
            Change::Set(Value::Message(selector))
        };
        let id = "019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21";
        let at = |field: &str| Expect::Invalid(field.to_owned());
        self.add("absent", Change::Clear, at(""));
        self.add("empty", selector(vec![], ""), at(""));
        self.add("ids and filter", selector(vec![id], "*"), at(""));
        self.add("1,001 ids", selector(vec![id; 1_001], ""), at(".ids"));
        let long = "x".repeat(129);
        self.add("a bad id", selector(vec![if jobs { "7" } else { &long }], ""), at(".ids[0]"));
        for (what, filter) in self.filters() {
            self.add(what, selector(vec![], &filter), Expect::Filter(".filter"));
        }
    }

    fn headers(&mut self) {
        let headers = |pairs: Vec<(String, String)>| {
            let pairs = pairs.into_iter().map(|(key, value)| (MapKey::String(key), Value::String(value)));
            Change::Set(Value::Map(pairs.collect()))
        };
        let one = |key: &str, value: &str| headers(vec![(key.to_owned(), value.to_owned())]);
        let many = |count: usize| headers((0..count).map(|i| (format!("k{i}"), String::new())).collect());
        self.add("64", many(64), Expect::Ok);
        self.add("65", many(65), invalid());
        self.add("more than 8 KiB", one("k", &"x".repeat(8 << 10)), invalid());
        self.add("an upper-case key", one("Key", ""), invalid());
        self.add("an empty key", one("", ""), invalid());
        self.add("a reserved key", one("jobwire-x", ""), Expect::Invalid("[\"jobwire-x\"]".into()));
    }
}

impl Expect {
    /// The answer to expect for the field at `path`, inside the message at `outer`. `None` = anything that is no defect.
    pub fn seen(&self, path: &str, outer: &str) -> Option<Seen> {
        let invalid = |field: String| Seen::new(Code::InvalidArgument, "INVALID_FIELD", &field);
        Some(match self {
            Self::Ok => Seen::ok(),
            Self::Invalid(inner) => invalid(format!("{path}{inner}")),
            Self::InvalidOuter => invalid(outer.to_owned()),
            Self::Filter(inner) => Seen::new(Code::InvalidArgument, "INVALID_FILTER", &format!("{path}{inner}")),
            Self::Reason(code, reason) => Seen::new(*code, reason, path),
            // A rejection says INVALID, whatever the rule was.
            Self::NotUtf8 if path.starts_with("outcomes") => invalid(path.to_owned()),
            Self::NotUtf8 => Seen::new(Code::InvalidArgument, "PAYLOAD_NOT_UTF8", path),
            Self::Goes => return None,
        })
    }
}
