//! Page and continue tokens: where a list goes on, and which question it belongs to. Opaque to clients.
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Parsed;
use crate::{api::status::ApiError, engine::Cursor, model::ids::Name};

/// Changes when older tokens cannot be read any more.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    version: u8,
    /// Hash of the question, so that a token cannot be used with another one.
    question: u64,
    place: T,
}

/// What a token belongs to: the call and all of its parameters that decide what is listed.
pub fn question(parts: &[&str]) -> u64 {
    // FNV-1a, with a separator that cannot stand in UTF-8.
    parts
        .iter()
        .flat_map(|part| part.bytes().chain([0xff]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Writes a token; empty when there is nothing more.
pub fn write<T: Serialize>(question: u64, place: Option<T>) -> String {
    place.map_or_else(String::new, |place| {
        let sealed = Sealed { version: VERSION, question, place };
        URL_SAFE_NO_PAD.encode(postcard::to_stdvec(&sealed).expect("a token always encodes"))
    })
}

/// Reads a token; `None` when it is empty.
pub fn read<T: DeserializeOwned>(field: &str, question: u64, token: &str) -> Parsed<Option<T>> {
    if token.is_empty() {
        return Ok(None);
    }
    let sealed = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| postcard::from_bytes::<Sealed<T>>(&bytes).ok());
    match sealed {
        Some(sealed) if sealed.version == VERSION && sealed.question == question => Ok(Some(sealed.place)),
        Some(sealed) if sealed.version == VERSION => {
            Err(ApiError::field(field, "belongs to a call with other parameters; begin without a token"))
        }
        _ => Err(ApiError::field(field, "is not a token of this server; begin without one")),
    }
}

/// Reads the place in a list of jobs.
pub fn cursor(field: &str, question: u64, token: &str) -> Parsed<Option<Cursor>> {
    match read::<Cursor>(field, question, token)? {
        Some(cursor) if !Name::is_valid(cursor.queue.as_str()) => {
            Err(ApiError::field(field, "is not a token of this server; begin without one"))
        }
        cursor => Ok(cursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::State;

    fn place(queue: &str) -> Cursor {
        Cursor {
            // Unchecked, as a forger would.
            queue: postcard::from_bytes(&postcard::to_stdvec(queue).expect("text")).expect("text"),
            state: State::Dead,
            after: None,
            since_ms: 5,
        }
    }

    #[test]
    fn a_token_goes_with_its_question_only() {
        let mine = question(&["ListJobs", "state = DEAD"]);
        let token = write(mine, Some(place("mail")));
        assert_eq!(cursor("page_token", mine, &token).expect("mine"), Some(place("mail")));
        for (asked, token) in [
            (question(&["ListJobs", "state = READY"]), token.clone()),
            (mine, "garbage".into()),
            (mine, token[1..].into()),
            (mine, write(mine, Some(place("not a name")))),
        ] {
            let item = cursor("page_token", asked, &token).expect_err("refused").into_item();
            assert_eq!((item.reason.as_str(), item.field.as_str()), ("INVALID_FIELD", "page_token"));
        }
        assert_ne!(question(&["ab", "c"]), question(&["a", "bc"]));
        assert_eq!(write::<Cursor>(mine, None), "");
        assert_eq!(cursor("page_token", mine, "").expect("none"), None);
    }
}
