//! Reads a filter: one pass over the text, at most [`DEPTH`] parentheses deep.
use std::{iter::Peekable, str::CharIndices};

use super::{Arg, Expr, FieldDef, Kind, Op, Test, Value};

/// Parentheses inside parentheses, at most.
const DEPTH: usize = 32;

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at position {position} of the filter")]
pub struct FilterError {
    /// Bytes from the start of the text.
    pub position: usize,
    pub message: String,
}

pub(super) fn parse(text: &str, fields: &[FieldDef]) -> Result<Option<Expr>, FilterError> {
    if matches!(text.trim(), "" | "*") {
        return Ok(None);
    }
    let mut parser = Parser { chars: text.char_indices().peekable(), text, fields };
    let root = parser.expression(0)?;
    match parser.peek() {
        None => Ok(Some(root)),
        Some(')') => Err(parser.error("unexpected \")\"")),
        Some(_) => Err(parser.error("expected AND, OR or the end")),
    }
}

struct Parser<'a> {
    chars: Peekable<CharIndices<'a>>,
    text: &'a str,
    fields: &'a [FieldDef],
}

impl<'a> Parser<'a> {
    /// `sequence (AND sequence)*`
    fn expression(&mut self, depth: usize) -> Result<Expr, FilterError> {
        self.list(depth, "AND", Self::alternatives, Expr::And)
    }

    /// `term (OR term)*`: OR binds tighter.
    fn alternatives(&mut self, depth: usize) -> Result<Expr, FilterError> {
        self.list(depth, "OR", Self::term, Expr::Or)
    }

