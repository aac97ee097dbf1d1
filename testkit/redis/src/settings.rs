//! What a Redis is started with.

/// `appendfsync`, or no append-only file at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Append {
    /// `appendonly no`, and no snapshots either.
    Off,
    /// `appendfsync everysec`.
    #[default]
    EverySec,
    /// `appendfsync always`.
    Always,
}

/// Of every Redis that holds data.
pub(crate) const DEFAULTS: [(&str, &str); 7] = [
    ("appendonly", "yes"),
    ("appendfsync", "everysec"),
    ("save", "\"\""),
    ("maxmemory-policy", "noeviction"),
    ("enable-debug-command", "yes"),
    ("repl-diskless-sync-delay", "0"),
    ("repl-timeout", "5"),
];

/// Directives of a Redis, each as in redis.conf. Later ones win. Unless said otherwise: append-only file with
/// `everysec`, no snapshots, `noeviction`, no password, DEBUG allowed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    lines: Vec<(String, String)>,
    clock: bool,
    user: Option<String>,
    password: Option<String>,
}

impl Settings {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any directive.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.lines.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How it writes its append-only file.
    #[must_use]
    pub fn append(self, append: Append) -> Self {
        match append {
            Append::Off => self.set("appendonly", "no"),
            Append::EverySec => self.set("appendonly", "yes").set("appendfsync", "everysec"),
            Append::Always => self.set("appendonly", "yes").set("appendfsync", "always"),
        }
    }

    /// Its clock can be set: [`Redis::set_clock`](crate::Redis::set_clock). Needs a C compiler.
    #[must_use]
    pub fn own_clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Room for data, such as `20mb`.
    #[must_use]
    pub fn maxmemory(self, bytes: &str) -> Self {
        self.set("maxmemory", bytes)
    }

    /// The default user has this password, between servers too.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.set("requirepass", password).set("masterauth", password)
    }

    /// A further user with these rules, such as `~{jobwire.* &* +@all`; the rig and [`Redis::url`](crate::Redis::url) go
    /// on as the default user, [`Redis::url_of`](crate::Redis::url_of) is for this one.
    #[must_use]
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        self.set("user", &format!("{name} on >{password} {rules}"))
    }

    /// What the rig's own connections and URLs use, when it is not what [`Settings::password`] says.
    #[must_use]
    pub fn connect_as(mut self, user: &str, password: &str) -> Self {
        self.user = Some(user.to_owned());
        self.password = Some(password.to_owned());
        self
    }

    pub(crate) fn has_clock(&self) -> bool {
        self.clock
    }

    pub(crate) fn credentials(&self) -> (Option<&str>, Option<&str>) {
        (self.user.as_deref(), self.password.as_deref())
    }

    /// The text of a redis.conf: `defaults`, then `place`, then what was set.
    pub(crate) fn file(&self, defaults: &[(&str, &str)], place: &[(&str, String)]) -> String {
        let place = place.iter().map(|(name, value)| (*name, value.as_str()));
        let own = self.lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let lines = defaults.iter().copied().chain(place).chain(own);
        lines.map(|(name, value)| format!("{name} {value}\n")).collect()
    }
}
