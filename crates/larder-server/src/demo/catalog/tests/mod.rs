//! The promises of a whole catalog, each on a database file of its own.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Catalog, Filters, Level, NewRepository};

mod changing;
mod opening;
mod reading;
mod recount;

const NOW_MS: u64 = 1_700_000_000_000;

/// A place for one catalog file, removed when dropped.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("catalog.db")
    }

    fn open(&self, level: Level) -> Catalog {
        Catalog::open(&self.path(), level, NOW_MS).unwrap()
    }
}

fn no_filters() -> Filters {
    Filters::default()
}

fn containing(q: &str) -> Filters {
    Filters { q: Some(q.to_owned()), ..Filters::default() }
}

fn new_repository(owner: &str, name: &str) -> NewRepository {
    NewRepository {
        owner: owner.to_owned(),
        name: name.to_owned(),
        description: "Made in a test.".to_owned(),
    }
}
