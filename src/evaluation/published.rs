//! What the paper states for its model and the nearest others: the figures beside which an evaluation's stand.

use super::Protocol;

/// A model's figures on a dataset, as the paper of HI-Diff has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedRow {
    /// The model.
    pub model: &'static str,
    /// The dataset it was trained on.
    pub trained_on: &'static str,
    /// What the figures mean: others may only be compared where they are by the same protocol.
    pub protocol: Protocol,
    /// In dB.
    pub psnr: f64,
    /// The SSIM of the protocol.
    pub ssim: f64,
}

const fn row(
    protocol: Protocol,
    model: &'static str,
    trained_on: &'static str,
    psnr: f64,
    ssim: f64,
) -> PublishedRow {
    PublishedRow {
        model,
        trained_on,
        protocol,
        psnr,
        ssim,
    }
}

const fn gopro(model: &'static str, psnr: f64, ssim: f64) -> PublishedRow {
    row(Protocol::Gopro, model, "GoPro", psnr, ssim)
}

const fn realblur(
    model: &'static str,
    trained_on: &'static str,
    psnr: f64,
    ssim: f64,
) -> PublishedRow {
    row(Protocol::Realblur, model, trained_on, psnr, ssim)
}

const GOPRO: &[PublishedRow] = &[
    gopro("Restormer", 32.92, 0.961),
    gopro("Stripformer", 33.08, 0.962),
    gopro("HI-Diff", 33.33, 0.964),
];

const HIDE: &[PublishedRow] = &[
    gopro("Restormer", 31.22, 0.942),
    gopro("Stripformer", 31.03, 0.940),
    gopro("HI-Diff", 31.46, 0.945),
];

const REALBLUR_R: &[PublishedRow] = &[
    realblur("Restormer", "GoPro", 36.19, 0.957),
    realblur("Stripformer", "GoPro", 36.08, 0.954),
    realblur("HI-Diff", "GoPro", 36.28, 0.958),
    realblur("Stripformer", "RealBlur-R", 39.84, 0.974),
    realblur("HI-Diff", "RealBlur-R", 41.01, 0.978),
];

const REALBLUR_J: &[PublishedRow] = &[
    realblur("Restormer", "GoPro", 28.96, 0.879),
    realblur("Stripformer", "GoPro", 28.82, 0.876),
    realblur("HI-Diff", "GoPro", 29.15, 0.890),
    realblur("Stripformer", "RealBlur-J", 32.48, 0.929),
    realblur("HI-Diff", "RealBlur-J", 33.70, 0.941),
];

/// The rows of the paper's Tables 2 and 3 for a dataset by its [name](super::results::DatasetResult::name); none for a
/// dataset that the paper does not have.
pub fn published(dataset: &str) -> &'static [PublishedRow] {
    match dataset {
        "GoPro" => GOPRO,
        "HIDE" => HIDE,
        "RealBlur-R" => REALBLUR_R,
        "RealBlur-J" => REALBLUR_J,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hi_diff_stands_last_of_those_trained_on_the_same_and_is_the_best() {
        for (dataset, trainings) in [
            ("GoPro", 1),
            ("HIDE", 1),
            ("RealBlur-R", 2),
            ("RealBlur-J", 2),
        ] {
            let groups: Vec<_> = published(dataset)
                .chunk_by(|a, b| a.trained_on == b.trained_on)
                .collect();
            assert_eq!(groups.len(), trainings, "{dataset}");
            for rows in groups {
                let best = rows
                    .iter()
                    .max_by(|a, b| a.psnr.total_cmp(&b.psnr))
                    .unwrap();
                assert_eq!(best.model, "HI-Diff", "{dataset}");
                assert_eq!(rows.last(), Some(best), "{dataset}");
            }
        }
        assert_eq!(published("holiday"), []);
    }
}
