//! What decides about the restored pixels: results of another recipe are not gone on with.

use burn::tensor::backend::Backend;
use hi_diff::Config;
use hi_diff::inference::files::Recipe;
use hi_diff::inference::{AttentionChoice, Deblurrer};
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
    if precision != Precision::F32 {
        recipe.insert("precision".into(), precision.to_string());
    }
    // Of photographs alone: a video's recipe stays what it was before there was this flag.
    if options.samples.get() > 1 {
        recipe.insert("samples".into(), options.samples.to_string());
    }
    // Likewise.
    let attention = deblurrer.attention();
    if attention != AttentionChoice::Always(Attention::Global) {
        recipe.insert("attention".into(), attention.to_string());
    }
    recipe
}
