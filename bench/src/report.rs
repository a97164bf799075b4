//! What was measured, as a table for people.

use std::fmt::{self, Display, Write as _};

/// One line of the table.
pub struct Row {
    pub name: &'static str,
    pub what: String,
    pub ours: String,
    /// The rival and its figure.
    pub rival: String,
    /// What is held against the target: a ratio, or a figure.
    pub judged: f64,
    pub unit: &'static str,
    pub target: Target,
}

/// What a benchmark has to reach.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing: the line is for comparison.
    Open,
}

impl Target {
    fn met(self, judged: f64) -> Option<bool> {
        match self {
            Target::AtMost(limit) => Some(judged <= limit),
            Target::AtLeast(limit) => Some(judged >= limit),
            Target::Open => None,
        }
    }
}

impl Row {
    /// A benchmark whose own checks failed.
    pub fn broken(name: &'static str, what: &str) -> Self {
        Row {
            name,
            what: what.to_owned(),
            ours: "broken: see above".to_owned(),
            rival: String::new(),
            judged: f64::NAN,
            unit: "",
            target: Target::AtLeast(0.0),
        }
    }

    pub fn missed(&self) -> bool {
        self.target.met(self.judged) == Some(false)
    }

    fn cells(&self) -> [String; 7] {
        let unit = self.unit;
        let digits = if unit == "x" || unit == "ms" { 2 } else { 0 };
        let target = match self.target {
            Target::AtMost(limit) => format!("<= {limit:.digits$} {unit}"),
            Target::AtLeast(limit) => format!(">= {limit:.digits$} {unit}"),
            Target::Open => "-".to_owned(),
        };
        let verdict = match self.target.met(self.judged) {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        };
        [
            self.name.to_owned(),
            self.what.clone(),
            self.ours.clone(),
            self.rival.clone(),
            format!("{:.digits$} {unit}", self.judged),
            target,
            verdict.to_owned(),
        ]
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cells().join(" | "))
    }
}

const HEAD: [&str; 7] = ["benchmark", "what", "Larder", "rival", "measured", "target", ""];

/// The table, with columns in line; Markdown reads it, too.
pub fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; 7]> = rows.iter().map(Row::cells).collect();
    let width = |column: usize| {
        let longest = cells.iter().map(|row| row[column].chars().count()).max();
        longest.unwrap_or(0).max(HEAD[column].len())
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |cells: [&str; 7]| {
        let mut line = String::from("|");
        for (cell, width) in cells.into_iter().zip(widths) {
            let _ = write!(line, " {cell:<width$} |");
        }
        line + "\n"
    };
    let dashes: [String; 7] = widths.map(|width| "-".repeat(width));
    let mut table = line(HEAD) + &line(dashes.each_ref().map(String::as_str));
    cells.iter().for_each(|row| table += &line(row.each_ref().map(String::as_str)));
    table
}

/// Keeps the results of this run beside the benchmarks.
///
/// # Errors
/// If the file cannot be written.
pub fn write_markdown(rows: &[Row], machine: &str, args: &[String]) -> std::io::Result<()> {
    let command = ["cargo xtask bench"].into_iter().chain(args.iter().map(String::as_str));
    let command = command.collect::<Vec<_>>().join(" ");
    let text = format!(
        "# Results of the last complete run\n\n\
         Written by `{command}`; the next run replaces it.\n\n\
         {machine}\n\n\
         Medians of alternating rounds in one run. A ratio is Larder's figure over the rival's.\n\n{}",
        table(rows)
    );
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/results.md"), text)
}
