//! Where a Redis store is: the value of `--store`, parsed. Nothing here prints a password.
use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Port of a Redis server that is not written.
const PORT: u16 = 6379;
/// Port of a Sentinel that is not written.
const SENTINEL_PORT: u16 = 26379;
/// What a password is shown as, and refused as.
pub const HIDDEN: &str = "***";
/// Keys begin with `{<prefix>.` unless told otherwise.
pub const DEFAULT_PREFIX: &str = "jobwire";
/// Longest prefix.
const MAX_PREFIX: usize = 64;

/// A Redis, a Sentinel set or a Cluster, and how to get in.
///
/// ```text
/// redis://[user:password@]host[:6379][/db]
/// redis+unix://[user:password@]/path/of/socket[?db=1]
/// redis+sentinel://[user:password@]host[:26379],host…/name-of-master[/db]
/// redis+cluster://[user:password@]host[:6379],host…
/// rediss://, rediss+sentinel://, rediss+cluster://      the same over TLS, with ?ca=FILE and ?cert=FILE&key=FILE
/// ```
///
/// User and password are percent-encoded. `Display` and `Debug` hide the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub topology: Topology,
    /// `None` = no encryption.
    pub tls: Option<Tls>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// For the sentinels, where they want one of their own.
    pub sentinel_password: Option<Secret>,
    /// Number of the database; 0 in a cluster.
    pub db: u32,
    /// Begins the name of every key and channel, inside the hash tag.
    pub prefix: String,
}

/// How the servers hang together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    Single(Addr),
    Sentinel { sentinels: Vec<Addr>, master: String },
    Cluster(Vec<Addr>),
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Addr {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Files in PEM, read anew for every connection, so that renewed certificates need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signed the servers' certificates; `None` = whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Target {
    /// Fills in what the URL did not say. Errors: a sentence on what is missing.
    pub fn complete(mut self, password: Option<&Secret>, sentinel: Option<&Secret>) -> Result<Self, String> {
        if self.password.is_none() {
            self.password = password.cloned();
        }
        self.sentinel_password = sentinel.cloned();
        if self.user.is_some() && self.password.is_none() {
            return Err("the store's URL has a user without a password; write user:password@, or :password@ for the \
                        default user, or set JOBWIRE_REDIS_PASSWORD"
                .to_owned());
        }
        Ok(self)
    }
}

/// Checks a prefix: 1 to 64 of letters, digits and `_.:-`.
pub fn check_prefix(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if text.is_empty() || text.len() > MAX_PREFIX || !text.chars().all(fits) {
        return Err(format!("`{text}` is not a prefix; write 1 to {MAX_PREFIX} of A-Z a-z 0-9 _ . : -"));
    }
    Ok(())
}

impl FromStr for Target {
    type Err = String;

    /// Errors: a sentence without the text itself, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("a Redis store is written redis://HOST:PORT/DB")?;
        let (tls, kind) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", kind) => (false, kind),
            ("rediss", kind) => (true, kind),
            _ => return Err(unknown_scheme(scheme)),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') {
            return Err("a `#` in the URL means nothing here; in a password write %23".to_owned());
        }
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (login, place),
            None => ("", rest),
        };
        let (user, password) = read_login(login)?;
        let options = Options::read(query)?;
        let (topology, db) = match kind {
            "" => single(place)?,
            "unix" if tls => return Err("a socket is not encrypted: write redis+unix://".to_owned()),
            "unix" => (Topology::Single(socket(place)?), None),
            "sentinel" => sentinel(place)?,
            "cluster" => cluster(place)?,
            _ => return Err(unknown_scheme(scheme)),
        };
        let db = match (db, options.db, kind) {
            (_, Some(_), kind) if kind != "unix" => return Err("write the database as /DB, not ?db=".to_owned()),
            (db, option, _) => db.or(option).unwrap_or(0),
        };
        Ok(Self {
            topology,
            tls: options.tls.of(tls)?,
            user,
            password,
            sentinel_password: None,
            db,
            prefix: DEFAULT_PREFIX.to_owned(),
        })
    }
}

fn unknown_scheme(scheme: &str) -> String {
    format!(
        "`{scheme}://` is not a way to a Redis; write redis://, redis+sentinel://, redis+cluster:// or redis+unix://, \
         with rediss for TLS"
    )
}

fn read_login(text: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err("user and password must be UTF-8, percent-encoded".to_owned()),
    };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (decode(user)?, Some(decode(password)?)),
        None => (decode(text)?, None),
    };
    if password.as_deref() == Some(HIDDEN) {
        return Err(format!(
            "{HIDDEN} stands for a password that was not shown; write it, or set JOBWIRE_REDIS_PASSWORD"
        ));
    }
    let password = password.filter(|password| !password.is_empty()).map(Secret);
    Ok((Some(user).filter(|user| !user.is_empty()), password))
}

/// `host:port` and perhaps `/db`.
fn single(place: &str) -> Result<(Topology, Option<u32>), String> {
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    if hosts.contains(',') {
        return Err("redis:// takes one host; for several write redis+sentinel:// or redis+cluster://".to_owned());
    }
    Ok((Topology::Single(host(hosts, PORT)?), database(path)?))
}

