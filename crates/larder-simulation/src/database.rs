//! Where values come from: rows with versions. And a note of every load, so that a value says which one it came from.

use larder_core::Selector;
use serde::{Deserialize, Serialize};

use crate::executor::{Process, Time};
use crate::oracle::{Names, Sel, Seq};

/// What is cached: nothing but where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doc {
    pub(crate) row: usize,
    pub(crate) version: usize,
    pub(crate) load: usize,
}

/// A kind of row: a handle on a namespace or a sub-resource of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    pub(crate) namespace: &'static str,
    pub(crate) sub: &'static str,
}

pub(crate) const RESOURCES: [Resource; 3] = [
    Resource { namespace: "doc", sub: "" },
    Resource { namespace: "doc", sub: "logs" },
    Resource { namespace: "item", sub: "" },
];

pub(crate) const TAGS: [&str; 5] = ["red", "green", "blue", "site", "old"];

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) resource: usize,
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The selectors of whatever is stored under its key.
    pub(crate) selectors: Vec<Sel>,
    /// What each version says of itself: its tags.
    versions: Vec<Vec<usize>>,
}

/// One load, from its beginning to the end.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) row: usize,
    pub(crate) process: Process,
    pub(crate) version: usize,
    pub(crate) began: Seq,
    /// When the value was handed to the cache.
    pub(crate) ended_at: Time,
    /// The tags it was stored with.
    pub(crate) tags: Vec<Sel>,
}

#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) rows: Vec<Row>,
    pub(crate) loads: Vec<Load>,
    pub(crate) tags: Vec<Sel>,
}

impl Database {
    /// `per_resource` rows of each resource, in version 0.
    pub(crate) fn new(per_resource: u64, names: &mut Names) -> Self {
        let mut rows = Vec::new();
        for (resource, Resource { namespace, sub }) in RESOURCES.iter().enumerate() {
            for id in 0..per_resource {
                let mut segments = vec![(*namespace).to_owned(), id.to_string()];
                if !sub.is_empty() {
                    segments.push((*sub).to_owned());
                }
                let name = segments.join(":");
                let mut selectors = vec![names.sel("*"), names.sel(&name)];
                for depth in 1..=segments.len() {
                    selectors.push(names.sel(&format!("{}:*", segments[..depth].join(":"))));
                }
                rows.push(Row { resource, id, name, selectors, versions: vec![Vec::new()] });
            }
        }
        let tags = TAGS.iter().map(|tag| names.sel(&Selector::tag(tag).to_string())).collect();
        Database { rows, loads: Vec::new(), tags }
    }

    /// A new version of a row, with these tags.
    pub(crate) fn commit(&mut self, row: usize, tags: Vec<usize>) -> usize {
        self.rows[row].versions.push(tags);
        self.rows[row].versions.len() - 1
    }

    pub(crate) fn latest(&self, row: usize) -> usize {
        self.rows[row].versions.len() - 1
    }

    /// The tags of a version.
    pub(crate) fn tags_of(&self, row: usize, version: usize) -> &[usize] {
        &self.rows[row].versions[version]
    }

    /// The key of a row by its number.
    pub(crate) fn key_of(&self, resource: usize, id: u64) -> usize {
        let found = self.rows.iter().position(|row| row.resource == resource && row.id == id);
        2 * found.expect("ids are those of rows")
    }

    /// The key with these bytes; `None`: of no row.
    pub(crate) fn key_named(&self, key: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(key).ok()?;
        let (name, varies) = text.split_once('~').map_or((text, false), |(name, _)| (name, true));
        let row = self.rows.iter().position(|row| row.name == name)?;
        Some(2 * row + usize::from(varies))
    }

    /// A load begins.
    pub(crate) fn begin(&mut self, row: usize, process: Process, began: Seq) -> usize {
        self.loads.push(Load { row, process, version: 0, began, ended_at: Time::MAX, tags: Vec::new() });
        self.loads.len() - 1
    }

    /// A load reads its row.
    pub(crate) fn read(&mut self, load: usize) -> Doc {
        let row = self.loads[load].row;
        let version = self.latest(row);
        self.loads[load].version = version;
        Doc { row, version, load }
    }

    /// A load ends; `tagged`: its value is stored with the tags of its version.
    pub(crate) fn end(&mut self, load: usize, at: Time, tagged: bool) {
        let Load { row, version, .. } = self.loads[load];
        let tags = if tagged {
            self.tags_of(row, version).iter().map(|&tag| self.tags[tag]).collect()
        } else {
            Vec::new()
        };
        self.loads[load].tags = tags;
        self.loads[load].ended_at = at;
    }
}
