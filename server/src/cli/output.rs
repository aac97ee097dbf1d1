//! Results on stdout: tables for people, protobuf JSON of the server's answer for programs.
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use std::sync::LazyLock;

use super::exit::{Exit, Failure};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// The server's answer as protobuf JSON
    Json,
    /// One JSON object a line and item
    Jsonl,
    /// Ids only, one a line
    Id,
}

/// Where results go, and how.
pub struct Output {
    pub format: Format,
    /// The format was asked for, not derived.
    pub asked: bool,
    colour: bool,
}

/// A list that was answered: the whole response, and its items.
pub struct List<'a, R, I> {
    /// Names of the messages, without package.
    pub names: (&'static str, &'static str),
    pub response: &'a R,
    pub items: &'a [I],
}

impl Output {
    pub fn new(format: Option<Format>, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let derived = if terminal { Format::Table } else { Format::Json };
        Self { format: format.unwrap_or(derived), asked: format.is_some(), colour }
    }

    /// For programs: payloads are to be inlined as JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Writes text as it is, with a line end.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes as they are. Whoever reads has left (`| head`) = end quietly.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Done, ""),
            _ => Failure::new(Exit::Bug, format!("cannot write the result: {error}")),
        })
    }

    /// A message as one JSON object, indented for `json`, on one line for `jsonl`.
    pub fn json(&self, name: &str, message: &impl Message) -> Result<(), Failure> {
        let text = if self.format == Format::Jsonl { to_json(name, message)? } else { to_json_pretty(name, message)? };
        self.line(&text)
    }

    /// One answer: JSON, its id, or what `table` makes of it.
    pub fn one(
        &self,
        name: &str,
        message: &impl Message,
        id: &str,
        table: impl FnOnce(&Self) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.bytes(table(self).as_bytes()),
            Format::Json | Format::Jsonl => self.json(name, message),
            Format::Id => self.line(id),
        }
    }

    /// A list: JSON of the response or of each item, the ids, or a table.
    pub fn list<R: Message, I: Message>(
        &self,
        list: &List<'_, R, I>,
        id: impl Fn(&I) -> String,
        table: impl FnOnce(&Self, &[I]) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.bytes(table(self, list.items).as_bytes()),
            Format::Json => self.json(list.names.0, list.response),
            Format::Jsonl => list.items.iter().try_for_each(|item| self.json(list.names.1, item)),
            Format::Id => list.items.iter().try_for_each(|item| self.line(&id(item))),
        }
    }

    /// An empty table. Headers starting with `>` are of numbers.
    pub fn table(&self, headers: &[&str]) -> Rows<'_> {
        let mut table = Table::new();
        // No wrapping inside cells: ids stay whole, and a long last column is the terminal's to wrap.
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !self.colour {
            table.force_no_tty();
        }
        let bold = |header: &&str| Cell::new(header.trim_start_matches('>')).add_attribute(Attribute::Bold);
        table.set_header(headers.iter().map(bold));
        for (column, header) in headers.iter().enumerate() {
            if let Some(column) = table.column_mut(column) {
                column.set_padding((0, 2));
                if header.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Rows { table, out: self }
    }
}

/// A table being filled.
pub struct Rows<'a> {
    table: Table,
    out: &'a Output,
}

impl Rows<'_> {
    /// Adds a row; words that are states get their colour.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells = cells.into_iter().map(|text| {
            let cell = Cell::new(text.as_ref());
            match colour_of(text.as_ref()).filter(|_| self.out.colour) {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        });
        self.table.add_row(cells);
    }

    /// The table, or a sentence in its place.
    pub fn text(self, if_empty: &str) -> String {
        if self.table.is_empty() {
            return format!("{if_empty}\n");
        }
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

fn colour_of(word: &str) -> Option<Color> {
    Some(match word {
        "SUCCEEDED" | "ACTIVE" => Color::Green,
        "RUNNING" => Color::Cyan,
        "RETRYING" | "QUIET" | "DRAINING" | "SNOOZED" => Color::Yellow,
        "DEAD" | "FAILED" | "LOST" | "TIMED_OUT" => Color::Red,
        "CANCELLED" | "EXPIRED" | "DISCARDED" => Color::DarkGrey,
        _ => return None,
    })
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(jobwire_proto::DESCRIPTOR_SET).expect("the descriptors are written by our own generator")
});

fn dynamic(name: &str, message: &impl Message) -> Result<DynamicMessage, Failure> {
    let descriptor = POOL.get_message_by_name(&format!("jobwire.v1.{name}")).expect("a message of the contract");
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| Failure::new(Exit::Bug, format!("the answer cannot be read: {error}")))
}

/// Canonical protobuf JSON on one line.
pub fn to_json(name: &str, message: &impl Message) -> Result<String, Failure> {
    serde_json::to_string(&dynamic(name, message)?).map_err(|error| Failure::new(Exit::Bug, error.to_string()))
}

fn to_json_pretty(name: &str, message: &impl Message) -> Result<String, Failure> {
    serde_json::to_string_pretty(&dynamic(name, message)?).map_err(|error| Failure::new(Exit::Bug, error.to_string()))
}

#[cfg(test)]
mod tests {
    use jobwire_proto::v1::{Job, JobSpec, JobState, Payload, payload::Body};

    use super::*;

    fn plain() -> Output {
        Output { format: Format::Table, asked: false, colour: false }
    }

    #[test]
    fn json_is_canonical_protobuf_json() {
        let payload = Payload { body: Some(Body::Text("{\"n\":9007199254740993}".into())), ..Payload::default() };
        let spec = JobSpec { r#type: "mail".into(), payload: Some(payload), ..JobSpec::default() };
        let time = prost_types::Timestamp { seconds: 0, nanos: 500_000_000 };
        let job = Job { state: JobState::Dead as i32, spec: Some(spec), create_time: Some(time), ..Job::default() };
        assert_eq!(
            to_json("Job", &job).expect("JSON"),
            "{\"state\":\"JOB_STATE_DEAD\",\"spec\":{\"type\":\"mail\",\"payload\":{\"text\":\"{\\\"n\\\":9007199254740993}\"}},\
             \"createTime\":\"1970-01-01T00:00:00.500Z\"}"
        );
    }

    #[test]
    fn tables_are_aligned_without_borders() {
        let out = plain();
        let mut rows = out.table(&["NAME", ">READY"]);
        rows.row(["mail", "1,204"]);
        rows.row(["img.resize", "8"]);
        assert_eq!(rows.text("none"), "NAME        READY\nmail        1,204\nimg.resize      8\n");
        assert_eq!(out.table(&["NAME"]).text("No queues."), "No queues.\n");
    }
}
