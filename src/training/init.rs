//! What a run starts from: a weight file, or as much of it as fits.

use std::fs;
use std::path::Path;

use burn::module::Module;

use super::options::TrainingOptions;
use super::run::CONFIG_FILE;
use super::stage::Stages;
use crate::config::{Config, Network};
use crate::error::{Error, Result};
use crate::model::HiDiff;
use crate::weights::{LoadOptions, Weights};
use burn::tensor::backend::AutodiffBackend;

/// The configuration with the weights that the run starts from: the call's, the configuration's, or else those that
/// the run to resume was begun with.
pub(super) fn settled(config: &Config, options: &TrainingOptions) -> Result<Config> {
    let path = options.out.join(CONFIG_FILE);
    let initial = if options.initial.is_some() {
        options.initial.clone()
    } else if options.resume && config.training.init.is_none() && path.is_file() {
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let begun = Config::parse(&text, &path.display().to_string())?;
        begun.training.init.clone()
    } else {
        return Ok(config.clone());
    };
    config.changed("the configuration", |config| config.training.init = initial)
}

/// The model with what fits of a weight file, and the lines that say what that is. Guidance of which the file lacks a
/// part begins without effect, so that a Transformer that had none is not disturbed by what has not learnt yet.
///
/// For stage two alone, all of LE must be there.
pub(super) fn start_from<B: AutodiffBackend>(
    mut model: HiDiff<B>,
    path: &Path,
    stages: Stages,
    frozen: &[Network],
) -> Result<(HiDiff<B>, Vec<String>)> {
    let weights = Weights::open(path)?;
    if stages == Stages::Two {
        apply(&weights, Network::LatentEncoder, &mut model.latent_encoder)?;
    }
    let fits = weights.apply_fitting(&mut model)?;
    let mut lines = vec![format!("starting from {}", path.display())];
    lines.extend(
        fits.iter()
            .map(|fit| format!("  {fit}").replace('\n', "\n  ")),
    );

    let of_transformer = fits.iter().find(|fit| fit.network == Network::Transformer);
    let is_new = |name: &str| of_transformer.is_some_and(|fit| fit.is_new(name));
    let (transformer, without_effect) = model.transformer.guidance_without_effect(is_new);
    model.transformer = transformer;
    if without_effect > 0 {
        if frozen.contains(&Network::Transformer) {
            let reason = "the Transformer's guidance, which these weights lack, begins without effect, and frozen it would never have one";
            return Err(Error::Config {
                origin: path.display().to_string(),
                key: "training.freeze".into(),
                reason: reason.into(),
            });
        }
        lines.push(format!(
            "  {without_effect} parts of the Transformer's guidance are new and begin without effect"
        ));
    }
    Ok((model, lines))
}

/// Loads the networks that stage one's result has, in all of which it was made with the same configuration. LE_DM and
/// the denoiser may be missing, since stage two makes them; for stage two alone LE must be there.
pub(super) fn load<B: AutodiffBackend>(
    mut model: HiDiff<B>,
    path: &Path,
    stages: Stages,
) -> Result<HiDiff<B>> {
    let weights = Weights::open(path)?;
    let present = weights.networks();
    let needed = |network| match network {
        Network::Transformer => true,
        Network::LatentEncoder => stages == Stages::Two,
        Network::ConditionEncoder | Network::Denoiser => false,
    };
    let options = LoadOptions::default();
    for network in Network::ALL {
        if !needed(network) && !present.contains(&network) {
            continue;
        }
        match network {
            Network::Transformer => weights.apply(network, &mut model.transformer, &options)?,
            Network::LatentEncoder => apply(&weights, network, &mut model.latent_encoder)?,
            Network::ConditionEncoder => apply(&weights, network, &mut model.condition_encoder)?,
            Network::Denoiser => apply(&weights, network, &mut model.denoiser)?,
        }
    }
    Ok(model)
}

fn apply<B: AutodiffBackend, M: Module<B>>(
    weights: &Weights,
    network: Network,
    module: &mut Option<M>,
) -> Result<()> {
    match module {
        Some(module) => weights.apply(network, module, &LoadOptions::default()),
        None => Ok(()),
    }
}
