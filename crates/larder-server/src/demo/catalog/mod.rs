//! The sample database behind `larder demo`: a search over home automations, on embedded SQLite.
//!
//! It stands for any service worth a cache: facets and searches read the whole table and cost what they cost, and
//! the data changes now and then. What is absent matters: nothing here caches, speaks HTTP, is asynchronous, draws from
//! a random source or reads the clock. Call it from a thread that may block, and pass the time in.
//!
//! ```
//! use larder_server::demo::catalog::{Catalog, Filters, Level};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("catalog.db");
//! let catalog = Catalog::open(&path, Level::One, 1_700_000_000_000)?;
//! let filters = Filters { q: Some("motion".to_owned()), ..Filters::default() };
//! assert!(catalog.search(&filters, 1)?.total > 0);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use self::error::CatalogError;
pub use self::facets::MAX_FACET_VALUES;
pub use self::filters::{Filters, MAX_FILTER_CHARS};
pub use self::level::Level;
pub use self::model::{
    AutomationSummary, FacetCount, Facets, NewRepository, RepositoryDetail, SearchPage, Statistics,
};
use self::pool::Pool;
pub use self::search::PER_PAGE;

mod draft;
mod error;
mod facets;
mod filters;
mod generate;
mod level;
mod model;
mod open;
mod pool;
pub(super) mod random;
mod repositories;
mod rfc3339;
mod scenarios;
mod schema;
mod search;
mod statistics;
#[cfg(test)]
mod tests;
mod words;

/// An open catalog. Clones share its connections: four for reading and one for writing.
///
/// Several catalogs, also in several processes, may be open on one file; each sees what the others write.
#[derive(Clone)]
pub struct Catalog {
    pool: Arc<Pool>,
    level: Level,
}

impl Catalog {
    /// Opens the catalog in this file. If the file is missing or empty, the tables are made and filled with the sample
    /// data of the level, the same each time; `now_ms` is when, in milliseconds since 1970. Whoever opens the file
    /// meanwhile waits for that. If the file is there, it must be a catalog of this level, and is used as it is.
    pub fn open(path: &Path, level: Level, now_ms: u64) -> Result<Catalog, CatalogError> {
        Ok(Catalog { pool: Arc::new(open::open(path, level, now_ms)?), level })
    }

    /// The level the catalog was made with.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Tells this catalog's data from that of any other: its level and when it was made.
    pub fn identity(&self) -> Result<String, CatalogError> {
        let made = self.pool.read("reading when the catalog was made", |t| schema::made(t))?;
        Ok(format!("{}-{made}", self.level))
    }

    /// The number that the next repository will get, unless another process adds one first.
    pub fn next_repository_id(&self) -> Result<i64, CatalogError> {
        self.pool.read("looking up the next number", |t| repositories::next_id(t))
    }

    /// Counts the automations that pass the filters, by repository, blueprint, trigger and action.
    pub fn facets(&self, filters: &Filters) -> Result<Facets, CatalogError> {
        let condition = filters.condition()?;
        self.pool.read("counting facets", |transaction| facets::facets(transaction, &condition))
    }

    /// Lists the automations that pass the filters: those of the repositories with most stars first, then by number.
    /// Pages are counted from 1 and have [`PER_PAGE`] results; a page past the last one is empty.
    pub fn search(&self, filters: &Filters, page: u32) -> Result<SearchPage, CatalogError> {
        search::check_page(page)?;
        let condition = filters.condition()?;
        self.pool.read("searching", |transaction| search::search(transaction, &condition, page))
    }

    /// Totals over everything, as of `now_ms`.
    pub fn statistics(&self, now_ms: u64) -> Result<Statistics, CatalogError> {
        self.pool.read("taking statistics", |transaction| statistics::statistics(transaction, now_ms))
    }

    /// One repository, if there is one of that number.
    pub fn repository(&self, id: i64) -> Result<Option<RepositoryDetail>, CatalogError> {
        self.pool.read("reading a repository", |transaction| repositories::detail(transaction, id))
    }

    /// Adds a repository, with a few automations chosen by its name. Owner and name are compared without regard to
    /// case; if they are taken the error is [`CatalogError::Duplicate`].
    pub fn add_repository(&self, new: &NewRepository, now_ms: u64) -> Result<RepositoryDetail, CatalogError> {
        repositories::check_new(new)?;
        self.pool
            .write("adding a repository", |transaction| repositories::add(transaction, new, now_ms))?
            .ok_or_else(|| CatalogError::Duplicate { owner: new.owner.clone(), name: new.name.clone() })
    }

    /// Changes what a repository says about itself, if there is one of that number.
    pub fn describe_repository(
        &self,
        id: i64,
        description: &str,
        now_ms: u64,
    ) -> Result<Option<RepositoryDetail>, CatalogError> {
        repositories::check_description(description)?;
        self.pool.write("describing a repository", |transaction| {
            repositories::describe(transaction, id, description, now_ms)
        })
    }

    /// Deletes a repository with all its automations. Says whether there was one of that number.
    pub fn delete_repository(&self, id: i64) -> Result<bool, CatalogError> {
        self.pool.write("deleting a repository", |transaction| repositories::delete(transaction, id))
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("level", &self.level).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared_between_threads<T: Clone + Send + Sync>() {}
    shared_between_threads::<Catalog>();
};
