//! Each crate alone, with each combination of its features.
//!
//! A feature that only passes on one of another crate of ours is checked there: all such are switched together.

use std::process::Stdio;

use serde_json::Value;

use crate::step::{Failure, Step};

/// Up to this many features all combinations are checked, at most 16; above, none, each alone and all.
const ALL_COMBINATIONS: usize = 4;

/// Features that are on or off together, as cargo takes them: `a` or `a,b`.
type Switch = String;

/// One clippy run per crate of the workspace and combination of its features.
///
/// The whole workspace built at once hides what is missing: a crate gets features of its dependencies that only
/// another crate asked for.
///
/// # Errors
/// If `cargo metadata` does not work.
pub(crate) fn steps() -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for (name, features) in crates()? {
        for combination in combinations(&features) {
            let mut args = vec!["clippy", "--quiet", "-p", &name, "--no-default-features"];
            let joined = combination.join(",");
            if !combination.is_empty() {
                args.extend(["--features", &joined]);
            }
            args.extend(["--", "-D", "warnings"]);
            steps.push(Step::cargo("features", args));
        }
    }
    Ok(steps)
}

/// The crates of the workspace with their features, `default` left out.
fn crates() -> Result<Vec<(String, Vec<Switch>)>, Failure> {
    let step = Step::cargo("features", ["metadata", "--no-deps", "--format-version", "1"]);
    let output =
        step.command().stderr(Stdio::inherit()).output().map_err(|error| step.failure(&error.to_string()))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| step.failure(&error.to_string()))?;
    let packages = metadata["packages"].as_array().ok_or_else(|| step.failure("no packages"))?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    Ok(packages.iter().filter_map(|package| features(package, &names)).collect())
}

/// A package and its switches; `ours`: the crates that are checked here.
fn features(package: &Value, ours: &[&str]) -> Option<(String, Vec<Switch>)> {
    let name = package["name"].as_str()?.to_owned();
    let features = package["features"].as_object()?;
    let is_ours = |part: &Value| {
        part.as_str().and_then(|part| part.split_once('/')).is_some_and(|(of, _)| ours.contains(&of))
    };
    let is_passed_on =
        |parts: &Value| parts.as_array().is_some_and(|parts| !parts.is_empty() && parts.iter().all(is_ours));
    let mut switches = Vec::new();
    let mut passed_on = Vec::new();
    for (feature, parts) in features.iter().filter(|(feature, _)| *feature != "default") {
        match is_passed_on(parts) {
            true => passed_on.push(feature.as_str()),
            false => switches.push(feature.clone()),
        }
    }
    if !passed_on.is_empty() {
        switches.push(passed_on.join(","));
    }
    Some((name, switches))
}

fn combinations(features: &[Switch]) -> Vec<Vec<&str>> {
    let pick = |chosen: &dyn Fn(usize) -> bool| {
        features.iter().enumerate().filter(|(n, _)| chosen(*n)).map(|(_, feature)| feature.as_str()).collect()
    };
    if features.len() <= ALL_COMBINATIONS {
        return (0..1_usize << features.len()).map(|set| pick(&|n| set >> n & 1 == 1)).collect();
    }
    let mut combinations = vec![Vec::new()];
    combinations.extend((0..features.len()).map(|only| pick(&|n| n == only)));
    combinations.push(pick(&|_| true));
    combinations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn few_features_are_checked_in_every_combination() {
        assert_eq!(combinations(&[]), [Vec::<&str>::new()]);
        let two = named(&["a", "b"]);
        assert_eq!(combinations(&two), [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]);
    }

    #[test]
    fn many_features_are_checked_not_at_all_alone_and_together() {
        let five = named(&["a", "b", "c", "d", "e"]);
        let combinations = combinations(&five);
        assert_eq!(combinations.len(), 7);
        assert_eq!(combinations[0], Vec::<&str>::new());
        assert_eq!(combinations[3], ["c"]);
        assert_eq!(combinations[6], ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn what_is_passed_on_to_a_crate_of_ours_is_switched_together() {
        let package = serde_json::json!({ "name": "a", "features": {
            "default": ["own"], "own": [], "tls": ["own", "b/tls"], "x": ["b/x"], "y": ["b/y"], "z": ["c/z"],
        }});
        let (name, switches) = features(&package, &["a", "b"]).unwrap();
        assert_eq!((name.as_str(), switches), ("a", named(&["own", "tls", "z", "x,y"])));
    }

    #[test]
    fn the_workspace_tells_its_own_crates_and_their_features() {
        let crates = crates().unwrap();
        let core =
            crates.iter().find(|(name, _)| name == "larder-core").expect("larder-core is in the workspace");
        assert!(core.1.contains(&"testing".to_owned()), "{core:?}");
        assert!(crates.iter().all(|(_, features)| !features.contains(&"default".to_owned())));
    }
}