    fn list(
        &mut self,
        depth: usize,
        between: &str,
        item: fn(&mut Self, usize) -> Result<Expr, FilterError>,
        whole: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, FilterError> {
        let first = item(self, depth)?;
        let mut rest = Vec::new();
        while self.keyword(between) {
            rest.push(item(self, depth)?);
        }
        if rest.is_empty() {
            return Ok(first);
        }
        rest.insert(0, first);
        Ok(whole(rest))
    }

    /// `[NOT | -] (comparison | "(" expression ")")`
    fn term(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let negated = self.keyword("NOT") || self.eat('-');
        let simple = if self.eat('(') {
            if depth == DEPTH {
                return Err(self.error(format!("parentheses nest deeper than {DEPTH}")));
            }
            let inner = self.expression(depth + 1)?;
            if !self.eat(')') {
                return Err(self.error("expected \")\""));
            }
            inner
        } else {
            Expr::Test(self.comparison()?)
        };
        Ok(if negated { Expr::Not(Box::new(simple)) } else { simple })
    }

    fn comparison(&mut self) -> Result<Test, FilterError> {
        let at = self.position();
        let name = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'));
        if name.is_empty() || is_keyword(name) {
            return Err(self.error_at(at, "expected the name of a field"));
        }
        let def = self.fields.iter().find(|def| def.stands_for(name)).ok_or_else(|| {
            let known: Vec<&str> = self.fields.iter().map(|def| def.name).collect();
            self.error_at(at, format!("unknown field \"{}\"; known are {}", cut(name), known.join(", ")))
        })?;
        let op_at = self.position();
        let op = self.operator()?;
        if matches!(op, Op::Lt | Op::Gt | Op::Le | Op::Ge) && !matches!(def.kind, Kind::Number | Kind::Time) {
            return Err(self.error_at(op_at, format!("\"{name}\" takes only =, != and :")));
        }
        let value_at = self.position();
        let word = self.word()?;
        let arg = self.argument(def.kind, op, word, value_at)?;
        Ok(Test { field: name.to_owned(), op, arg })
    }

    fn operator(&mut self) -> Result<Op, FilterError> {
        for (sign, op) in [
            ("!=", Op::Ne),
            ("<=", Op::Le),
            (">=", Op::Ge),
            ("=", Op::Eq),
            ("<", Op::Lt),
            (">", Op::Gt),
            (":", Op::Has),
        ] {
            let at = self.position();
            if self.text[at..].starts_with(sign) {
                self.skip(sign);
                return Ok(op);
            }
        }
        Err(self.error("expected one of = != < <= > >= :"))
    }

    fn argument(&self, kind: Kind, op: Op, word: Word, at: usize) -> Result<Arg, FilterError> {
        let Word { text, prefix } = word;
        if prefix {
            let presence = text.is_empty();
            if matches!(op, Op::Lt | Op::Gt | Op::Le | Op::Ge) || (!presence && kind != Kind::Text) {
                return Err(self.error_at(at, "\"*\" at the end of a value works with =, != and : on text only"));
            }
            return Ok(Arg::Prefix(text));
        }
        let refuse = |what: &str| self.error_at(at, format!("\"{}\" is not {what}", cut(&text)));
        let value = match kind {
            Kind::Text => Value::Text(text),
            Kind::Id => Value::Text(uuid::Uuid::try_parse(&text).map_err(|_| refuse("a UUID"))?.to_string()),
            Kind::Enum(names) => {
                let short = names.iter().find(|name| name.eq_ignore_ascii_case(&text));
                Value::Text((*short.ok_or_else(|| refuse(&format!("one of {}", names.join(", "))))?).to_owned())
            }
            Kind::Number => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                Value::Number(number.ok_or_else(|| refuse("a number"))?)
            }
            Kind::Time => {
                let time = text.parse::<jiff::Timestamp>().map_err(|_| refuse("an RFC 3339 time"))?;
                Value::Time(time.as_millisecond())
            }
            Kind::Bool => match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(refuse("true or false")),
            },
        };
        Ok(Arg::Value(value))
    }

    /// A quoted string or a bare word. `*` at its end, not after a backslash, makes it a prefix.
    fn word(&mut self) -> Result<Word, FilterError> {
        self.blanks();
        let at = self.position();
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            self.chars.next();
            return self.quoted(quote, at);
        }
        let bare = self.run(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | '"' | '\'' | '=' | '<' | '>' | '!'));
        if bare.is_empty() || is_keyword(bare) {
            return Err(self.error_at(at, "expected a value"));
        }
        let (text, prefix) = bare.strip_suffix('*').map_or((bare, false), |text| (text, true));
        if text.contains('*') {
            return Err(self.error_at(at, "\"*\" may stand only at the end of a value; write \\* in quotes"));
        }
        Ok(Word { text: text.to_owned(), prefix })
    }

    fn quoted(&mut self, quote: char, at: usize) -> Result<Word, FilterError> {
        let mut text = String::new();
        let mut prefix = false;
        while let Some((_, c)) = self.chars.next() {
            if c == quote {
                return Ok(Word { text, prefix });
            }
            if prefix {
                return Err(self.error_at(at, "\"*\" may stand only at the end of a value; write \\* in quotes"));
            }
            match c {
                '\\' => match self.chars.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\' | '*'))) => text.push(escaped),
                    _ => return Err(self.error("unknown escape; known are \\\" \\' \\\\ \\*")),
                },
                '*' => prefix = true,
                other => text.push(other),
            }
        }
        Err(self.error_at(at, "the quoted string does not end"))
    }

    /// Eats the keyword if it comes next as a whole word.
    fn keyword(&mut self, word: &str) -> bool {
        self.blanks();
        let rest = &self.text[self.position()..];
        let ends = |rest: &str| rest.chars().next().is_none_or(|c| c.is_whitespace() || c == '(' || c == ')');
        if !rest.strip_prefix(word).is_some_and(ends) {
            return false;
        }
        self.skip(word);
        true
    }

    fn skip(&mut self, text: &str) {
        for _ in text.chars() {
            self.chars.next();
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.chars.next();
        }
        found
    }

    /// The longest run of such characters, blanks before it skipped.
    fn run(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        self.blanks();
        let start = self.position_now();
        while self.chars.next_if(|(_, c)| accept(*c)).is_some() {}
        &self.text[start..self.position_now()]
    }

    fn blanks(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn peek(&mut self) -> Option<char> {
        self.blanks();
        self.chars.peek().map(|(_, c)| *c)
    }

    /// Where the next thing that is not blank begins.
    fn position(&mut self) -> usize {
        self.blanks();
        self.position_now()
    }

    fn position_now(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn error(&mut self, message: impl Into<String>) -> FilterError {
        let at = self.position();
        self.error_at(at, message)
    }

    fn error_at(&self, position: usize, message: impl Into<String>) -> FilterError {
        FilterError { position, message: message.into() }
    }
}

struct Word {
    text: String,
    prefix: bool,
}

impl FieldDef {
    fn stands_for(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.name == name,
        }
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "AND" | "OR" | "NOT")
}

/// Enough of a word to recognise it in an error message.
fn cut(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &word[..at]),
        None => word.to_owned(),
    }
}
