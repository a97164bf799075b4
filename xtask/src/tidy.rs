//! Conventions that no lint knows, each with how to put it right.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::step::{Failure, root, timed};

/// Where our Rust lives.
const FOLDERS: [&str; 5] = ["crates", "xtask", "examples", "bench", "fuzz"];

/// Longest file, in lines, in the folders that ship or check what ships. Past some 600 a file has a second idea.
const LONGEST: usize = 700;
const LENGTH_MATTERS: [&str; 2] = ["crates", "xtask"];

/// Text that must not be there, and what to do about it. Written in two parts, for this file is searched too.
const BANNED: [(&str, &str); 4] = [
    (concat!("todo", "!("), "write it, or return an error that says what is missing"),
    (concat!("unimplemented", "!("), "write it, or return an error that says what is missing"),
    (concat!("dbg", "!("), "remove it, or make it a tracing event"),
    (
        concat!("#[", "ignore"),
        "make the test run everywhere, or delete it: a test nobody runs proves nothing",
    ),
];

/// Attributes that silence a lint, and so must say why.
const SILENCERS: [&str; 4] =
    [concat!("#[", "allow("), concat!("#![", "allow("), concat!("#[", "expect("), concat!("#![", "expect(")];
const SILENCED: &str = "add `, reason = \"...\"` to it, or do what the lint asks";

/// Ways to sleep, in tests. The last is a call of an imported function.
const SLEEPS: [&str; 3] = [concat!("thread::", "sleep"), concat!("time::", "sleep"), concat!("sleep", "(")];
const SLEPT: &str =
    "wait for a state with larder_testkit::wait_for(deadline, what, condition), or pass the time in";

/// One breach of a convention.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    /// Counted from 1.
    line: usize,
    what: String,
    fix: &'static str,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.what, self.fix)
    }
}

/// Reads all our Rust and prints what breaches a convention, with file, line and how to put it right.
///
/// # Errors
/// If anything was found or a file cannot be read.
pub(crate) fn run() -> Result<(), Failure> {
    let findings = timed("cargo xtask tidy", || search(&root()))
        .map_err(|error| Failure::because(format!("step `tidy` failed: {error}")))?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(Failure::because(format!(
            "step `tidy` failed ({count} to put right, each said above). To run it alone: cargo xtask tidy"
        ))),
    }
}

fn search(root: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in FOLDERS {
        for file in rust_files(&root.join(folder))? {
            let text = fs::read_to_string(&file)?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            findings.extend(check(name, &text));
        }
    }
    Ok(findings)
}

/// All `.rs` files below `folder`, in order; none if it does not exist.
fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            // A link is not followed: it may lead in circles.
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What breaches a convention in the file `name`, relative to the root, with this `text`.
fn check(name: &Path, text: &str) -> Vec<Finding> {
    let finding = |line, what: String, fix| Finding { file: name.to_owned(), line, what, fix };
    let mut findings = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        for (banned, fix) in BANNED {
            if content.contains(banned) {
                findings.push(finding(line, format!("`{banned}`"), fix));
            }
        }
        if is_test(name) && SLEEPS.into_iter().any(|sleep| calls(content, sleep)) {
            findings.push(finding(line, "a sleep in a test".to_owned(), SLEPT));
        }
    }
    for silencer in SILENCERS {
        for (at, _) in text.match_indices(silencer) {
            // An attribute may span lines.
            let attribute = text[at..].split_once(")]").map_or(&text[at..], |(attribute, _)| attribute);
            if !attribute.contains("reason") {
                findings.push(finding(line_of(text, at), format!("`{silencer}` without a reason"), SILENCED));
            }
        }
    }
    let length = text.lines().count();
    if length > LONGEST && LENGTH_MATTERS.iter().any(|folder| name.starts_with(folder)) {
        let fix = "find the second idea in it and give that a file of its own";
        findings.push(finding(LONGEST + 1, format!("{length} lines, more than {LONGEST}"), fix));
    }
    findings
}

