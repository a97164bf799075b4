//! What many readers of one key got.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

/// How many got what: a version, or the name of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers(BTreeMap<String, usize>);

impl Answers {
    pub(crate) fn count(&mut self, answer: String) {
        *self.0.entry(answer).or_default() += 1;
    }

    /// So many readers got this version, and nobody got anything else.
    pub(crate) fn all(readers: usize, version: u64) -> Self {
        Answers(BTreeMap::from([(version.to_string(), readers)]))
    }

    /// So many readers got the error of this name, and nobody got anything else.
    pub(crate) fn errors(readers: usize, name: &str) -> Self {
        Answers(BTreeMap::from([(name.to_owned(), readers)]))
    }

    /// Those of both.
    pub(crate) fn and(mut self, other: Answers) -> Self {
        for (answer, readers) in other.0 {
            *self.0.entry(answer).or_default() += readers;
        }
        self
    }

    pub(crate) fn readers(&self) -> usize {
        self.0.values().sum()
    }

    /// The versions among them; `None` if anybody got an error.
    pub(crate) fn versions(&self) -> Option<Vec<u64>> {
        self.0.keys().map(|answer| answer.parse().ok()).collect()
    }
}

/// As they travel: `7*250 loader*3`.
impl Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|(answer, readers)| format!("{answer}*{readers}")).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |word: &str| {
            let (answer, readers) = word.split_once('*')?;
            Some((answer.to_owned(), readers.parse().ok()?))
        };
        text.split(' ').map(word).collect::<Option<_>>().map(Answers).ok_or_else(|| text.to_owned())
    }
}
