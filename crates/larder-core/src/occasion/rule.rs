//! Handlers that are declared instead of written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::template::{Template, TemplateError};
use super::{Handler, OnError, Reaction, check_name};
use crate::selector::Selector;

/// Selectors in one rule, at the most.
const MOST_SELECTORS: usize = 64;

/// A handler as data, for configuration: on this occasion drop, expire and refresh what these selectors name. In them
/// `{field}` takes a field of the payload (`{user.id}` one of an object in it): a string, an integer or a boolean. It
/// becomes one segment, or part of a tag, whatever it holds. A payload that lacks the field is reported as this handler's
/// failure; the rule's other selectors are carried out.
///
/// Read it with serde, from any format; [`Cache::declare`](crate::Cache::declare) checks it.
///
/// ```
/// # use larder_core::{Cache, Rule};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cache = Cache::builder().build().await?;
/// let rules: Vec<Rule> = serde_json::from_str(
///     r##"[{ "on": "points_changed", "drop": ["points:{user_id}:*"], "expire": ["#leaderboard"] }]"##,
/// )?;
/// cache.declare(rules)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name to listen to.
    pub on: String,
    /// What to invalidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// What to expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expire: Vec<String>,
    /// What to expire and load again: see [`Reaction::refresh`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refresh: Vec<String>,
}

/// Why rules are not declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule} (on {on:?}) cannot be declared")]
#[non_exhaustive]
pub struct RuleError {
    /// Which rule, counted from 1.
    pub rule: usize,
    /// The name it listens to.
    pub on: String,
    /// What is wrong with it.
    #[source]
    pub fault: RuleFault,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// Nobody can listen to this, or nobody more.
    #[error("its `on` cannot be listened to")]
    On(#[source] OnError),
    /// A selector means nothing.
    #[error("its {list} {selector:?} is no selector")]
    Selector {
        /// `drop`, `expire` or `refresh`.
        list: &'static str,
        /// As written.
        selector: String,
        /// Why it is none.
        #[source]
        source: TemplateError,
    },
    /// It does nothing.
    #[error("it names nothing to drop, expire or refresh")]
    Empty,
    /// It does too much.
    #[error("it has {count} selectors: at most {MOST_SELECTORS}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl RuleError {
    pub(super) fn new(at: usize, rule: &Rule, fault: RuleFault) -> Self {
        RuleError { rule: at + 1, on: rule.on.clone(), fault }
    }
}

/// What one list of a rule makes of a selector.
type React = fn([Selector; 1]) -> Reaction;

/// A selector of a rule, ready to be filled.
struct Line {
    list: &'static str,
    react: React,
    text: String,
    template: Template,
}

impl Rule {
    /// Does it mean something?
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), RuleFault> {
        self.lines().map(drop)
    }

    pub(super) fn handler(&self) -> Result<Handler, RuleFault> {
        let lines = self.lines()?;
        Ok(Arc::new(move |occasion| {
            let react = |line: &Line| match line.template.fill(occasion) {
                Ok(selector) => (line.react)([selector]),
                Err(why) => Reaction::failed(format!("{} {}: {why}", line.list, line.text)),
            };
            lines.iter().map(react).collect()
        }))
    }

    fn lines(&self) -> Result<Vec<Line>, RuleFault> {
        check_name(&self.on).map_err(RuleFault::On)?;
        let lists: [(_, _, React); 3] = [
            ("drop", &self.drop, Reaction::drop),
            ("expire", &self.expire, Reaction::expire),
            ("refresh", &self.refresh, Reaction::refresh),
        ];
        match lists.iter().map(|(_, selectors, _)| selectors.len()).sum() {
            0 => return Err(RuleFault::Empty),
            1..=MOST_SELECTORS => {}
            count => return Err(RuleFault::TooMany { count }),
        }
        let mut lines = Vec::new();
        for (list, selectors, react) in lists {
            for text in selectors {
                let wrong = |source| RuleFault::Selector { list, selector: text.clone(), source };
                let template = Template::parse(text).map_err(wrong)?;
                lines.push(Line { list, react, text: text.clone(), template });
            }
        }
        Ok(lines)
    }
}
