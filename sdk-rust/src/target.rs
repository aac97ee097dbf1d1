//! Where the server is, and what opens it: addresses, TLS files, token. Knows no gRPC library.

use std::path::PathBuf;
use std::sync::RwLock;

use crate::errors::Error;

/// The port of a server that was not told otherwise.
const DEFAULT_PORT: u16 = 7420;
const DEFAULT_URL: &str = "jobwire://127.0.0.1:7420";

/// One server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Address {
    /// As a URI for HTTP/2.
    pub fn uri(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let bad =
            |why: &str| Error::Config(format!("{text:?} is no server address: {why}; expected jobwire://host[:7420]"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("jobwire", text));
        let tls = match scheme {
            "jobwire" | "http" => false,
            "jobwires" | "https" => true,
            other => return Err(bad(&format!("unknown scheme {other:?}"))),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains(['/', '@', '?', '#']) {
            return Err(bad("neither path nor credentials belong into it"));
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| bad("the port is no number")))?;
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

/// Everything needed to reach a deployment.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// At least one.
    pub addresses: Vec<Address>,
    pub ca_file: Option<PathBuf>,
    /// Certificate and key of the client, for mTLS.
    pub identity: Option<(PathBuf, PathBuf)>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    /// What was last read from the file.
    read: RwLock<Option<String>>,
}

/// The settings as they were given: by code, by environment, or not at all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub url: Option<String>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub allow_plaintext_token: bool,
}

impl Settings {
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        Self {
            url: var("JOBWIRE_URL"),
            token: var("JOBWIRE_TOKEN"),
            token_file: var("JOBWIRE_TOKEN_FILE").map(PathBuf::from),
            ca_file: var("JOBWIRE_CA_FILE").map(PathBuf::from),
            cert_file: var("JOBWIRE_CERT_FILE").map(PathBuf::from),
            key_file: var("JOBWIRE_KEY_FILE").map(PathBuf::from),
            allow_plaintext_token: false,
        }
    }

    pub fn target(self) -> Result<Target, Error> {
        let url = self.url.as_deref().unwrap_or(DEFAULT_URL);
        let addresses = url.split(',').map(|part| Address::parse(part.trim())).collect::<Result<Vec<_>, _>>()?;
        let secret = self.token.is_some() || self.token_file.is_some();
        if let Some(open) = addresses.iter().find(|address| secret && !address.tls && !address.is_loopback())
            && !self.allow_plaintext_token
        {
            return Err(Error::Config(format!(
                "a token would travel unencrypted to {}; use jobwires://, or allow_plaintext_token() in code",
                open.authority()
            )));
        }
        let identity = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(Error::Config("JOBWIRE_CERT_FILE and JOBWIRE_KEY_FILE belong together".into())),
        };
        Ok(Target {
            addresses,
            ca_file: self.ca_file,
            identity,
            token: self.token,
            token_file: self.token_file,
            read: RwLock::default(),
        })
    }
}

impl Target {
    /// An address that nobody will go to.
    #[cfg(feature = "testing")]
    pub fn nowhere() -> Self {
        let nowhere = Address { host: "localhost".to_owned(), port: DEFAULT_PORT, tls: false };
        Self { addresses: vec![nowhere], ..Self::default() }
    }

    /// The token to show. `fresh` reads its file again: after a refusal, and for each new stream.
    pub fn token(&self, fresh: bool) -> Result<Option<String>, Error> {
        let Some(path) = &self.token_file else { return Ok(self.token.clone()) };
        if !fresh && let Some(token) = self.read.read().expect("no holder panics").clone() {
            return Ok(Some(token));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Config(format!("cannot read the token file {}: {error}", path.display())))?;
        let token = text.trim().to_owned();
        *self.read.write().expect("no holder panics") = Some(token.clone());
        Ok(Some(token))
    }

    /// Whether a refused token may be a different one when read again.
    pub fn can_refresh(&self) -> bool {
        self.token_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Error> {
        Settings { url: Some(url.to_owned()), ..Settings::default() }.target()
    }

    fn uris(url: &str) -> Vec<String> {
        target(url).expect("a target").addresses.iter().map(Address::uri).collect()
    }

    #[test]
    fn addresses_have_a_default_port_and_may_be_several() {
        assert_eq!(uris("jobwire://db"), ["http://db:7420"]);
        assert_eq!(uris("jobwires://a:1, https://b/,[::1]:9"), ["https://a:1", "https://b:7420", "http://[::1]:9"]);
        assert_eq!(Settings::default().target().expect("a default").addresses[0].uri(), "http://127.0.0.1:7420");
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (url, word) in
            [("redis://x", "scheme"), ("jobwire://", "host"), ("jobwire://h:x", "port"), ("http://h/p", "path")]
        {
            let error = target(url).expect_err(url).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_token_goes_unencrypted_to_loopback_only() {
        let with_token = |url: &str| Settings { url: Some(url.into()), token: Some("t".into()), ..Settings::default() };
        assert!(with_token("jobwire://127.0.0.1").target().is_ok());
        assert!(with_token("jobwires://far").target().is_ok());
        assert!(with_token("jobwire://far").target().is_err());
        assert!(Settings { allow_plaintext_token: true, ..with_token("jobwire://far") }.target().is_ok());
    }

    #[test]
    fn the_environment_names_everything_and_empty_means_unset() {
        let settings = Settings::from_env(|name| match name {
            "JOBWIRE_URL" => Some("jobwire://env:1".into()),
            "JOBWIRE_TOKEN" => Some(String::new()),
            "JOBWIRE_CERT_FILE" => Some("c.pem".into()),
            _ => None,
        });
        assert_eq!((settings.url.as_deref(), settings.token.as_deref()), (Some("jobwire://env:1"), None));
        assert!(settings.target().expect_err("no key").to_string().contains("JOBWIRE_KEY_FILE"));
    }
}
