//! Selectors with places to fill from a payload: `trig:{trig_id}:*`, `#user-{user.id}`.

use super::{FieldError, Occasion};
use crate::key::{KeyWriter, MAX_TAG_BYTES, canonical_segments, escape_segment, is_namespace_name};
use crate::selector::Selector;

/// The longest template, and the longest selector made from one, in bytes.
const MAX_BYTES: usize = 4096;

/// A selector with fields to fill. What fills them is text: it stays inside its segment or tag, whatever it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    kind: Kind,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Under,
    Key,
    Tag,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The path of a field.
    Field(String),
}

/// Why text is no selector with fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing there.
    #[error(
        "an empty selector: write a key (`trig:{{id}}`), a subtree (`trig:{{id}}:*`), a tag (`#site`) or `*`"
    )]
    Empty,
    /// `#` alone.
    #[error("a tag without a name: write `#name`")]
    EmptyTag,
    /// Longer than any selector.
    #[error("a selector of {len} bytes: at most {MAX_BYTES}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A brace without its partner, or one inside another.
    #[error("braces that do not match: a field is written {{name}}")]
    Braces,
    /// What stands between braces is no field.
    #[error(
        "{{{field}}} is no field: write its name, of letters, digits, `_` and `-`, or a path of names, {{user.id}}"
    )]
    Field {
        /// What stands there.
        field: String,
    },
    /// A `*` that would name more than it says.
    #[error("a `*` stands alone or behind the last `:`; anywhere else it would name more than is written")]
    Star,
    /// The first segment is not fixed, or no namespace.
    #[error("a selector begins with the name of a namespace, written out: letters, digits, `_`, `-` or `.`")]
    Namespace,
    /// A `%` that begins no escape.
    #[error("a `%` begins an escape, two hexadecimal digits: for the sign itself write `%25`")]
    Percent,
}

/// Why a payload fills no selector.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfilled {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("with this payload it is {len} bytes long: at most {most}")]
    TooLong { len: usize, most: usize },
    #[error("with this payload it is a tag without a name")]
    EmptyTag,
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(TemplateError::TooLong { len: text.len() });
        }
        if text == "*" {
            return Ok(Template { kind: Kind::All, pieces: Vec::new() });
        }
        if let Some(tag) = text.strip_prefix('#') {
            return match tag.is_empty() {
                true => Err(TemplateError::EmptyTag),
                // Literal, as in every selector: no `*` or `%` means anything in a tag.
                false => Ok(Template { kind: Kind::Tag, pieces: pieces(tag)? }),
            };
        }
        let (kind, key) = match text.strip_suffix(":*") {
            Some(key) => (Kind::Under, key),
            None => (Kind::Key, text),
        };
        let pieces = pieces(key)?;
        for piece in &pieces {
            let Piece::Text(text) = piece else { continue };
            if text.contains('*') {
                return Err(TemplateError::Star);
            }
            let is_escape =
                |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
            if !text.split('%').skip(1).all(is_escape) {
                return Err(TemplateError::Percent);
            }
        }
        if !is_namespace_name(key.split(':').next().unwrap_or_default()) {
            return Err(TemplateError::Namespace);
        }
        Ok(Template { kind, pieces })
    }

    /// The selector for this occasion.
    pub(super) fn fill(&self, occasion: &Occasion<'_>) -> Result<Selector, Unfilled> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(path) => self.push(&occasion.text(path)?, &mut text),
            }
        }
        let most = if self.kind == Kind::Tag { MAX_TAG_BYTES } else { MAX_BYTES };
        if text.len() > most {
            return Err(Unfilled::TooLong { len: text.len(), most });
        }
        Ok(match self.kind {
            Kind::All => Selector::all(),
            Kind::Tag if text.is_empty() => return Err(Unfilled::EmptyTag),
            Kind::Tag => Selector::tag(&text),
            Kind::Under => Selector::under_bytes(&canonical_segments(&text)),
            Kind::Key => {
                let mut key = KeyWriter::new();
                key.raw(&canonical_segments(&text));
                Selector::of_key(&key)
            }
        })
    }

    /// Adds what a field holds: in a key, escaped, so that nothing in it has a meaning.
    fn push(&self, field: &str, text: &mut String) {
        match self.kind {
            Kind::Tag => text.push_str(field),
            // An empty segment is written as one when the whole key is.
            _ if field.is_empty() => {}
            _ => {
                let mut escaped = Vec::with_capacity(field.len());
                escape_segment(field, |bytes| escaped.extend_from_slice(bytes));
                text.push_str(&String::from_utf8_lossy(&escaped));
            }
        }
    }
}

