//! What decides about the restored pixels: results of another recipe are not gone on with.

use burn::tensor::backend::Backend;
use hi_diff::Config;
use hi_diff::inference::files::Recipe;
use hi_diff::inference::{AttentionChoice, Deblurrer, Mask};
use hi_diff::kernels::Precision;
use hi_diff::model::Attention;
use hi_diff::weights::StateDict;

use super::settings::Settings;

/// Weights, configuration and flags.
pub fn of<B: Backend>(
    deblurrer: &Deblurrer<B>,
    config: &Config,
    settings: &Settings,
    precision: Precision,
) -> Recipe {
    let config = serde_json::json!({ "model": config.model, "diffusion": config.diffusion });
    let states = StateDict::of_model(deblurrer.model());
    let options = &settings.deblur;
    let tiling = options.tiling;
    let tiling =
        tiling.map(|tiling| format!("{} with overlap {}", tiling.size(), tiling.overlap()));
    let mut recipe = Recipe::from([
        ("weights".into(), StateDict::fingerprint(&states)),
        ("config".into(), config.to_string()),
        ("seed".into(), options.seed.to_string()),
        ("tta".into(), options.augment.to_string()),
        ("tile".into(), tiling.unwrap_or_else(|| "none".into())),
    ]);
    // Where they are given: the recipes of others stay what they were before there were these flags.
    let blend = &settings.blend;
    let samples = options.samples.get();
    let region = blend.region.map(|region| region.to_string());
    let attention = deblurrer.attention();
    let global = attention == AttentionChoice::Always(Attention::Global);
    let others = [
        (
            "precision",
            (precision != Precision::F32).then(|| precision.to_string()),
        ),
        ("attention", (!global).then(|| attention.to_string())),
        ("samples", (samples > 1).then(|| samples.to_string())),
        (
            "strength",
            (blend.strength != 1.0).then(|| blend.strength.to_string()),
        ),
        ("mask", blend.mask.as_ref().map(Mask::fingerprint)),
        ("region", region),
        (
            "feather",
            (blend.feather > 0).then(|| blend.feather.to_string()),
        ),
    ];
    for (name, value) in others {
        recipe.extend(value.map(|value| (name.to_string(), value)));
    }
    recipe
}
