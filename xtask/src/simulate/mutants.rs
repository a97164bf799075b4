//! Breaks a copy of the engine, one way at a time, and lets the simulation find out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use super::list::{MUTANTS, Mutant};
use super::{PACKAGE, PROFILE};
use crate::step::{Failure, Step, root};

/// Seeds within which a mutant must be caught.
pub(super) const SEEDS: u64 = 1000;
/// What the simulation ends with when a promise is broken.
const BROKEN: i32 = 1;
/// What the copy is made of.
const CRATES: [&str; 2] = ["crates/larder-core", "crates/larder-simulation"];

/// Tries the mutants of these names, or all of them.
///
/// # Errors
/// If one is not caught, does not build, or has lost its place in the sources.
pub(crate) fn run(names: &[String]) -> Result<(), Failure> {
    let unknown = names.iter().find(|name| MUTANTS.iter().all(|mutant| mutant.name != **name));
    if let Some(name) = unknown {
        let known: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        return Err(Failure::because(format!(
            "no mutant is called `{name}`; there are {}",
            known.join(", ")
        )));
    }
    let place = copy().map_err(|error| Failure::because(format!("the sources cannot be copied: {error}")))?;
    let chosen =
        || MUTANTS.iter().filter(|mutant| names.is_empty() || names.iter().any(|n| n == mutant.name));
    for mutant in chosen() {
        // Before anything is built.
        source(mutant, &place)?;
    }
    let mut at_large = Vec::new();
    for mutant in chosen() {
        let begun = Instant::now();
        let caught = try_out(mutant, &place)?;
        let took = begun.elapsed().as_secs_f64();
        match caught {
            Some(how) => println!("{:<28} caught ({took:.1} s)  {how}", mutant.name),
            None => {
                println!(
                    "{:<28} NOT CAUGHT in {SEEDS} seeds by {:?} ({took:.1} s): {}",
                    mutant.name, mutant.breaks, mutant.story
                );
                at_large.push(mutant.name);
            }
        }
    }
    match at_large.is_empty() {
        true => Ok(()),
        false => Err(Failure::because(format!(
            "step `mutants` failed ({} not caught). To run it alone: cargo xtask simulate --mutants {}",
            at_large.len(),
            at_large.join(" ")
        ))),
    }
}

/// The file that the mutant changes, and what stands in it.
fn source(mutant: &Mutant, place: &Path) -> Result<(PathBuf, String), Failure> {
    let failed = |why: String| Failure::because(format!("mutant `{}`: {why}", mutant.name));
    let file = place.join("crates/larder-core/src").join(mutant.file);
    let text = fs::read_to_string(&file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    match text.matches(mutant.text).count() {
        1 => Ok((file, text)),
        times => Err(failed(format!(
            "its text stands {times} times in {}, not once; mend it in xtask/src/simulate/list.rs",
            mutant.file
        ))),
    }
}

/// Builds the mutant and runs it. Answers what it was caught by.
fn try_out(mutant: &Mutant, place: &Path) -> Result<Option<String>, Failure> {
    let failed = |why: String| Failure::because(format!("mutant `{}`: {why}", mutant.name));
    let (file, original) = source(mutant, place)?;
    let write = |text: &str| fs::write(&file, text).map_err(|error| failed(error.to_string()));
    write(&original.replace(mutant.text, mutant.becomes))?;
    let outcome = build_and_run(place, mutant.breaks).map_err(failed);
    write(&original)?;
    outcome
}

fn build_and_run(place: &Path, breaks: &[&str]) -> Result<Option<String>, String> {
    let manifest = place.join("Cargo.toml").display().to_string();
    let target = place.join("target").display().to_string();
    let build = ["build", "--quiet", "--offline", "--manifest-path", &manifest, "--package", PACKAGE];
    let build =
        Step::cargo("mutant", build.into_iter().chain(PROFILE)).env("CARGO_TARGET_DIR", target.as_str());
    let built = build.command().stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
    if !built.status.success() {
        return Err(format!("it does not build:\n{}", String::from_utf8_lossy(&built.stderr)));
    }
    let program = place.join("target").join(PROFILE[1]).join(PACKAGE).display().to_string();
    let seeds = SEEDS.to_string();
    let promises = breaks.iter().flat_map(|promise| ["--promise", promise]);
    let run = Step::new("mutant", &program, ["--first", "--seeds", &seeds].into_iter().chain(promises));
    let ran = run.command().stderr(Stdio::null()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stdout);
    match ran.status.code() {
        Some(BROKEN) => {
            Ok(Some(said.lines().find(|line| line.starts_with("seed ")).unwrap_or("?").to_owned()))
        }
        // What happened too rarely was no promise: it is not caught by that.
        Some(_) => Ok(None),
        None => Err(format!("it ended with {}", ran.status)),
    }
}

/// A workspace of the two crates alone. Files that have not changed stay as they are, so that they are not built again.
fn copy() -> std::io::Result<PathBuf> {
    let (root, place) = (root(), root().join("target/mutants"));
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let members = manifest.lines().map(|line| match line.starts_with("members = ") {
        true => format!("members = {CRATES:?}\n"),
        false if line.starts_with("default-members") || line.starts_with("exclude") => String::new(),
        false => format!("{line}\n"),
    });
    write_if_new(&place.join("Cargo.toml"), members.collect::<String>().as_bytes())?;
    write_if_new(&place.join("Cargo.lock"), &fs::read(root.join("Cargo.lock"))?)?;
    for name in CRATES {
        copy_folder(&root.join(name), &place.join(name))?;
    }
    Ok(place)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let name = entry?.file_name();
        // A module that is gone must not be found.
        let (gone, there) = (to.join(&name), from.join(&name));
        match (there.exists(), gone.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(gone)?,
            (false, false) => fs::remove_file(gone)?,
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            write_if_new(&target, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

fn write_if_new(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, bytes)
}
