//! Changes to a configuration, `--set key=value`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A change to a configuration, `key=value` on the command line: a key in full, such as `training.ema`, and its value in
/// TOML. What is no TOML value is a string, so that `model.prior=none` needs no quotes.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    key: String,
    value: toml::Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("expected key=value, such as training.ema=0.999")?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(|part| part.trim().is_empty()) {
            return Err(format!(
                "`{key}`: expected a key in full, such as training.ema"
            ));
        }
        let document: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
        // A line break in the text could begin a second key.
        let parsed = document.filter(|table| table.len() == 1);
        let parsed = parsed.and_then(|mut table| table.remove("value"));
        Ok(Self {
            key: key.to_string(),
            value: parsed.unwrap_or_else(|| toml::Value::String(value.to_string())),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--set {}={}", self.key, self.value)
    }
}

impl Setting {
    pub(super) fn make(&self, table: &mut toml::Table) -> Result<()> {
        let mut table = table;
        let mut parts = self.key.split('.').map(str::trim).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_string(), self.value.clone());
                break;
            }
            let inner = table
                .entry(part)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = inner.as_table_mut().ok_or_else(|| Error::Config {
                origin: self.to_string(),
                key: self.key.clone(),
                reason: format!("`{part}` is a value and has no keys of its own"),
            })?;
        }
        Ok(())
    }

    /// Whether an error at `key` is about this change: at it, within it, or at what it is a part of.
    pub(super) fn concerns(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        within(key, &self.key) || within(&self.key, key)
    }
}
