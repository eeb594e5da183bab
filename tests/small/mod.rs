//! A training that takes seconds: a model of a few thousand parameters, and pairs of small pictures.

use std::path::Path;

use image::{Rgb, RgbImage};

/// The model's part of a configuration.
pub const MODEL: &str = r#"
[model]
embed_dim = 4
[model.transformer]
dim = 8
blocks = [1, 1, 1, 1]
refinement_blocks = 1
expansion = 2.0
[model.latent_encoder]
blocks = 1
[model.denoiser]
variant = "mixer"
hidden = 16
blocks = 1
[diffusion]
timesteps = 2
"#;

/// Four coloured checkerboards, and the same through a wide box blur.
pub fn pairs(folder: &Path) {
    for side in ["input", "target"] {
        std::fs::create_dir_all(folder.join(side)).unwrap();
    }
    for index in 0..4_u32 {
        let sharp = RgbImage::from_fn(37, 30, |x, y| {
            let cell = 3 + index;
            match (x / cell + y / cell) % 2 {
                0 => Rgb([240, 40 * index as u8, 90]),
                _ => Rgb([20, 200, 30 + 50 * index as u8]),
            }
        });
        let name = format!("{index}.png");
        let blur = image::imageops::blur(&sharp, 1.5);
        blur.save(folder.join("input").join(&name)).unwrap();
        sharp.save(folder.join("target").join(&name)).unwrap();
    }
}