/// Cuts text at its fields.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, field) = rest.split_at(at);
        let field = field.strip_prefix('{').ok_or(TemplateError::Braces)?;
        let end = field.find(['{', '}']).ok_or(TemplateError::Braces)?;
        let (field, after) = field.split_at(end);
        rest = after.strip_prefix('}').ok_or(TemplateError::Braces)?;
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if !field.split('.').all(is_name) {
            return Err(TemplateError::Field { field: field.to_owned() });
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Field(field.to_owned()));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use proptest::prelude::*;
    use serde_json::json;

    fn fill(template: &str, payload: &serde_json::Value) -> Result<Selector, String> {
        let template = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
        template.fill(&Occasion { name: "it", payload }).map_err(|e| e.to_string())
    }

    proptest! {
        /// Whatever a payload holds, it is one segment of a key, or part of one tag, and nothing else.
        #[test]
        fn input_from_outside_stays_inside_its_segment(
            plain in any::<String>(), odd in "[:*#%~{}, a]{0,8}", prefix in "[a-z]{0,3}",
        ) {
            for text in [plain, odd] {
                let payload = json!({ "a": { "b": text } });
                let one = format!("{prefix}{text}");
                let under = fill(&format!("trig:{prefix}{{a.b}}:*"), &payload).unwrap();
                prop_assert_eq!(&under, &Selector::under(("trig", one.as_str())));
                prop_assert!(!under.matches(&Key::of(("trig", "another")), &[]) || one == "another");
                let key = fill(&format!("trig:7:{prefix}{{a.b}}:logs"), &payload).unwrap();
                prop_assert_eq!(&key, &Selector::key(("trig", 7, one.as_str(), "logs")));
                // What is written into the log is read from it as the same.
                prop_assert_eq!(&Selector::from_log(&under.to_string()), &under);
                prop_assert_eq!(&Selector::from_log(&key.to_string()), &key);
                match fill(&format!("#{prefix}{{a.b}}"), &payload) {
                    Ok(tag) => prop_assert_eq!(tag, Selector::tag(&one)),
                    Err(_) => prop_assert!(one.is_empty() || one.len() > MAX_TAG_BYTES),
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic_or_name_more_than_it_says(text in "[a-z:*#%{}. ]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                let filled = template.fill(&Occasion { name: "it", payload: &json!({}) });
                prop_assert!(!filled.is_ok_and(|selector| selector == Selector::all()) || text.trim_ascii() == "*");
            }
        }
    }

    #[test]
    fn strings_integers_and_booleans_fill_a_field() {
        let payload = json!({ "s": "Ben Nevis", "n": -5, "big": u64::MAX, "b": true, "in": { "ner": 1 } });
        for (template, selector) in [
            ("trig:{s}:*", "trig:Ben%20Nevis:*"),
            ("trig:{n}", "trig:-5"),
            ("trig:{big}-{b}:x", "trig:18446744073709551615-true:x"),
            ("trig:{in.ner}:a b:*", "trig:1:a%20b:*"),
            ("#site-{s}", "#site-Ben%20Nevis"),
            ("trig:*", "trig:*"),
            (" * ", "*"),
            ("#a*", "#a*"),
        ] {
            assert_eq!(
                fill(template, &payload).map(|s| s.to_string()).as_deref(),
                Ok(selector),
                "{template}"
            );
        }
    }

    #[test]
    fn a_field_that_is_missing_or_of_another_type_is_said_and_never_left_out() {
        let payload = json!({ "f": 1.5, "none": null, "list": [1], "object": {}, "long": "x".repeat(5000) });
        for (field, why) in [
            ("missing", "the payload has no field missing"),
            ("f.x", "the payload has no field f.x"),
            ("list.0", "the payload has no field list.0"),
            ("f", "the payload's f is a fraction, not a string, an integer or a boolean"),
            ("none", "the payload's none is null, not a string, an integer or a boolean"),
            ("list", "the payload's list is an array, not a string, an integer or a boolean"),
            ("object", "the payload's object is an object, not a string, an integer or a boolean"),
            ("long", "with this payload it is 5005 bytes long: at most 4096"),
        ] {
            assert_eq!(fill(&format!("trig:{{{field}}}:*"), &payload), Err(why.to_owned()), "{field}");
        }
        for payload in [json!(null), json!([{ "id": 1 }]), json!("id"), json!(7)] {
            assert!(fill("trig:{id}:*", &payload).is_err(), "{payload}");
        }
    }

    #[test]
    fn what_would_not_mean_what_it_says_is_refused_when_it_is_declared() {
        let refused = |text: &str| Template::parse(text).unwrap_err();
        for (text, why) in [
            ("", TemplateError::Empty),
            (" \t", TemplateError::Empty),
            ("#", TemplateError::EmptyTag),
            ("trig:{id", TemplateError::Braces),
            ("trig:id}", TemplateError::Braces),
            ("trig:{a{b}}", TemplateError::Braces),
            ("#{", TemplateError::Braces),
            ("trig:{}", TemplateError::Field { field: String::new() }),
            ("trig:{a b}", TemplateError::Field { field: "a b".to_owned() }),
            ("trig:{a..b}", TemplateError::Field { field: "a..b".to_owned() }),
            ("trig:{a|upper}", TemplateError::Field { field: "a|upper".to_owned() }),
            ("trig:*:photos", TemplateError::Star),
            ("trig:12*", TemplateError::Star),
            ("trig:{id}*", TemplateError::Star),
            ("**", TemplateError::Star),
            ("{id}:*", TemplateError::Namespace),
            ("tr{id}:*", TemplateError::Namespace),
            (":x", TemplateError::Namespace),
            (":*", TemplateError::Namespace),
            ("a b:*", TemplateError::Namespace),
            ("trig:100%", TemplateError::Percent),
            ("trig:%2{id}", TemplateError::Percent),
        ] {
            assert_eq!(refused(text), why, "{text:?}");
        }
        assert_eq!(refused(&"x".repeat(5000)), TemplateError::TooLong { len: 5000 });
    }
}