/// Whether the file is in a directory of tests.
fn is_test(name: &Path) -> bool {
    name.parent().is_some_and(|folder| folder.iter().any(|part| part == "tests"))
}

/// Whether `content` has `call` as a path of its own: neither the end of a longer name, nor a method, nor a definition.
fn calls(content: &str, call: &str) -> bool {
    content.match_indices(call).any(|(at, _)| {
        let before = &content[..at];
        let path = call.contains("::");
        let inside = |c: char| c.is_alphanumeric() || c == '_' || (!path && (c == '.' || c == ':'));
        !before.ends_with(inside) && !before.ends_with("fn ")
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    /// The lines of what is found in `text` as the file `name`.
    fn lines(name: &str, text: &str) -> Vec<usize> {
        check(Path::new(name), text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unfinished_code_is_found_with_its_line() {
        let text = format!("fn a() {{\n    {}\n}}\n", concat!("todo", "!()"));
        let found = check(Path::new("crates/a/src/lib.rs"), &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("crates/a/src/lib.rs:2: "), "{}", found[0]);
        for word in
            [concat!("unimplemented", "!()"), concat!("dbg", "!(x)"), concat!("#[", "ignore = \"slow\"]")]
        {
            assert_eq!(lines("crates/a/src/lib.rs", word), [1], "{word}");
        }
    }

    #[test]
    fn a_silenced_lint_needs_a_reason_even_over_several_lines() {
        let allow = concat!("#[", "allow(");
        assert_eq!(lines("xtask/src/a.rs", &format!("\n{allow}dead_code)]\n")), [2]);
        assert_eq!(lines("xtask/src/a.rs", &format!("{allow}dead_code, reason = \"why\")]\n")), NONE);
        assert_eq!(
            lines("xtask/src/a.rs", &format!("{allow}\n    dead_code,\n    reason = \"why\"\n)]\n")),
            NONE
        );
        assert_eq!(lines("xtask/src/a.rs", &format!("{allow}\n    dead_code\n)]\n// reason\n")), [1]);
        assert_eq!(lines("xtask/src/a.rs", concat!("#![", "expect(dead_code)]")), [1]);
    }

    #[test]
    fn sleeps_are_found_in_tests_only_and_methods_of_that_name_are_not() {
        for sleep in [
            concat!("std::thread::", "sleep(second);"),
            concat!("tokio::time::", "sleep_until(then).await;"),
            concat!("    sleep", "(second).await;"),
            concat!("f(sleep", "(second))"),
        ] {
            assert_eq!(lines("crates/a/tests/b/c.rs", sleep), [1], "{sleep}");
            assert_eq!(lines("crates/a/src/b.rs", sleep), NONE, "{sleep}");
        }
        for other in
            ["runtime.sleep(second)", "Runtime::sleep(r, second)", "fn sleep(&self) {", "oversleep(1)"]
        {
            assert_eq!(lines("crates/a/tests/b.rs", other), NONE, "{other}");
        }
    }

    #[test]
    fn a_file_may_be_long_but_not_too_long() {
        assert_eq!(lines("crates/a/src/lib.rs", &"//\n".repeat(LONGEST)), NONE);
        assert_eq!(lines("crates/a/src/lib.rs", &"//\n".repeat(LONGEST + 1)), [LONGEST + 1]);
        assert_eq!(lines("bench/src/main.rs", &"//\n".repeat(LONGEST + 1)), NONE);
    }

    #[test]
    fn only_rust_is_read_and_build_directories_are_not() {
        let files = rust_files(&root().join("xtask")).unwrap();
        assert!(files.contains(&root().join("xtask/src/tidy.rs")), "{files:?}");
        assert!(files.iter().all(|file| file.extension().is_some_and(|extension| extension == "rs")));
        assert_eq!(rust_files(&root().join("no-such-folder")).unwrap(), Vec::<PathBuf>::new());
    }
}
