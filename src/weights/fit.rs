//! Weights taken in part: those of a model of another configuration.

use std::collections::HashSet;
use std::{fmt, iter};

use super::module::{self, Root};
use super::tensors::Tensors;
use super::{LoadOptions, Network, StateDict, Weights};
use crate::error::{Error, Result};
use crate::model::HiDiff;
use burn::tensor::backend::Backend;

/// What a weight file has for a network, parameter by parameter under the published names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// The network.
    pub network: Network,
    /// The parameters that take the file's values.
    pub taken: Vec<String>,
    /// Those that keep their initial values, since the file has none of that name.
    pub missing: Vec<String>,
    /// Those that keep theirs, since the file's are of another shape.
    pub reshaped: Vec<String>,
    /// What else the file has for this network.
    pub unused: Vec<String>,
}

impl Fit {
    pub(super) fn new(network: Network) -> Self {
        Self {
            network,
            taken: Vec::new(),
            missing: Vec::new(),
            reshaped: Vec::new(),
            unused: Vec::new(),
        }
    }

    /// Whether a parameter whose name begins so keeps its initial value.
    pub fn is_new(&self, prefix: &str) -> bool {
        let mut new = self.missing.iter().chain(&self.reshaped);
        new.any(|name| name.starts_with(prefix))
    }
}

/// How many parameters are taken and, on lines of their own, which are not; whole parts by what their names have in
/// common.
impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [&self.taken, &self.missing, &self.reshaped, &self.unused];
        let own: usize = lists[..3].iter().map(|list| list.len()).sum();
        write!(
            f,
            "{}: {} of {own} taken",
            self.network.name(),
            lists[0].len()
        )?;
        let titles = ["not in the file", "of another shape", "not in the model"];
        for (title, list) in titles.into_iter().zip(&lists[1..]) {
            if !list.is_empty() {
                let all: Vec<&String> = lists.into_iter().flatten().collect();
                let parts = parts(list, &all);
                write!(f, "\n  {title}, {}: {}", list.len(), parts.join(", "))?;
            }
        }
        Ok(())
    }
}

/// The names, those of a part that is here as a whole as one.
fn parts(names: &[String], all: &[&String]) -> Vec<String> {
    let here: HashSet<&String> = names.iter().collect();
    let mut parts: Vec<String> = Vec::new();
    for name in names {
        let mut ends = iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        let whole = ends.find(|&end| {
            let mut alike = all.iter().filter(|other| other.starts_with(&name[..end]));
            alike.all(|other| here.contains(other))
        });
        let part = whole.map_or_else(|| name.clone(), |end| format!("{}*", &name[..end]));
        if parts.last() != Some(&part) {
            parts.push(part);
        }
    }
    parts
}

impl Weights {
    /// Puts into `model` what fits by name and shape, whatever configuration the weights were made with. All else in
    /// the model stays as it is. Returned is what became of each network that the model or the weights have.
    ///
    /// # Errors
    /// [`Error::Weights`] if nothing fits or the file is damaged; [`Error::Mismatch`] with every key that fits but holds
    /// no finite numbers. The model then is as before.
    pub fn apply_fitting<B: Backend>(&self, model: &mut HiDiff<B>) -> Result<Vec<Fit>> {
        let options = LoadOptions::default();
        let mut expected = module::shapes(Root::Model, model);
        let (mut states, mut fits, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for network in Network::ALL {
            let own = expected.remove(&network).unwrap_or_default();
            let found = match self.networks().contains(&network) {
                true => self.tensors(network)?,
                false => Tensors::default(),
            };
            if own.is_empty() && found.entries.is_empty() {
                continue;
            }
            let label = |key: Option<&str>| self.label(network, key);
            match StateDict::fit_partly(network, own, &found, &options, label) {
                Ok((state, fit)) => {
                    states.push(state);
                    fits.push(fit);
                }
                Err(lines) => problems.extend(lines),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Mismatch {
                path: self.path.clone(),
                problems,
            });
        }
        if fits.iter().all(|fit| fit.taken.is_empty()) {
            let reason = "nothing in it fits this model by name and shape";
            return Err(Error::weights(&self.path, reason));
        }
        *model = module::replace(Root::Model, model.clone(), states);
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_whole_is_one_name() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let fit = Fit {
            taken: names(&["a.0.weight", "a.1.weight", "c"]),
            missing: names(&[
                "a.0.him.q",
                "a.0.him.v",
                "b.x.weight",
                "b.y.weight",
                "b.y.bias",
            ]),
            reshaped: names(&["a.1.bias"]),
            unused: names(&["a.9.weight"]),
            network: Network::ConditionEncoder,
        };
        assert_eq!(
            fit.to_string(),
            "condition_encoder: 3 of 9 taken\n  not in the file, 5: a.0.him.*, b.*\n  of another shape, 1: a.1.bias\n  \
             not in the model, 1: a.9.*"
        );
        assert!(fit.is_new("a.0.him.") && fit.is_new("a.1.") && !fit.is_new("c"));
        let none = Fit {
            missing: names(&["a.b", "c"]),
            ..Fit::new(Network::Denoiser)
        };
        assert_eq!(
            none.to_string(),
            "denoiser: 0 of 2 taken\n  not in the file, 2: *"
        );
    }
}
