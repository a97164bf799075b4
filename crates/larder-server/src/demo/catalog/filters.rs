//! Which automations are asked for, and how that is said in SQL.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::CatalogError;

/// The longest filter value, in characters. Longer than any alias, and far below the longest pattern SQLite takes.
pub const MAX_FILTER_CHARS: usize = 200;

/// Narrows facets and searches; an automation must pass every filter that is set. One that is set to the empty text
/// counts as not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Text that must occur in the alias or in the description. Latin letters match in either case.
    pub q: Option<String>,
    /// The name of a trigger type the automation must have.
    pub trigger: Option<String>,
    /// The name of an action type the automation must have.
    pub action: Option<String>,
    /// The path of the blueprint the automation must be made from.
    pub blueprint: Option<String>,
}

const WITH_TEXT: &str = r" AND (a.alias LIKE ? ESCAPE '\' OR a.description LIKE ? ESCAPE '\')";
const WITH_TRIGGER: &str = " AND a.id IN (SELECT automation_id FROM automation_triggers
    WHERE type_id = (SELECT id FROM trigger_types WHERE name = ?))";
const WITH_ACTION: &str = " AND a.id IN (SELECT automation_id FROM automation_actions
    WHERE type_id = (SELECT id FROM action_types WHERE name = ?))";
const WITH_BLUEPRINT: &str = " AND a.blueprint_path = ?";

/// Filters as a condition on `automations a`. Its text depends only on which filters are set, so that there are few
/// statements to keep prepared; the values are bound.
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Filters {
    pub(super) fn condition(&self) -> Result<Condition, CatalogError> {
        let mut condition = Condition { sql: "TRUE".to_owned(), values: Vec::new() };
        if let Some(q) = checked("q", self.q.as_deref())? {
            let pattern = containing(q);
            condition.and(WITH_TEXT, [pattern.clone(), pattern]);
        }
        if let Some(trigger) = checked("trigger", self.trigger.as_deref())? {
            condition.and(WITH_TRIGGER, [trigger.to_owned()]);
        }
        if let Some(action) = checked("action", self.action.as_deref())? {
            condition.and(WITH_ACTION, [action.to_owned()]);
        }
        if let Some(blueprint) = checked("blueprint", self.blueprint.as_deref())? {
            condition.and(WITH_BLUEPRINT, [blueprint.to_owned()]);
        }
        Ok(condition)
    }
}

impl Condition {
    fn and<const N: usize>(&mut self, sql: &str, values: [String; N]) {
        self.sql.push_str(sql);
        self.values.extend(values.map(Value::Text));
    }
}

fn checked<'v>(field: &'static str, value: Option<&'v str>) -> Result<Option<&'v str>, CatalogError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    if value.chars().count() > MAX_FILTER_CHARS {
        let rule = format!("must have at most {MAX_FILTER_CHARS} characters");
        return Err(CatalogError::Invalid { field, rule });
    }
    // SQLite ends a pattern at the first NUL and would search for less than was asked.
    if value.contains('\0') {
        return Err(CatalogError::Invalid { field, rule: "must not contain a NUL character".to_owned() });
    }
    Ok(Some(value))
}

/// The `LIKE` pattern for "contains this text", with the pattern's own signs taken literally.
fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filters_and_empty_filters_are_the_same() {
        let empty = || Some(String::new());
        let empty = Filters { q: empty(), trigger: empty(), action: empty(), blueprint: empty() };
        assert_eq!(empty.condition().unwrap().sql, Filters::default().condition().unwrap().sql);
        assert!(empty.condition().unwrap().values.is_empty());
    }

    #[test]
    fn the_signs_of_a_pattern_are_escaped() {
        assert_eq!(containing(r"50%_a\b"), r"%50\%\_a\\b%");
    }

    #[test]
    fn a_filter_that_cannot_be_searched_for_is_refused_by_name() {
        let long = Filters { q: Some("é".repeat(MAX_FILTER_CHARS + 1)), ..Filters::default() };
        let message = long.condition().err().unwrap().to_string();
        assert_eq!(message, "q must have at most 200 characters");
        let nul = Filters { action: Some("a\0b".to_owned()), ..Filters::default() };
        assert!(nul.condition().err().unwrap().to_string().starts_with("action must not"));
        let longest = Filters { q: Some("é".repeat(MAX_FILTER_CHARS)), ..Filters::default() };
        assert!(longest.condition().is_ok());
    }
}
