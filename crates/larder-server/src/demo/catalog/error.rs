//! Everything that can go wrong with a catalog.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Level;

/// Why a catalog could not be opened, read or changed.
///
/// Each message says one level only; the cause, where there is one, is the error's source.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The level asked for is not 1, 2 or 3.
    #[error("there is no level {given:?}: use 1, 2 or 3")]
    UnknownLevel {
        /// What was given instead.
        given: String,
    },

    /// The file is a catalog of another level.
    #[error(
        "{} holds level {found}, but level {wanted} was asked for: \
         ask for level {found}, give another path, or delete the file to have it made again",
        path.display()
    )]
    WrongLevel {
        /// The file.
        path: PathBuf,
        /// The level it was made with.
        found: Level,
        /// The level asked for.
        wanted: Level,
    },

    /// The file exists but holds something else.
    #[error(
        "{} is not a sample catalog ({reason}): give another path, or move the file away to have one made there",
        path.display()
    )]
    NotACatalog {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: &'static str,
    },

    /// The file could not be opened or made.
    #[error("cannot open {}: check that its folder exists and that you may write there", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },

    /// The path itself makes no sense.
    #[error("{path:?} cannot be turned into a full path: give the path of a file")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// A value given by the caller breaks a rule.
    #[error("{field} {rule}")]
    Invalid {
        /// The name of the value.
        field: &'static str,
        /// The rule it breaks, phrased to follow the name.
        rule: String,
    },

    /// A repository with this owner and name is there already.
    #[error("repository {owner}/{name} exists already")]
    Duplicate {
        /// The owner given.
        owner: String,
        /// The name given.
        name: String,
    },

    /// No connection became free in time.
    #[error("the catalog was busy for {} seconds while {doing}", waited.as_secs())]
    Busy {
        /// What was to be done.
        doing: &'static str,
        /// How long the caller waited.
        waited: Duration,
    },

    /// The database failed.
    #[error("the catalog failed while {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
}

impl CatalogError {
    /// Whether the caller sent something that can never work, so that trying again is no use.
    pub fn is_invalid(&self) -> bool {
        matches!(self, CatalogError::Invalid { .. } | CatalogError::UnknownLevel { .. })
    }

    /// Whether a repository of that owner and name is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, CatalogError::Duplicate { .. })
    }
}
