//! The page of an evaluation.

mod images;
mod summary;

use std::io::Write;

use maud::{Markup, PreEscaped, html};

use super::Pictures;
use super::page::{code, counted, facts, folded_code, page, put, section};
use crate::error::{Error, Result};
use crate::evaluation::results::{DatasetResult, Evaluation, ImageResult, extremes};

/// In the page's markup where the images with pictures go. No text from data can be this, for it is escaped.
const ARTICLES: PreEscaped<&str> = PreEscaped("<!--articles-->");

/// Writes the page of `evaluation` on `out`.
///
/// The page has pictures of at most `most` images of each dataset: those that [`chosen`] names. `pictures` is asked
/// for one image after the other, none of which is kept; where it has none, the page goes without. An image of 1280×720
/// takes about 1.5 MB of the page, a larger one no more.
///
/// # Errors
/// [`Error::Io`] if `out` cannot be written, [`Error::Shape`] if an image's
/// pictures are not of the same size, and the errors of `pictures`.
pub fn write(
    out: &mut dyn Write,
    evaluation: &Evaluation,
    most: usize,
    pictures: &mut dyn FnMut(&DatasetResult, &ImageResult) -> Result<Option<Pictures>>,
) -> Result<()> {
    let datasets = &evaluation.datasets;
    let names: Vec<&str> = datasets
        .iter()
        .map(|dataset| dataset.name.as_str())
        .collect();
    let heading = format!("Evaluation on {}", names.join(", "));
    let below = [
        format!("weights {}", evaluation.weights),
        format!("backend {}", evaluation.backend),
        format!("seed {}", evaluation.seed),
        format!("hi-diff {}", evaluation.version),
    ];
    let shown = images::shown(datasets, most);
    let main = html! {
        (problems(datasets))
        (summary::summary(datasets))
        (summary::distribution(datasets))
        (images::filter(datasets))
        (images::pictures(datasets, shown.len()))
        (images::table(datasets, most))
        (origin(evaluation)?)
    };
    let page = page(&heading, &below, main).into_string();
    // Pictures are large: each image's are written and forgotten before the next.
    let (before, after) = page.split_once(ARTICLES.0).unwrap_or((&page, ""));
    put(out, before)?;
    for place in shown {
        put(out, &images::article(datasets, place, pictures)?.0)?;
    }
    put(out, after)
}

/// Which images of a dataset get pictures, in its order: the `most` images with the largest losses and the largest
/// gains of PSNR, half and half; all where there are no more.
pub fn chosen(dataset: &DatasetResult, most: usize) -> Vec<usize> {
    let mut indices = extremes(&dataset.images, most);
    indices.sort_unstable();
    indices
}

/// What keeps the figures from being all that was asked for stands first.
fn problems(datasets: &[DatasetResult]) -> Markup {
    let mut failures = Vec::new();
    let mut warnings = Vec::new();
    for dataset in datasets {
        for failure in &dataset.failures {
            let place = place(datasets, dataset, &failure.name);
            failures.push((place, failure.reason.clone()));
        }
        for image in &dataset.images {
            if !image.restored.warnings.is_empty() {
                let place = place(datasets, dataset, &image.restored.name);
                warnings.push((place, image.restored.warnings.join("; ")));
            }
        }
    }
    let list = |problems: &[(String, String)]| {
        html! { ul { @for (place, reason) in problems { li { bdi { (place) } ": " (reason) } } } }
    };
    html! {
        @if failures.len() + warnings.len() > 0 {
            div .problems role="note" {
                @if !failures.is_empty() {
                    p {
                        strong { (counted(failures.len(), "image has", "images have")) " no scores" }
                        " and no part in the means."
                    }
                    (list(&failures))
                }
                @if !warnings.is_empty() {
                    p {
                        strong { (counted(warnings.len(), "image comes", "images come")) " with a warning" }
                        ", marked in the table."
                    }
                    (list(&warnings))
                }
            }
        }
    }
}

/// An image's name, with its dataset's where there are several.
fn place(datasets: &[DatasetResult], dataset: &DatasetResult, name: &str) -> String {
    match datasets.len() {
        1 => name.to_string(),
        _ => format!("{}: {name}", dataset.name),
    }
}

