//! What a load, a build or an invalidation can answer instead.

use std::fmt;
use std::sync::Arc;

use crate::policy::PolicyError;
use crate::selector::SelectorError;

/// Why a read has no value. Never because of the cache: a fault of a tier is a miss.
pub enum LoadError<E> {
    /// The loader failed. Shared, because many callers may have waited for one load.
    Loader(Arc<E>),
    /// The loader panicked. The panic reached nobody else; its message went where the process's panic hook sends it.
    Panicked,
    /// The load took longer than the policy's load timeout and was cancelled.
    TimedOut,
    /// Too many loads are under way, or wait for their turn.
    Overloaded,
    /// The loader reads the very key that it is loading, and would wait for itself.
    Recursive,
    /// The cache is being shut down.
    ShuttingDown,
}

impl<E> LoadError<E> {
    /// The name in events and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            LoadError::Loader(_) => "loader",
            LoadError::Panicked => "panicked",
            LoadError::TimedOut => "timed_out",
            LoadError::Overloaded => "overloaded",
            LoadError::Recursive => "recursive",
            LoadError::ShuttingDown => "shutting_down",
        }
    }

    /// What the loader said, if it was the loader.
    pub fn loader_error(&self) -> Option<&E> {
        match self {
            LoadError::Loader(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            LoadError::Loader(error) => LoadError::Loader(error.clone()),
            LoadError::Panicked => LoadError::Panicked,
            LoadError::TimedOut => LoadError::TimedOut,
            LoadError::Overloaded => LoadError::Overloaded,
            LoadError::Recursive => LoadError::Recursive,
            LoadError::ShuttingDown => LoadError::ShuttingDown,
        }
    }
}

impl<E: PartialEq> PartialEq for LoadError<E> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (LoadError::Loader(one), LoadError::Loader(other)) => one == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Loader(error) => f.debug_tuple("Loader").field(error).finish(),
            other => f.write_str(match other {
                LoadError::Panicked => "Panicked",
                LoadError::TimedOut => "TimedOut",
                LoadError::Overloaded => "Overloaded",
                LoadError::Recursive => "Recursive",
                LoadError::Loader(_) | LoadError::ShuttingDown => "ShuttingDown",
            }),
        }
    }
}

impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadError::Loader(_) => "the loader failed",
            LoadError::Panicked => "the loader panicked",
            LoadError::TimedOut => "the load took too long",
            LoadError::Overloaded => "too many loads are under way",
            LoadError::Recursive => "the loader reads the key that it is loading",
            LoadError::ShuttingDown => "the cache is shutting down",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Loader(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Why a cache was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option of the cache breaks its rule.
    #[error("{option} is {value}: {rule}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What it was set to. Never a secret.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// The default policy breaks a rule.
    #[error("the default policy is wrong")]
    Policy(#[source] PolicyError),
}

/// Why a namespace could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name cannot be part of keys and metrics.
    #[error("{name:?} is no name: 1 to 64 letters, digits, `_`, `-` or `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// The policy breaks a rule.
    #[error("the policy of {name} is wrong")]
    Policy {
        /// Whose.
        name: String,
        /// Which rule.
        #[source]
        source: PolicyError,
    },
    /// The name is in use for values of another type, or with another policy.
    #[error("{name} is in use with another {what}: {there}, now {here}")]
    Clash {
        /// The name.
        name: String,
        /// `type` or `policy`.
        what: &'static str,
        /// What it is in use with.
        there: String,
        /// What was asked for.
        here: String,
    },
}

/// Why a handle was not made refreshable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has a refreshable handle already, with a loader of its own: clone that one")]
pub struct RefreshableError {
    /// The namespace, or sub-resource.
    pub name: String,
}

/// Why a pattern invalidated nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no selector")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Why it is none.
    #[source]
    pub source: SelectorError,
}
