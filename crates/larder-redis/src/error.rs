//! What is wrong with a configuration.

use std::fmt;

/// A setting of [`Redis`](crate::Redis) that cannot be used: which, its value, and the rule it breaks.
///
/// It never holds a password, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redis {option} {value:?}: {rule}")]
pub struct ConfigError {
    option: &'static str,
    value: String,
    rule: String,
}

impl ConfigError {
    pub(crate) fn new(option: &'static str, value: impl fmt::Display, rule: impl Into<String>) -> Self {
        ConfigError { option, value: value.to_string(), rule: rule.into() }
    }

    /// The setter's name, or `url`.
    pub fn option(&self) -> &'static str {
        self.option
    }

    /// What it was set to; `***` stands for secrets.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What it has to be.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}
