//! Handlers of published events from TOML.

use larder_core::{Rule, RuleFault};
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    event: Vec<Spanned<Rule>>,
}

/// Why TOML declares nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclaredError {
    /// No TOML, or not of this form.
    #[error("line {line}: {message}")]
    Form {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A rule that means nothing.
    #[error("line {line}: the event {on:?} cannot be declared")]
    Rule {
        /// Where the rule begins, counted from 1.
        line: usize,
        /// The name it listens to.
        on: String,
        /// What is wrong with it.
        #[source]
        fault: RuleFault,
    },
}

/// Reads rules, each a table `[[event]]`, for [`Cache::declare`](crate::Cache::declare).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cache = larder::Cache::builder().build().await?;
/// let rules = larder::declared_from_toml(r##"
///     [[event]]
///     on = "points_changed"
///     drop = ["points:{user_id}:*", "user:{user_id}:profile"]
///     expire = ["#leaderboard"]
///
///     [[event]]
///     on = "repository_indexed"
///     refresh = ["repository:{repository.id}"]
/// "##)?;
/// cache.declare(rules)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Text that is no TOML, a key that means nothing, a rule that cannot be declared; with the line.
pub fn declared_from_toml(text: &str) -> Result<Vec<Rule>, DeclaredError> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|&b| b == b'\n').count();
    let document: Document = toml::from_str(text).map_err(|error| DeclaredError::Form {
        line: line(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let checked = document.event.into_iter().map(|rule| {
        let line = line(rule.span().start);
        let rule = rule.into_inner();
        match rule.check() {
            Ok(()) => Ok(rule),
            Err(fault) => Err(DeclaredError::Rule { line, on: rule.on, fault }),
        }
    });
    checked.collect()
}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/events.md")]
struct Guide;

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn every_table_is_a_rule() {
        let text = "[[event]]\non = \"a\"\ndrop = [\"x:{id}:*\"]\n[[event]]\non = \"b\"\nexpire = [\"#y\"]\nrefresh = [\"z\"]";
        let rules = declared_from_toml(text).unwrap();
        let names: Vec<_> =
            rules.iter().map(|rule| (rule.on.as_str(), rule.drop.len(), rule.refresh.len())).collect();
        assert_eq!(names, [("a", 1, 0), ("b", 0, 1)]);
        assert_eq!(declared_from_toml("# nothing\n"), Ok(vec![]));
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        for (text, message) in [
            ("[[event]]\non = \"a\"\ndorp = [\"x\"]", "line 3: unknown field `dorp`"),
            ("\n[[evnet]]\non = \"a\"", "line 2: unknown field `evnet`"),
            ("[[event]]\n\ndrop = [\"x\"]", "line 1: missing field `on`"),
            ("[[event]]\non = \"a\"\ndrop = \"x\"", "line 3: invalid type"),
            ("[event]\non = \"a\"", "line 1: invalid type"),
            ("[[event]]\non = a", "line 2: "),
            ("\n\n[[event]]\non = \"a\"", "line 3: the event \"a\" cannot be declared"),
        ] {
            let error = declared_from_toml(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
        let text = "[[event]]\non = \"a\"\ndrop = [\"x\"]\n\n[[event]]\non = \"b\"\ndrop = [\"x:{id\"]";
        let error = declared_from_toml(text).unwrap_err();
        assert_eq!(error.to_string(), "line 5: the event \"b\" cannot be declared");
        assert_eq!(error.source().unwrap().to_string(), "its drop \"x:{id\" is no selector");
    }
}