fn origin(evaluation: &Evaluation) -> Result<Markup> {
    let folders: Vec<String> = evaluation
        .datasets
        .iter()
        .map(|dataset| format!("{} ({})", dataset.folder, dataset.name))
        .collect();
    let config =
        toml::to_string(&evaluation.config).map_err(|error| Error::Training(error.to_string()))?;
    let inside = html! {
        (code(&evaluation.command))
        (facts(&[
            ("Version", format!("hi-diff {}", evaluation.version)),
            ("Weights", evaluation.weights.clone()),
            ("Backend", evaluation.backend.clone()),
            ("Seed of the noise", evaluation.seed.to_string()),
            ("Data", folders.join(", ")),
        ]))
        (folded_code("Configuration of the model (TOML)", &config))
    };
    Ok(section("origin", "How this was made", inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::evaluation::Protocol;
    use crate::evaluation::results::{Failure, ImageScores, Scores};
    use image::{Rgb, RgbImage};

    /// A dataset of images that have gained so many dB.
    fn dataset(name: &str, gains: &[f64]) -> DatasetResult {
        let scores = |psnr| Scores { psnr, ssim: 0.9 };
        let images = gains.iter().enumerate().map(|(index, gain)| ImageResult {
            restored: ImageScores::new(format!("{index:03}.png"), scores(25.0 + gain)),
            width: 16,
            height: 12,
            seconds: 0.5,
            blurred: scores(25.0),
        });
        DatasetResult {
            name: name.into(),
            folder: format!("/data/{name}"),
            protocol: Protocol::Gopro,
            blurred: (!gains.is_empty()).then_some(scores(25.0)),
            restored: (!gains.is_empty()).then_some(scores(27.0)),
            count: gains.len(),
            images: images.collect(),
            failures: Vec::new(),
        }
    }

    fn evaluation(datasets: Vec<DatasetResult>) -> Evaluation {
        Evaluation {
            command: "hi-diff eval --data /data".into(),
            version: "0.1.0".into(),
            weights: "bundled".into(),
            backend: "flex".into(),
            attention: "global".into(),
            seed: 7,
            config: Config::default(),
            datasets,
        }
    }

    fn written(
        evaluation: &Evaluation,
        most: usize,
        pictures: &mut dyn FnMut(&DatasetResult, &ImageResult) -> Result<Option<Pictures>>,
    ) -> String {
        let mut out = Vec::new();
        write(&mut out, evaluation, most, pictures).unwrap();
        let page = String::from_utf8(out).unwrap();
        page.split_once("<body>").unwrap().1.to_string()
    }

    fn plain(width: u32) -> RgbImage {
        RgbImage::from_pixel(width, 12, Rgb([90; 3]))
    }

    #[test]
    fn the_largest_losses_and_gains_are_chosen_half_and_half() {
        let gains = [0.5, -2.0, 3.0, f64::INFINITY, 0.1, -0.3, f64::NEG_INFINITY];
        let dataset = dataset("GoPro", &gains);
        assert_eq!(chosen(&dataset, 4), [1, 2, 3, 6]);
        assert_eq!(chosen(&dataset, 3), [1, 3, 6], "rather a loss than a gain");
        assert_eq!(chosen(&dataset, 1), [6]);
        assert_eq!(chosen(&dataset, 0), [0; 0]);
        for most in [7, 100] {
            assert_eq!(chosen(&dataset, most), [0, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn an_image_that_was_right_before_and_after_has_gained_nothing() {
        let mut dataset = dataset("GoPro", &[f64::INFINITY]);
        dataset.images[0].blurred.psnr = f64::INFINITY;
        assert_eq!(dataset.images[0].gain(), 0.0);
    }

    #[test]
    fn pictures_are_asked_for_once_each_the_largest_loss_first() {
        let evaluation = evaluation(vec![
            dataset("GoPro", &[1.0, -1.0, 2.0, 0.0]),
            dataset("mine", &[-3.0, 4.0]),
        ]);
        let mut asked = Vec::new();
        let page = written(&evaluation, 2, &mut |dataset, image| {
            asked.push(format!("{} {}", dataset.name, image.restored.name));
            let [blurred, restored, sharp] = [16; 3].map(plain);
            Ok((dataset.name == "mine").then_some(Pictures {
                blurred,
                restored,
                sharp,
            }))
        });
        let expected = [
            "mine 000.png",
            "GoPro 001.png",
            "GoPro 002.png",
            "mine 001.png",
        ];
        assert_eq!(asked, expected);
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 2 * 3);
        assert_eq!(page.matches("No pictures are kept.").count(), 2);
        assert_eq!(
            page.matches("<tr data-dataset=").count(),
            6,
            "numbers of all"
        );
        for part in [
            "33.33",
            "HI-Diff, trained on GoPro",
            "+2.00",
            "seed 7",
            "/data/mine (mine)",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn text_from_data_never_becomes_markup() {
        const HOSTILE: &str = "<i id=\"x\">&'</i>";
        let mut dataset = dataset(HOSTILE, &[1.0, 2.0]);
        dataset.folder = HOSTILE.into();
        for image in &mut dataset.images {
            image.restored.name = HOSTILE.into();
            image.restored.warnings = vec![HOSTILE.into()];
        }
        dataset.failures.push(Failure {
            name: HOSTILE.into(),
            reason: HOSTILE.into(),
        });
        let mut evaluation = evaluation(vec![dataset.clone(), dataset]);
        evaluation.command = HOSTILE.into();
        evaluation.weights = HOSTILE.into();
        evaluation.version = HOSTILE.into();
        evaluation.backend = HOSTILE.into();
        let page = written(&evaluation, 9, &mut |_, _| {
            let [blurred, restored, sharp] = [16; 3].map(plain);
            Ok(Some(Pictures {
                blurred,
                restored,
                sharp,
            }))
        });
        assert!(!page.contains("<i ") && !page.contains("id=\"x\""));
        let text = "&lt;i id=&quot;x&quot;&gt;&amp;'&lt;/i&gt;";
        assert!(page.matches(text).count() > 20);
    }

    #[test]
    fn a_dataset_without_scores_says_why() {
        let mut empty = dataset("HIDE", &[]);
        empty.failures.push(Failure {
            name: "a.png".into(),
            reason: "no target".into(),
        });
        let page = written(&evaluation(vec![empty]), 4, &mut |_, _| Ok(None));
        assert!(page.contains("<strong>1 image has no scores</strong>"));
        assert!(page.contains("no target"));
        assert!(!page.contains("id=\"pictures\"") && !page.contains("NaN"));
    }

    #[test]
    fn pictures_of_other_sizes_and_a_full_disk_are_errors() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let evaluation = evaluation(vec![dataset("GoPro", &[1.0])]);
        let error = write(&mut Full, &evaluation, 4, &mut |_, _| Ok(None)).unwrap_err();
        assert!(error.to_string().starts_with("the report: "), "{error}");
        let error = write(&mut Vec::new(), &evaluation, 4, &mut |_, _| {
            Ok(Some(Pictures {
                blurred: plain(16),
                restored: plain(24),
                sharp: plain(16),
            }))
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("restored") && error.contains("000.png"),
            "{error}"
        );
    }
}
