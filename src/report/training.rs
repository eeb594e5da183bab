//! The page of a training run, from what the run leaves in its folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::curves::Chart;
use super::page::{Page, Row, counted};
use super::run::iteration_and_name;
pub use super::run::{Run, Stage};
use super::viewer::{self, Pictures};
use crate::drawing::Escaped;
use crate::error::Result;
use crate::numbers::{fixed, thousands};
use crate::training::calls::Call;
use crate::training::log::pictures::apart;
use crate::whole::write_whole;

/// The page's name in the run's folder.
pub const FILE: &str = "report.html";

/// Longer tables of validations are folded.
const LONG_TABLE: usize = 12;

/// Writes the page of the run in `folder` there, as `report.html`, in place of an earlier one. Returns its path.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if the run's files cannot be read or the page cannot be written; an earlier page is then as it was.
pub fn write_beside(folder: &Path) -> Result<PathBuf> {
    let run = Run::read(folder)?;
    let path = folder.join(FILE);
    write_whole(&path, true, |file| write(file, &run))?;
    Ok(path)
}

impl Stage {
    fn charts(&self) -> Vec<String> {
        let chart = |title, points| Chart::single(title, self.iterations(), points);
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let charts = [
            chart("Pixel loss", self.trained(|record| record.pixel_loss)).logarithmic(),
            chart(
                "Frequency loss",
                self.trained(|record| record.frequency_loss),
            )
            .logarithmic(),
            chart(
                "Diffusion loss",
                self.trained(|record| record.diffusion_loss),
            )
            .logarithmic(),
            chart("Validation PSNR (dB)", self.validated(|record| record.psnr)),
            chart(
                "Validation SSIM (per channel)",
                self.validated(|record| record.ssim),
            ),
            chart(
                "Learning rate",
                self.trained(|record| Some(record.learning_rate)),
            ),
            chart(
                "Gradient norm before clipping",
                self.trained(|record| record.gradient_norm),
            )
            .logarithmic(),
            chart(
                "Images per second",
                self.trained(|record| Some(record.images_per_second)),
            ),
            chart(
                "Resident memory (MiB)",
                self.trained(|record| record.memory_bytes.map(mebibytes)),
            ),
        ];
        charts.iter().filter_map(Chart::figure).collect()
    }

    /// The curves side by side.
    pub(super) fn put_charts(&self, page: &mut Page) -> Result<()> {
        page.put(format_args!("<div class=\"grid\">\n"))?;
        for figure in self.charts() {
            page.put(format_args!("{figure}"))?;
        }
        page.put(format_args!("</div>\n"))
    }

    fn put_validations(&self, page: &mut Page) -> Result<()> {
        if self.validations.is_empty() {
            return Ok(());
        }
        let best = self.best().map(|record| record.iteration);
        let rows: Vec<Row> = self
            .validations
            .iter()
            .map(|record| {
                let class = if Some(record.iteration) == best {
                    "best"
                } else {
                    ""
                };
                Row::new(class, thousands(record.iteration as u64))
                    .number(fixed(record.psnr, 3))
                    .number(fixed(record.ssim, 4))
                    .number(record.images)
            })
            .collect();
        let headings = [
            "After iteration",
            "PSNR (dB)",
            "SSIM (per channel)",
            "Images",
        ];
        let label = format!("{}: validations", self.title());
        let folded = rows.len() > LONG_TABLE;
        if folded {
            let count = counted(rows.len(), "validation", "validations");
            page.put(format_args!(
                "<details><summary>{count}, the best in bold</summary>\n"
            ))?;
        } else {
            page.put(format_args!("<h3 class=\"apart\">Validations</h3>\n"))?;
        }
        page.table(&label, &headings, &rows)?;
        if folded {
            page.put(format_args!("</details>\n"))?;
        }
        Ok(())
    }

