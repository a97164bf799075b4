//! What the catalog takes and gives: plain data, ready for JSON.

use serde::{Deserialize, Serialize};

/// One value of a facet and how many automations carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetCount {
    /// The value, as a filter would name it.
    pub name: String,
    /// How many of the matching automations carry it.
    pub count: u32,
}

/// Counts over the automations that match some filters. Each list is ordered by count, largest first, then by name,
/// and holds at most [`MAX_FACET_VALUES`](super::MAX_FACET_VALUES) values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facets {
    /// Per repository, named `owner/name`.
    pub repositories: Vec<FacetCount>,
    /// Per blueprint; automations without one are not counted.
    pub blueprints: Vec<FacetCount>,
    /// Per trigger type.
    pub triggers: Vec<FacetCount>,
    /// Per action type.
    pub actions: Vec<FacetCount>,
}

/// One page of search results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchPage {
    /// How many automations match, over all pages.
    pub total: u32,
    /// Which page this is; the first is 1.
    pub page: u32,
    /// How many results a full page has.
    pub per_page: u32,
    /// The results: those of the repositories with most stars first.
    pub results: Vec<AutomationSummary>,
}

/// One automation, as a search shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomationSummary {
    /// Its number.
    pub id: i64,
    /// Its short name.
    pub alias: String,
    /// What it does.
    pub description: String,
    /// The number of the repository it was found in.
    pub repository_id: i64,
    /// That repository, as `owner/name`.
    pub repository: String,
    /// The path of the blueprint it was made from, if any.
    pub blueprint: Option<String>,
    /// Its trigger types, by name.
    pub triggers: Vec<String>,
    /// Its action types, by name.
    pub actions: Vec<String>,
}

/// Totals over the whole catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many repositories there are.
    pub repositories: u32,
    /// How many automations there are.
    pub automations: u32,
    /// How many different trigger types are in use.
    pub triggers: u32,
    /// How many different action types are in use.
    pub actions: u32,
    /// How many different blueprints are in use.
    pub blueprints: u32,
    /// The stars of all repositories together.
    pub stars: u64,
    /// The trigger type most automations use; none when there are no automations.
    pub most_used_trigger: Option<String>,
    /// The action type most automations use; none when there are no automations.
    pub most_used_action: Option<String>,
    /// When these totals were taken, as RFC 3339 in UTC.
    pub last_updated: String,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryDetail {
    /// Its number. Numbers are never used twice, not even after a delete.
    pub id: i64,
    /// Who owns it.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// How many stars it has.
    pub stars: u32,
    /// When it last changed, as RFC 3339 in UTC.
    pub updated: String,
    /// How many automations were found in it.
    pub automations: u32,
    /// The trigger types its automations use most, at most five.
    pub top_triggers: Vec<FacetCount>,
}

/// A repository to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRepository {
    /// Who owns it: letters, digits, `-`, `_` and `.`, at most 39 of them.
    pub owner: String,
    /// What it is called: letters, digits, `-`, `_` and `.`, at most 100 of them.
    pub name: String,
    /// What it holds, in at most 500 characters.
    pub description: String,
}
