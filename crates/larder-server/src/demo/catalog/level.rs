//! The three sizes of the sample data.

use std::fmt;
use std::str::FromStr;

use super::CatalogError;

/// How much sample data a catalog holds. Each level is ten times the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// 50 repositories, 500 automations.
    One,
    /// 500 repositories, 5,000 automations.
    Two,
    /// 5,000 repositories, 50,000 automations.
    Three,
}

impl Level {
    /// The number people type: 1, 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            Level::One => 1,
            Level::Two => 2,
            Level::Three => 3,
        }
    }

    /// How many repositories a new catalog of this level starts with.
    pub fn repositories(self) -> u32 {
        match self {
            Level::One => 50,
            Level::Two => 500,
            Level::Three => 5_000,
        }
    }

    /// How many automations a new catalog of this level starts with.
    pub fn automations(self) -> u32 {
        self.repositories() * 10
    }
}

impl TryFrom<u8> for Level {
    type Error = CatalogError;

    fn try_from(number: u8) -> Result<Level, CatalogError> {
        match number {
            1 => Ok(Level::One),
            2 => Ok(Level::Two),
            3 => Ok(Level::Three),
            other => Err(CatalogError::UnknownLevel { given: other.to_string() }),
        }
    }
}

impl FromStr for Level {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Level, CatalogError> {
        text.parse::<u8>()
            .ok()
            .and_then(|number| Level::try_from(number).ok())
            .ok_or_else(|| CatalogError::UnknownLevel { given: text.to_owned() })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_survives_a_trip_through_its_text() {
        for level in [Level::One, Level::Two, Level::Three] {
            assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
        }
    }

    #[test]
    fn an_unknown_level_is_refused_with_the_choices() {
        for text in ["0", "4", "300", "", "two"] {
            let message = text.parse::<Level>().unwrap_err().to_string();
            assert_eq!(message, format!("there is no level {text:?}: use 1, 2 or 3"));
        }
    }
}
