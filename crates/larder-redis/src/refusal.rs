//! What it means when the server answers with an error. Pure.

use larder_core::RemoteError;
use redis::ServerError;

use crate::lane::Purpose;

/// Longest text of a server that is passed on, in bytes.
const TEXT_LIMIT: usize = 200;

/// An error that the server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: String,
    text: String,
}

impl Refusal {
    pub(crate) fn of(error: &ServerError) -> Self {
        Refusal::new(error.code(), error.details().unwrap_or_default())
    }

    fn new(code: &str, details: &str) -> Self {
        let mut text = if details.is_empty() { code.to_owned() } else { format!("{code} {details}") };
        if text.len() > TEXT_LIMIT {
            text.truncate((0..=TEXT_LIMIT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
            text.push_str("..");
        }
        Refusal { code: inner_code(code, details).to_owned(), text }
    }

    /// The code and the server's own words.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_unknown_script(&self) -> bool {
        self.code == "NOSCRIPT"
    }

    pub(crate) fn is_wrong_type(&self) -> bool {
        self.code == "WRONGTYPE"
    }

    /// Is another connection (perhaps to another server under the same name) the way out? `UNBLOCKED` is what one who
    /// waits is told by a primary that turns into a replica.
    pub(crate) fn ends(&self, purpose: Purpose) -> bool {
        match self.code.as_str() {
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "UNBLOCKED" => true,
            "MOVED" | "CLUSTERDOWN" => purpose == Purpose::Log,
            _ => false,
        }
    }

    /// Is it about writing at this moment only, so that the connection is of use all the same?
    pub(crate) fn spares_reads(&self) -> bool {
        matches!(self.code.as_str(), "MISCONF" | "NOREPLICAS" | "BUSY")
    }
}

impl From<Refusal> for RemoteError {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_wrong_type() {
            RemoteError::wrong_type(refusal.text)
        } else {
            RemoteError::refused(refusal.text)
        }
    }
}

/// Redis 6 wraps what a command in a script was answered: `ERR Error running script (call to f_..): @user_script:1:
/// -READONLY You can't ..`. What counts is inside.
fn inner_code<'a>(code: &'a str, details: &'a str) -> &'a str {
    if code != "ERR" || !details.starts_with("Error running script") {
        return code;
    }
    let inner = details.split(": -").nth(1).unwrap_or_default();
    let word = inner.split(' ').next().unwrap_or_default();
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()) { word } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demoted_primary_is_recognised_in_the_words_of_redis_6_and_7() {
        let six = "Error running script (call to f_6b1): @user_script:9: @user_script: 9: -READONLY You can't write";
        let ends = |code, details| Refusal::new(code, details).ends(Purpose::Values);
        assert!(ends("ERR", six));
        assert!(ends("READONLY", "You can't write against a read only replica."));
        assert!(!ends("ERR", "Error running script (call to f_6b1): : -"));
        assert!(!ends("OOM", "command not allowed: -READONLY x"));
    }

    #[test]
    fn only_the_log_leaves_a_server_for_what_concerns_a_slot() {
        for code in ["MOVED", "CLUSTERDOWN"] {
            assert!(Refusal::new(code, "x").ends(Purpose::Log));
            assert!(!Refusal::new(code, "x").ends(Purpose::Values));
        }
        assert!(!Refusal::new("TRYAGAIN", "x").ends(Purpose::Log));
    }

    #[test]
    fn a_wrong_type_is_told_from_other_refusals() {
        let error = RemoteError::from(Refusal::new("WRONGTYPE", "Operation against a key"));
        assert!(error.is_wrong_type());
        assert!(!RemoteError::from(Refusal::new("OOM", "command not allowed")).is_wrong_type());
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let refusal = Refusal::new("ERR", &"\u{e9}".repeat(500));
        assert!(refusal.text().len() <= TEXT_LIMIT + 2);
    }
}
