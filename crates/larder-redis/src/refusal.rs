//! What it means when the server answers with an error. Pure.

use larder_core::RemoteError;
use redis::ServerError;

use crate::endpoint::Endpoint;
use crate::lane::Purpose;
use crate::slots;

/// Longest text of a server that is passed on, in bytes.
const TEXT_LIMIT: usize = 200;

/// Where else to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// From now on.
    Moved(Endpoint),
    /// This once, with ASKING.
    Ask(Endpoint),
}

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
            "MOVED" | "CLUSTERDOWN" => purpose != Purpose::Values,
            _ => false,
        }
    }

    /// Where to go instead, in a cluster, as told by `teller`.
    pub(crate) fn redirect(&self, teller: &Endpoint) -> Option<Redirect> {
        let to: fn(Endpoint) -> Redirect = match self.code.as_str() {
            "MOVED" => Redirect::Moved,
            "ASK" => Redirect::Ask,
            _ => return None,
        };
        // `MOVED 3999 127.0.0.1:6381`
        let (host, port) = self.text.split(' ').nth(2)?.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        Some(to(slots::endpoint(host, port, teller)))
    }

    /// In a cluster: may it be that another node serves the slot by now?
    pub(crate) fn doubts_map(&self) -> bool {
        let code = self.code.as_str();
        matches!(code, "MOVED" | "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN")
    }

    /// Does it say nothing of the other keys of a read? If it was `together` with others, something may be wrong with one of
    /// them, or with their being several.
    pub(crate) fn spares_others(&self, together: bool) -> bool {
        match self.code.as_str() {
            "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" => true,
            "CROSSSLOT" | "NOPERM" => together,
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
    fn a_redirection_says_where_to_and_without_a_host_it_means_that_of_whoever_tells() {
        let at = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        let redirect = |code, details| Refusal::new(code, details).redirect(&at("10.0.0.1", 1));
        assert_eq!(redirect("MOVED", "3999 10.0.0.2:7"), Some(Redirect::Moved(at("10.0.0.2", 7))));
        assert_eq!(redirect("ASK", "3999 ::1:7"), Some(Redirect::Ask(at("::1", 7))));
        assert_eq!(redirect("MOVED", "3999 :7"), Some(Redirect::Moved(at("10.0.0.1", 7))));
        for bad in ["", "3999", "3999 x", "3999 x:y", "3999 x:0", "3999 x:99999"] {
            assert_eq!(redirect("MOVED", bad), None, "{bad}");
        }
        assert_eq!(redirect("ERR", "3999 10.0.0.2:7"), None);
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
