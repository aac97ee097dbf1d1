//! Calls about many things at once: which, and what became of them.

use jobwire_proto::v1 as pb;

use crate::errors::{Code, Error, RpcError};

/// Which jobs, schedules, workers or workflows a call is about: ids, at most 1,000, or a filter. Texts, lists of them and
/// handles of jobs are ids.
///
/// ```
/// # use jobwire::Selector;
/// let one = Selector::from("nightly");
/// let some = Selector::from(["nightly", "hourly"]);
/// let all_dead = Selector::filter("state = DEAD AND queue = mail");
/// ```
#[derive(Debug, Clone)]
pub struct Selector(pb::Selector);

impl Selector {
    /// These ids.
    pub fn ids<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Self {
        Self(pb::Selector { ids: ids.into_iter().map(Into::into).collect(), filter: String::new() })
    }

    /// What a filter matches: `state = DEAD AND finish_time < "2026-11-01T00:00:00Z"`. `*` is everything.
    pub fn filter(filter: impl Into<String>) -> Self {
        Self(pb::Selector { ids: Vec::new(), filter: filter.into() })
    }

    pub(crate) fn into_proto(self) -> pb::Selector {
        self.0
    }
}

impl From<&str> for Selector {
    fn from(id: &str) -> Self {
        Self::ids([id])
    }
}

impl From<String> for Selector {
    fn from(id: String) -> Self {
        Self::ids([id])
    }
}

impl From<&String> for Selector {
    fn from(id: &String) -> Self {
        Self::ids([id])
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Selector {
    fn from(ids: [S; N]) -> Self {
        Self::ids(ids)
    }
}

impl<S: Into<String>> From<Vec<S>> for Selector {
    fn from(ids: Vec<S>) -> Self {
        Self::ids(ids)
    }
}

#[cfg(feature = "client")]
impl<O> From<&crate::Job<O>> for Selector {
    fn from(job: &crate::Job<O>) -> Self {
        Self::ids([job.id()])
    }
}

/// What a call about many things did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BulkResult {
    /// What the selector matched.
    pub matched: u64,
    /// What was changed; 0 when the call only counted.
    pub affected: u64,
    /// Some of the matched ids: up to 100 of each 1,000.
    pub sample_ids: Vec<String>,
    /// What matched and could not be changed, with the reason: up to 100 of each 1,000.
    pub errors: Vec<BulkError>,
}

/// One thing that could not be changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BulkError {
    /// Which.
    pub id: String,
    /// Why.
    pub error: RpcError,
}

impl BulkResult {
    /// An error if something matched and could not be changed: the first one.
    pub fn ok(self) -> Result<Self, Error> {
        match self.errors.into_iter().next() {
            Some(first) => Err(first.error.into()),
            None => Ok(Self { errors: Vec::new(), ..self }),
        }
    }

    pub(crate) fn from_proto(result: Option<pb::BulkResult>) -> Self {
        let mut all = Self::default();
        all.add(result.unwrap_or_default());
        all
    }

    /// How many the next round may take, 0 = as many as the server likes; None when there have been enough.
    pub(crate) fn room(&self, limit: Option<usize>) -> Option<i32> {
        /// What one round does at most.
        const ROUND_MAX: u64 = 10_000;
        let left = match limit {
            None => return Some(0),
            Some(limit) => u64::try_from(limit).unwrap_or(u64::MAX).saturating_sub(self.matched),
        };
        i32::try_from(left.min(ROUND_MAX)).ok().filter(|left| *left > 0)
    }

    pub(crate) fn add(&mut self, part: pb::BulkResult) {
        self.matched += u64::try_from(part.matched_count).unwrap_or(0);
        self.affected += u64::try_from(part.affected_count).unwrap_or(0);
        self.sample_ids.extend(part.sample_ids);
        self.errors.extend(part.errors.into_iter().map(|item| BulkError {
            id: item.id,
            error: item.error.map_or_else(|| RpcError::local(Code::Unknown, ""), RpcError::from_item),
        }));
    }
}

/// Makes a builder of a bulk call: with `limit`, and round after round until nothing is left to do.
macro_rules! bulk_call {
    ($(#[$doc:meta])* $name:ident: $request:ident -> $answer:ident, $call:ident $path:literal) => {
        $(#[$doc])*
        #[must_use = "nothing is done until this is awaited"]
        #[derive(Debug)]
        pub struct $name {
            client: crate::Client,
            request: Result<pb::$request, crate::Error>,
            limit: Option<usize>,
        }

        impl $name {
            /// About so many at most. Default: all that the selector matches.
            pub fn limit(mut self, limit: usize) -> Self {
                self.limit = Some(limit);
                self
            }

            #[allow(dead_code)]
            fn edit(mut self, change: impl FnOnce(&mut pb::$request)) -> Self {
                if let Ok(request) = &mut self.request {
                    change(request);
                }
                self
            }

            async fn send(self) -> Result<crate::BulkResult, crate::Error> {
                let (mut request, mut result) = (self.request?, crate::BulkResult::default());
                while let Some(limit) = result.room(self.limit) {
                    request.limit = limit;
                    let answer: pb::$answer = self.client.shared().$call($path, request.clone()).await?;
                    let part = answer.result.unwrap_or_default();
                    request.continue_token.clone_from(&part.continue_token);
                    result.add(part);
                    if request.continue_token.is_empty() {
                        break;
                    }
                }
                Ok(result)
            }
        }

        crate::calls::awaited!($name => crate::BulkResult);
    };
}
pub(crate) use bulk_call;
