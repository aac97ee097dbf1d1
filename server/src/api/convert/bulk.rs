//! Bulk calls: which items, how many, and what became of them.
use jobwire_proto::v1;

use super::{Parsed, at_most, count, job::job_ids, size, token};
use crate::{
    api::status::{ApiError, Reason},
    engine::{Bulk, BulkDone, Selector},
    model::{
        filter::{FieldDef, Filter, JOB_FIELDS},
        limits::{BULK_DEFAULT, BULK_MOST, Limits},
    },
};

/// Which items a selector names: exactly one of ids and filter.
pub enum Chosen {
    Ids(Vec<String>),
    Filter(Filter),
}

/// Reads a selector; paths in errors start with `selector`.
pub fn chosen(limits: &Limits, selector: Option<v1::Selector>, fields: &[FieldDef]) -> Parsed<Chosen> {
    let v1::Selector { ids, filter } = selector.unwrap_or_default();
    match (ids.is_empty(), filter.is_empty()) {
        (true, true) => Err(ApiError::field("selector", "set ids or filter; the filter \"*\" means everything")),
        (false, false) => Err(ApiError::field("selector", "set ids or filter, not both")),
        (false, true) => {
            count("selector.ids", ids.len(), limits.ids)?;
            Ok(Chosen::Ids(ids))
        }
        (true, false) => {
            self::filter(limits, filter, fields).map(Chosen::Filter).map_err(|error| error.within("selector"))
        }
    }
}

/// Reads a filter of bounded length.
pub fn filter(limits: &Limits, text: String, fields: &[FieldDef]) -> Parsed<Filter> {
    let text = at_most("filter", text, limits.filter_bytes)
        .map_err(|error| ApiError::new(Reason::InvalidFilter, error.message()).at("filter"))?;
    Ok(Filter::parse(&text, fields)?)
}

/// A bulk call about jobs, with what its continue tokens belong to.
pub struct JobBulk {
    pub bulk: Bulk,
    pub question: u64,
}

/// The fields that all bulk calls about jobs share. `call` names the call in its continue tokens.
pub struct JobBulkRequest {
    pub call: &'static str,
    pub selector: Option<v1::Selector>,
    pub limit: i32,
    pub continue_token: String,
    pub dry_run: bool,
}

impl JobBulkRequest {
    pub fn parse(self, limits: &Limits) -> Parsed<JobBulk> {
        let selector = match chosen(limits, self.selector, JOB_FIELDS)? {
            Chosen::Ids(ids) => Selector::Ids(job_ids("selector.ids", &ids)?),
            Chosen::Filter(filter) => Selector::Filter(filter),
        };
        let question = match &selector {
            Selector::Ids(_) => token::question(&[self.call]),
            Selector::Filter(filter) => token::question(&[self.call, &filter.to_string()]),
        };
        if matches!(selector, Selector::Ids(_)) && !self.continue_token.is_empty() {
            return Err(ApiError::field("continue_token", "goes with a filter only"));
        }
        let bulk = Bulk {
            selector,
            limit: size("limit", self.limit, BULK_DEFAULT, BULK_MOST)?,
            cursor: token::cursor("continue_token", question, &self.continue_token)?,
            dry_run: self.dry_run,
        };
        Ok(JobBulk { bulk, question })
    }
}

impl JobBulk {
    /// The only id that is named, if it is one.
    pub fn is_single(&self) -> bool {
        matches!(&self.bulk.selector, Selector::Ids(ids) if ids.len() == 1)
    }

    pub fn is_filter(&self) -> bool {
        matches!(self.bulk.selector, Selector::Filter(_))
    }
}

/// What a bulk call did.
pub fn to_result(question: u64, done: BulkDone) -> v1::BulkResult {
    v1::BulkResult {
        matched_count: done.matched as i32,
        affected_count: done.affected as i32,
        sample_ids: done.sample.iter().map(ToString::to_string).collect(),
        errors: done
            .errors
            .into_iter()
            .map(|(id, error)| v1::BulkError { id: id.to_string(), error: Some(ApiError::from(error).into_item()) })
            .collect(),
        continue_token: token::write(question, done.next),
    }
}
