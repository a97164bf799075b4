//! What an answer may be: at least the version that the token of its request stands for.
//!
//! Every write puts the next version of its row into the row's description, one write of a row at a time. So whatever
//! order things happen in, an answer is right if its version is not below what was asked for, and was ever written.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

/// What the descriptions of this check begin with.
const MARK: &str = "check v";

/// The description that carries a version.
pub(super) fn description(version: u64) -> String {
    format!("{MARK}{version}")
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is older than it may be.
    Older { version: u64, least: u64 },
    /// Nobody has written it.
    Unwritten { version: u64, newest: u64 },
    /// It is no answer to this request.
    Unreadable(String),
    /// The request failed, though its process was there all the time.
    Failed(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Older { version, least } => {
                write!(f, "it answered version {version}, and the write of version {least} was done before")
            }
            Wrong::Unwritten { version, newest } => {
                write!(f, "it answered version {version}, and the newest is {newest}")
            }
            Wrong::Unreadable(why) => write!(f, "it answered what cannot be read: {why}"),
            Wrong::Failed(why) => f.write_str(why),
        }
    }
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    description: String,
}

/// The version in the answer for a row.
pub(super) fn version(id: i64, body: &Bytes) -> Result<u64, Wrong> {
    let row: Row = serde_json::from_slice(body).map_err(|e| Wrong::Unreadable(e.to_string()))?;
    if row.id != id {
        return Err(Wrong::Unreadable(format!("repository {} instead of {id}", row.id)));
    }
    match row.description.strip_prefix(MARK) {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| Wrong::Unreadable(row.description)),
    }
}

/// Is this version a right answer? `least`: what was written before it was asked for. `newest`: what anybody had begun to
/// write when the answer came.
pub(super) fn judge(version: u64, least: u64, newest: u64) -> Result<(), Wrong> {
    match version {
        _ if version < least => Err(Wrong::Older { version, least }),
        _ if version > newest => Err(Wrong::Unwritten { version, newest }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(id: i64, description: &str) -> Bytes {
        serde_json::json!({ "id": id, "description": description, "stars": 1 }).to_string().into()
    }

    #[test]
    fn a_version_comes_back_as_it_was_written() {
        assert_eq!(version(7, &body(7, &description(41))), Ok(41));
        assert_eq!(version(7, &body(7, "as it was generated")), Ok(0));
        assert!(matches!(version(7, &body(8, &description(41))), Err(Wrong::Unreadable(_))));
        assert!(matches!(version(7, &body(7, "check vx")), Err(Wrong::Unreadable(_))));
        assert!(matches!(version(7, &Bytes::from_static(b"{")), Err(Wrong::Unreadable(_))));
    }

    #[test]
    fn older_than_the_token_and_newer_than_anything_are_both_wrong() {
        assert_eq!(judge(5, 5, 9), Ok(()));
        assert_eq!(judge(9, 5, 9), Ok(()));
        assert_eq!(judge(4, 5, 9), Err(Wrong::Older { version: 4, least: 5 }));
        assert_eq!(judge(10, 5, 9), Err(Wrong::Unwritten { version: 10, newest: 9 }));
    }
}
