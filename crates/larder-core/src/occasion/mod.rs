//! Occasions: what happens in a service and makes entries old. The service [publishes](Cache::publish) them by name
//! (`points_changed`), [handlers](Cache::on) answer what is to be dropped, expired or refreshed.
//!
//! Teams call them events. The word here is another, because an [`Event`](crate::Event) is what the engine says of
//! itself.
//!
//! Handlers run once, at the publisher: other nodes hear of the effect, through the log, and run nothing.

mod publish;
mod reaction;
mod refresh;
mod rule;
mod template;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde_json::Value;

pub use self::publish::{Effect, HandlerFailure, PublishError, Published};
pub use self::reaction::Reaction;
pub use self::rule::{Rule, RuleError, RuleFault};
pub use self::template::TemplateError;
use crate::cache::Cache;
use crate::key::is_namespace_name;

/// Names that handlers may listen to, at the most.
pub(crate) const MOST_NAMES: usize = 1024;
/// Handlers of one name, at the most.
pub(crate) const MOST_HANDLERS: usize = 64;

/// Something that has happened, as handlers see it.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    name: &'a str,
    payload: &'a Value,
}

impl<'a> Occasion<'a> {
    /// The name it was published under.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What was published with it.
    pub fn payload(&self) -> &'a Value {
        self.payload
    }

    /// A field of the payload as the text of one segment: a string, an integer or a boolean. `user.id` is the field
    /// `id` of the object `user`.
    ///
    /// ```
    /// # use larder_core::{Cache, FieldError, Reaction, Selector};
    /// # fn f(cache: &Cache) -> Result<(), Box<dyn std::error::Error>> {
    /// cache.on("points_changed", |e| -> Result<_, FieldError> {
    ///     Ok(Reaction::drop([Selector::under(("points", e.text("user.id")?))]))
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// There is no such field, or it is none of these. The error says nothing of what the payload holds.
    pub fn text(&self, path: &str) -> Result<String, FieldError> {
        let mut value = self.payload;
        for part in path.split('.') {
            value = value.get(part).ok_or_else(|| FieldError::Missing { path: path.to_owned() })?;
        }
        let found = match value {
            Value::String(text) => return Ok(text.clone()),
            Value::Number(number) if !number.is_f64() => return Ok(number.to_string()),
            Value::Bool(is) => return Ok(is.to_string()),
            Value::Number(_) => "a fraction",
            Value::Null => "null",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        Err(FieldError::Kind { path: path.to_owned(), found })
    }
}

/// Why a payload has no text where one was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No such field.
    #[error("the payload has no field {path}")]
    Missing {
        /// The field's path.
        path: String,
    },
    /// Something that cannot be a segment.
    #[error("the payload's {path} is {found}, not a string, an integer or a boolean")]
    Kind {
        /// The field's path.
        path: String,
        /// What is there.
        found: &'static str,
    },
}

/// Why nobody listens now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnError {
    /// The name cannot be published.
    #[error("{name:?} is no name of an event: 1 to 64 letters, digits, `_`, `-` or `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// Names are listened to in code and configuration, not made up from data.
    #[error("handlers listen to {MOST_NAMES} names already")]
    Names,
    /// Too many handlers of one name.
    #[error("{name} has {MOST_HANDLERS} handlers already")]
    Handlers {
        /// The name.
        name: String,
    },
}

pub(crate) type Handler = Arc<dyn Fn(&Occasion<'_>) -> Reaction + Send + Sync>;

/// Who listens to what.
#[derive(Default)]
pub(crate) struct Occasions {
    handlers: RwLock<HashMap<String, Vec<Handler>>>,
    failures: AtomicU64,
}

impl Occasions {
    /// Adds all of these, in this order, or none; then with the place of the one that was too much.
    fn add(&self, new: Vec<(String, Handler)>) -> Result<(), (usize, OnError)> {
        let mut handlers = self.handlers.write();
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (at, (name, _)) in new.iter().enumerate() {
            let there = handlers.get(name).map_or(0, Vec::len);
            let count = names.entry(name).or_insert(there);
            *count += 1;
            let listened =
                handlers.len() + names.keys().filter(|name| !handlers.contains_key(**name)).count();
            if *names.get(name.as_str()).unwrap_or(&0) > MOST_HANDLERS {
                return Err((at, OnError::Handlers { name: name.clone() }));
            }
            if listened > MOST_NAMES {
                return Err((at, OnError::Names));
            }
        }
        for (name, handler) in new {
            handlers.entry(name).or_default().push(handler);
        }
        Ok(())
    }

    /// Those who listen to a name, in the order in which they came.
    fn of(&self, name: &str) -> Vec<Handler> {
        self.handlers.read().get(name).cloned().unwrap_or_default()
    }

    /// What handlers have failed to do, so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Cache {
    /// Calls `handler` whenever `name` is published through this cache, in this process. It answers what is to be done:
    /// a [`Reaction`], several in a `Vec` or an array, or a `Result` whose error is reported as this handler's failure.
    ///
    /// It is called in the publisher's task: be quick, never block. A panic is contained and reported. Handlers stay for
    /// as long as the cache; one that holds a clone of the cache keeps it alive for ever.
    ///
    /// ```
    /// # use larder_core::{Cache, Reaction, Selector};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = Cache::builder().build().await?;
    /// cache.on("points_changed", |e| {
    ///     let user = e.payload()["user_id"].as_u64();
    ///     Reaction::drop([Selector::under(("points", user.unwrap_or(0)))])
    ///         .and(Reaction::expire([Selector::tag("leaderboard")]))
    /// })?;
    /// let published = cache.publish("points_changed", serde_json::json!({ "user_id": 7 })).await?;
    /// assert_eq!((published.handlers, published.failures.len()), (1, 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A name that is none (1 to 64 letters, digits, `_`, `-` or `.`), more than 64 handlers of it, more than 1024 names.
    pub fn on<R: Into<Reaction>>(
        &self,
        name: &str,
        handler: impl Fn(&Occasion<'_>) -> R + Send + Sync + 'static,
    ) -> Result<(), OnError> {
        check_name(name)?;
        let handler: Handler = Arc::new(move |occasion| handler(occasion).into());
        self.engine.occasions.add(vec![(name.to_owned(), handler)]).map_err(|(_, error)| error)
    }

    /// Listens as these rules say: each is one handler, as if given to [`on`](Self::on) in this order. All of them, or
    /// none.
    ///
    /// # Errors
    /// The first rule that means nothing, or is one too many, and why.
    pub fn declare(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), RuleError> {
        let rules: Vec<Rule> = rules.into_iter().collect();
        let mut handlers = Vec::with_capacity(rules.len());
        for (at, rule) in rules.iter().enumerate() {
            let handler = rule.handler().map_err(|fault| RuleError::new(at, rule, fault))?;
            handlers.push((rule.on.clone(), handler));
        }
        let added = self.engine.occasions.add(handlers);
        added.map_err(|(at, error)| RuleError::new(at, &rules[at], RuleFault::On(error)))
    }
}

fn check_name(name: &str) -> Result<(), OnError> {
    match is_namespace_name(name) {
        true => Ok(()),
        false => Err(OnError::Name { name: name.chars().take(80).collect() }),
    }
}