/// `host:port,…/master` and perhaps `/db`.
fn sentinel(place: &str) -> Result<(Topology, Option<u32>), String> {
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err("the name of the master is missing: redis+sentinel://HOST:26379,HOST:26379/NAME".to_owned());
    }
    let topology = Topology::Sentinel { sentinels: hosts_of(hosts, SENTINEL_PORT)?, master: master.to_owned() };
    Ok((topology, database(db)?))
}

/// `host:port,…`.
fn cluster(place: &str) -> Result<(Topology, Option<u32>), String> {
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    if !path.is_empty() && path != "0" {
        return Err(format!("a cluster has one database: drop /{path}"));
    }
    Ok((Topology::Cluster(hosts_of(hosts, PORT)?), None))
}

fn socket(place: &str) -> Result<Addr, String> {
    match place {
        path if path.starts_with('/') && path.len() > 1 => Ok(Addr::Unix(path.into())),
        _ => Err("a socket needs its whole path: redis+unix:///run/redis/redis.sock".to_owned()),
    }
}

fn database(text: &str) -> Result<Option<u32>, String> {
    match text.strip_suffix('/').unwrap_or(text) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("`{text}` is not the number of a database, as in /0")),
    }
}

fn hosts_of(text: &str, port: u16) -> Result<Vec<Addr>, String> {
    text.split(',').map(|text| host(text, port)).collect()
}

fn host(text: &str, port: u16) -> Result<Addr, String> {
    // In brackets stands an IPv6 address, which has colons of its own.
    let (host, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port))),
    };
    let port = match rest {
        Some("") => Some(port),
        Some(text) => text.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    match port {
        Some(port) if !host.is_empty() => Ok(Addr::Tcp { host: host.to_owned(), port }),
        _ => Err(format!("`{text}` is not a server; write HOST:PORT, as redis.internal:6379 or [::1]:6379")),
    }
}

/// What follows the `?`.
#[derive(Default)]
struct Options {
    tls: TlsFiles,
    db: Option<u32>,
}

#[derive(Default)]
struct TlsFiles {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Options {
    fn read(query: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("`{name}` must be UTF-8"))?;
            if value.is_empty() {
                return Err(format!("`{name}` has no value"));
            }
            match name {
                "ca" => options.tls.ca = Some(value.as_ref().into()),
                "cert" => options.tls.cert = Some(value.as_ref().into()),
                "key" => options.tls.key = Some(value.as_ref().into()),
                "db" => options.db = database(&value)?,
                _ => return Err(format!("`{name}` is no option of a Redis URL; there are ca, cert, key and db")),
            }
        }
        Ok(options)
    }
}

