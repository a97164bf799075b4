//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::families::Family;

/// The media type of the page.
pub(in crate::admin) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page, as it grows.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    /// The family whose samples are being written.
    of: &'static str,
}

impl Page {
    /// One sample. Samples of a family come together.
    pub(super) fn sample(&mut self, family: &Family, labels: &[&str], value: impl Display) {
        self.line(family, "", labels, value);
    }

    /// A summary: how many, and the sum.
    pub(super) fn summary(&mut self, family: &Family, labels: &[&str], count: u64, sum: impl Display) {
        self.line(family, "_sum", labels, sum);
        self.line(family, "_count", labels, count);
    }

    fn line(&mut self, family: &Family, suffix: &str, labels: &[&str], value: impl Display) {
        let Family { name, kind, help, .. } = family;
        if self.of != *name {
            self.of = name;
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String does not fail, here and below.
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
        }
        debug_assert_eq!(labels.len(), family.labels.len(), "{name}");
        let _ = write!(self.text, "{name}{suffix}");
        for (i, (label, value)) in family.labels.iter().zip(labels).enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    pub(super) fn text(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::families::{ENTRIES, LOADS, REQUESTS};
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line_or_its_quotes() {
        let mut page = Page::default();
        page.sample(&REQUESTS, &["a\"b\\c\nd", "none", "hit"], 3);
        let line = page.text().lines().last().map(str::to_owned);
        let expected = r#"larder_requests_total{namespace="a\"b\\c\nd",tier="none",outcome="hit"} 3"#;
        assert_eq!(line.as_deref(), Some(expected));
    }

    #[test]
    fn a_family_says_once_what_it_is() {
        let mut page = Page::default();
        page.sample(&ENTRIES, &[], 7);
        page.summary(&LOADS, &["a"], 2, 0.5);
        page.summary(&LOADS, &["b"], 0, 0.0);
        let text = page.text();
        assert!(text.starts_with(
            "# HELP larder_entries Entries in memory.\n# TYPE larder_entries gauge\nlarder_entries 7\n"
        ));
        assert_eq!(text.matches("# TYPE larder_load_duration_seconds summary\n").count(), 1);
        assert!(
            text.ends_with(
                "_sum{namespace=\"b\"} 0\nlarder_load_duration_seconds_count{namespace=\"b\"} 0\n"
            )
        );
    }
}