    /// A file that cannot be read is said to be so; it must not stop a training.
    fn put_pictures(&self, page: &mut Page) -> Result<()> {
        if self.pictures.is_empty() {
            return Ok(());
        }
        page.put(format_args!(
            "<h3 class=\"apart\">Validation pictures</h3>\n"
        ))?;
        for path in &self.pictures {
            let Some((iteration, name)) = iteration_and_name(path) else {
                continue;
            };
            page.put(format_args!(
                "<article class=\"card\"><h3><bdi>{}</bdi></h3>\n<p class=\"quiet\">After iteration {}</p>\n",
                Escaped(&name),
                thousands(iteration as u64)
            ))?;
            let composed = image::open(path).map(image::DynamicImage::into_rgb8);
            match composed.as_ref().ok().and_then(apart) {
                Some([blurred, restored, sharp]) => {
                    let pictures = Pictures {
                        blurred,
                        restored,
                        sharp,
                    };
                    viewer::put(page, &name, &pictures)?;
                }
                None => page.put(format_args!(
                    "<p class=\"warning\">The picture could not be read.</p>\n"
                ))?,
            }
            page.put(format_args!("</article>\n"))?;
        }
        Ok(())
    }
}

/// Writes the page of `run` on `out`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if `out` cannot be written.
pub fn write(out: &mut dyn Write, run: &Run) -> Result<()> {
    let mut facts: Vec<String> = Vec::new();
    for stage in &run.stages {
        facts.push(format!("{}: {}", stage.title(), stage.progress()));
    }
    if let Some(record) = run.stages.last().and_then(Stage::best) {
        facts.push(format!(
            "best validation {} dB after {}",
            fixed(record.psnr, 2),
            thousands(record.iteration as u64)
        ));
    }
    if run.stages.is_empty() {
        facts.push("nothing is logged yet".to_string());
    }
    let heading = format!("Training {}", run.folder.display());
    let mut page = Page::begin(out, &format!("{heading} · hi-diff"), &heading, &facts)?;
    for stage in &run.stages {
        let heading = format!("{}: {}", stage.title(), stage.progress());
        page.section(&format!("stage-{}", stage.number), &heading)?;
        stage.put_charts(&mut page)?;
        stage.put_validations(&mut page)?;
        stage.put_pictures(&mut page)?;
        page.end_section()?;
    }
    page.section("origin", "How this was made")?;
    put_calls(&mut page, &run.calls)?;
    page.folded_code("Configuration of the run (TOML)", &run.config)?;
    page.end_section()?;
    page.end()
}

/// The commands, and what ran them.
pub(super) fn put_calls(page: &mut Page, calls: &[Call]) -> Result<()> {
    if calls.is_empty() {
        return page.put(format_args!(
            "<p class=\"quiet\">The command is not written down.</p>\n"
        ));
    }
    // A run that was resumed often has been called alike.
    for alike in calls.chunk_by(|a, b| a == b) {
        let call = &alike[0];
        page.code(&call.command)?;
        page.put(format_args!(
            "<p class=\"quiet\">{}, hi-diff {}, backend {}</p>\n",
            counted(alike.len(), "call", "calls"),
            Escaped(&call.version),
            Escaped(&call.backend)
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_page_is_written_of_whatever_is_there_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_beside(folder.path()).unwrap();
        assert_eq!(path, folder.path().join("report.html"));
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .contains("nothing is logged yet")
        );

        let pictures = folder.path().join("stage-one/pictures");
        fs::create_dir_all(&pictures).unwrap();
        fs::write(pictures.join("000010-<b>.png"), "no picture").unwrap();
        let record =
            r#"{"kind":"validation","stage":1,"iteration":10,"psnr":30.25,"ssim":0.8,"images":3}"#;
        fs::write(folder.path().join("log.jsonl"), record).unwrap();
        fs::write(folder.path().join("config.toml"), "# <b>").unwrap();
        Call::new("hi-diff train '<b>'", "flex")
            .append(folder.path())
            .unwrap();
        write_beside(folder.path()).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        for part in [
            "best validation 30.25 dB after 10",
            "could not be read",
            "# &lt;b&gt;",
            "train &#39;&lt;b&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<b>"));
    }
}