impl TlsFiles {
    fn of(self, tls: bool) -> Result<Option<Tls>, String> {
        let client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("cert and key go together".to_owned()),
        };
        if !tls && (self.ca.is_some() || client.is_some()) {
            return Err("ca, cert and key are for TLS: write rediss instead of redis".to_owned());
        }
        Ok(tls.then_some(Tls { ca: self.ca, client }))
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    /// The URL, with *** for the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const IN_LOGIN: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b':').add(b'@').add(b'/').add(b'?').add(b'#');
        const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#');
        let kind = match &self.topology {
            Topology::Single(Addr::Tcp { .. }) => "",
            Topology::Single(Addr::Unix(_)) => "+unix",
            Topology::Sentinel { .. } => "+sentinel",
            Topology::Cluster(_) => "+cluster",
        };
        write!(f, "redis{}{kind}://", if self.tls.is_some() { "s" } else { "" })?;
        let user = self.user.as_deref().unwrap_or_default();
        match &self.password {
            Some(_) => write!(f, "{}:{HIDDEN}@", utf8_percent_encode(user, IN_LOGIN))?,
            None if !user.is_empty() => write!(f, "{}@", utf8_percent_encode(user, IN_LOGIN))?,
            None => {}
        }
        let list = |addrs: &[Addr]| addrs.iter().map(Addr::to_string).collect::<Vec<_>>().join(",");
        match &self.topology {
            Topology::Single(addr) => write!(f, "{addr}")?,
            Topology::Sentinel { sentinels, master } => write!(f, "{}/{master}", list(sentinels))?,
            Topology::Cluster(nodes) => f.write_str(&list(nodes))?,
        }
        let mut options = Vec::new();
        match (self.db, kind) {
            (0, _) => {}
            (db, "+unix") => options.push(format!("db={db}")),
            (db, _) => write!(f, "/{db}")?,
        }
        if let Some(tls) = &self.tls {
            let (cert, key) = tls.client.as_ref().map_or((None, None), |(cert, key)| (Some(cert), Some(key)));
            for (name, file) in [("ca", tls.ca.as_ref()), ("cert", cert), ("key", key)] {
                if let Some(file) = file {
                    options.push(format!("{name}={}", utf8_percent_encode(&file.to_string_lossy(), IN_QUERY)));
                }
            }
        }
        if options.is_empty() { Ok(()) } else { write!(f, "?{}", options.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn tcp(host: &str, port: u16) -> Addr {
        Addr::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_way_to_a_redis_is_read() {
        let single = read("redis://10.0.0.1");
        assert_eq!((single.topology, single.tls, single.db), (Topology::Single(tcp("10.0.0.1", 6379)), None, 0));

        let full = read("rediss://app:p%40ss%2F@r.internal:6390/3?ca=/etc/ca.pem&cert=/c.pem&key=/k%20.pem");
        assert_eq!(full.topology, Topology::Single(tcp("r.internal", 6390)));
        assert_eq!(full.user.as_deref(), Some("app"));
        assert_eq!(full.password.as_ref().map(Secret::reveal), Some("p@ss/"));
        assert_eq!(full.db, 3);
        let files = Some(("/c.pem".into(), "/k .pem".into()));
        assert_eq!(full.tls, Some(Tls { ca: Some("/etc/ca.pem".into()), client: files }));

        let sentinel = read("redis+sentinel://:pw@a:1,b,[::1]:3/main/2");
        let sentinels = vec![tcp("a", 1), tcp("b", 26379), tcp("::1", 3)];
        assert_eq!(sentinel.topology, Topology::Sentinel { sentinels, master: "main".to_owned() });
        assert_eq!((sentinel.user, sentinel.db), (None, 2));

        let cluster = read("redis+cluster://a:7000,b:7001");
        assert_eq!(cluster.topology, Topology::Cluster(vec![tcp("a", 7000), tcp("b", 7001)]));

        let socket = read("redis+unix:///run/redis.sock?db=4");
        assert_eq!((socket.topology, socket.db), (Topology::Single(Addr::Unix("/run/redis.sock".into())), 4));
    }

    #[test]
    fn nonsense_is_refused_with_what_to_write_instead() {
        for (text, expected) in [
            ("redis", "redis://HOST:PORT/DB"),
            ("redis:foo", "redis://HOST:PORT/DB"),
            ("http://a", "`http://` is not a way to a Redis"),
            ("redis+lucky://a", "`redis+lucky://` is not a way to a Redis"),
            ("redis://", "`` is not a server"),
            ("redis://a:b", "`a:b` is not a server"),
            ("redis://a:0", "`a:0` is not a server"),
            ("redis://::1", "`::1` is not a server"),
            ("redis://[::1]x", "`[::1]x` is not a server"),
            ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
            ("redis://a/x", "`x` is not the number of a database"),
            ("redis://a/-1", "`-1` is not the number of a database"),
            ("redis://a?db=1", "write the database as /DB"),
            ("redis://a?insecure=1", "`insecure` is no option"),
            ("redis://a?ca=", "`ca` has no value"),
            ("redis://a?ca=/x", "write rediss instead of redis"),
            ("rediss://a?cert=/x", "cert and key go together"),
            ("redis+sentinel://a:1", "the name of the master is missing"),
            ("redis+sentinel://a:1/", "the name of the master is missing"),
            ("redis+sentinel://a:1,,b/m", "`` is not a server"),
            ("redis+cluster://a/3", "drop /3"),
            ("redis+unix://run/x.sock", "whole path"),
            ("rediss+unix:///x.sock", "write redis+unix://"),
            ("redis://u:***@a", "stands for a password that was not shown"),
            ("redis://u:se#cret@a", "write %23"),
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown_and_the_rest_reads_back() {
        for text in [
            "redis://127.0.0.1:6379",
            "redis://[::1]:6379/2",
            "rediss+sentinel://a:1,b:2/main/7?ca=/etc/a%20b.pem",
            "redis+cluster://a:7000,b:7001",
            "redis+unix:///run/redis.sock?db=4",
            "rediss://a:1?cert=/c&key=/k",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        let target = read("redis://a%40b:hunter2@h:1").complete(None, Some(&Secret::new("hunter3"))).expect("complete");
        assert_eq!(target.to_string(), "redis://a%40b:***@h:1");
        assert!(!format!("{target:?}").contains("hunter"));
    }

    #[test]
    fn a_password_may_come_from_elsewhere_and_a_user_needs_one() {
        let env = Secret::new("from-env");
        let reveal = |target: Target| target.password.map(|secret| secret.reveal().to_owned());
        let from_env = read("redis://app@h").complete(Some(&env), None).expect("complete");
        assert_eq!(reveal(from_env).as_deref(), Some("from-env"));
        let from_url = read("redis://app:own@h").complete(Some(&env), None).expect("complete");
        assert_eq!(reveal(from_url).as_deref(), Some("own"));
        let error = read("redis://sesame@h").complete(None, None).expect_err("no password");
        assert!(error.contains("JOBWIRE_REDIS_PASSWORD") && !error.contains("sesame"), "{error}");
    }

    #[test]
    fn prefixes_stay_readable() {
        for good in ["jobwire", "a", "A-b_c.d:9"] {
            assert_eq!(check_prefix(good), Ok(()));
        }
        for bad in ["", "a b", "a{b", "ä", &"x".repeat(65)] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }
}
