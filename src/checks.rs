//! What the tables of the configuration are checked by.

use std::fmt;

use crate::error::{Error, Result};

/// Far above any model that fits a machine, and low enough that sizes cannot overflow.
pub(crate) const MOST_CHANNELS: usize = 65_536;
pub(crate) const MOST_BLOCKS: usize = 1_024;

/// Makes validation errors.
pub(crate) struct Check<'a> {
    /// What errors call the configuration.
    pub origin: &'a str,
}

impl Check<'_> {
    pub fn that(
        &self,
        good: bool,
        key: &str,
        found: impl fmt::Debug,
        expected: &str,
    ) -> Result<()> {
        if good {
            return Ok(());
        }
        Err(Error::Config {
            origin: self.origin.to_string(),
            key: key.to_string(),
            reason: format!("found {found:?}, expected {expected}"),
        })
    }

    pub fn size(&self, key: &str, found: usize, least: usize, most: usize) -> Result<()> {
        let expected = format!("an integer from {least} to {most}");
        self.that((least..=most).contains(&found), key, found, &expected)
    }

    pub fn number(&self, key: &str, found: f64, least: f64, most: f64) -> Result<()> {
        let expected = format!("a number from {least} to {most}");
        self.that((least..=most).contains(&found), key, found, &expected)
    }

    /// A hidden width, as a multiple of another.
    pub fn expansion(&self, key: &str, found: f64, width: usize) -> Result<()> {
        self.number(key, found, 0.0, 64.0)?;
        let expected = "at least one hidden unit";
        self.that(width as f64 * found >= 1.0, key, found, expected)
    }
}
