//! What may change between a run and its resumption.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Config;
use crate::data::pairs::{Pair, Source};
use crate::error::{Error, Result};

/// A key of the configuration whose value has changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub key: String,
    pub before: String,
    pub now: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.key, self.before, self.now)
    }
}

/// The keys in which two configurations differ.
pub(crate) fn changes(before: &Config, now: &Config) -> Result<Vec<Change>> {
    let (before, now) = (flat(before)?, flat(now)?);
    let value = |values: &BTreeMap<String, String>, key: &str| {
        values.get(key).cloned().unwrap_or_else(|| "none".into())
    };
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    Ok(keys
        .into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| Change {
            key: key.clone(),
            before: value(&before, key),
            now: value(&now, key),
        })
        .collect())
}

/// The changes that do not hinder a run of `before` to go on as `now` says.
///
/// # Errors
/// [`Error::Config`] with all changes that do.
pub(super) fn check(origin: &str, before: &Config, now: &Config) -> Result<Vec<Change>> {
    let (refused, allowed): (Vec<_>, Vec<_>) = changes(before, now)?
        .into_iter()
        .partition(|change| is_fixed(&change.key));
    match refused.as_slice() {
        [] => Ok(allowed),
        [first, rest @ ..] => {
            let rest: String = rest.iter().map(|change| format!("\n  {change}")).collect();
            Err(Error::Config {
                origin: origin.to_string(),
                key: first.key.clone(),
                reason: format!(
                    "the run was begun with {} and cannot be resumed with {}{rest}",
                    first.before, first.now
                ),
            })
        }
    }
}

const SOURCES: &str = "data.sources";

/// Whether a key decides about the weights' shapes or the samples that have been seen.
fn is_fixed(key: &str) -> bool {
    // A folder may move: its pairs are known by a fingerprint.
    if key.starts_with(SOURCES) && key.ends_with("].path") {
        return false;
    }
    let fixed = [
        "model.",
        "diffusion.",
        "data.augment",
        "data.blur",
        SOURCES,
        "data.validation_share",
        "training.seed",
        "training.objective",
        "training.ema",
        "training.loss",
        "training.freeze",
        "training.stage_one.patches",
        "training.stage_two.patches",
    ];
    fixed.iter().any(|prefix| key.starts_with(prefix))
}

/// A number that other pairs, or the same in another order, or with other weights of their sources, do not have.
pub(super) fn fingerprint(pairs: &[Pair], sources: &[Source]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for pair in pairs {
        hasher.update(pair.name.as_bytes());
        hasher.update(&[0]);
        hasher.update(&(pair.width as u64).to_le_bytes());
        hasher.update(&(pair.height as u64).to_le_bytes());
        if pair.blur.is_none() {
            hasher.update(b"sharp");
        }
    }
    // Of a single source, neither the length nor the weight says anything more.
    for source in sources.iter().skip(1) {
        hasher.update(&(source.pairs as u64).to_le_bytes());
        hasher.update(&(source.weight / sources[0].weight).to_le_bytes());
    }
    (pairs.len() as u64) << 32 | u64::from(hasher.finalize())
}

/// Every value by its full key. An array is one value, but for the sources, of which parts may change.
fn flat(config: &Config) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    collect("model", &config.model, &mut values)?;
    collect("diffusion", &config.diffusion, &mut values)?;
    collect("data", &config.data, &mut values)?;
    collect("training", &config.training, &mut values)?;
    Ok(values)
}

fn collect(key: &str, part: &impl Serialize, values: &mut BTreeMap<String, String>) -> Result<()> {
    let value = toml::Value::try_from(part);
    let value = value.map_err(|error| Error::Training(error.to_string()))?;
    insert(key, &value, values);
    Ok(())
}

fn insert(key: &str, value: &toml::Value, values: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                insert(&format!("{key}.{name}"), value, values);
            }
        }
        toml::Value::Array(sources) if key == SOURCES => {
            for (index, value) in sources.iter().enumerate() {
                insert(&format!("{key}[{index}]"), value, values);
            }
        }
        value => {
            values.insert(key.to_string(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceConfig, Tables};

    fn changed(config: &Config, change: impl FnOnce(&mut Tables)) -> Config {
        config.changed("test", change).unwrap()
    }

    #[test]
    fn what_does_not_matter_may_change_and_is_said() {
        let before = Config::default();
        let now = changed(&before, |now| {
            now.training.stage_two.clip = 0.5;
            now.data.workers = 7;
        });
        let changes = check("run", &before, &now).unwrap();
        let lines: Vec<_> = changes.iter().map(Change::to_string).collect();
        assert_eq!(
            lines,
            ["data.workers: 2 → 7", "training.stage_two.clip: 0.01 → 0.5"]
        );
        assert!(check("run", &before, &before).unwrap().is_empty());
    }

    #[test]
    fn sources_may_move_but_neither_they_nor_the_blur_may_change() {
        let source = |path: &str, weight| SourceConfig {
            path: path.into(),
            layout: None,
            weight,
        };
        let before = changed(&Config::default(), |now| {
            now.data.sources = vec![source("a", 1.0), source("b", 2.0)];
        });
        let now = changed(&before, |now| now.data.sources[1].path = "moved/b".into());
        let changes = check("run", &before, &now).unwrap();
        assert_eq!(changes[0].key, "data.sources[1].path");
        for (key, change) in [
            (
                "data.sources[1].weight",
                (|now| now.data.sources[1].weight = 3.0) as fn(&mut Tables),
            ),
            ("data.sources[1].layout", |now| now.data.sources.truncate(1)),
            ("data.blur.shake.extent", |now| {
                now.data.blur.shake.extent = [1.0, 2.0]
            }),
        ] {
            let now = changed(&before, change);
            let error = check("run", &before, &now).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn other_weights_and_other_samples_are_refused() {
        let before = Config::default();
        let now = changed(&before, |now| {
            now.model.group = 2;
            now.training.stage_one.patches.pop();
            now.training.stage_one.clip = 1.0;
        });
        let error = check("run/config.toml", &before, &now)
            .unwrap_err()
            .to_string();
        for part in [
            "run/config.toml",
            "model.group",
            "begun with 4",
            "stage_one.patches",
        ] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
        assert!(!error.contains("clip"), "{error}");
    }
}
