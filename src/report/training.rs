//! The page of a training run, from what the run leaves in its folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::page::{TableRow, code, counted, folded_code, page, put, section, table};
use super::run::iteration_and_name;
pub use super::run::{Run, StageLog};
use super::viewer::{Pictures, viewer};
use crate::drawing::curves::{Chart, Curve};
use crate::error::Result;
use crate::numbers::{fixed, signed, thousands};
use crate::picture::open_rgb8;
use crate::training::calls::Call;
use crate::training::log::pictures::apart;
use crate::training::log::{SetRecord, ValidationRecord};
use crate::whole::write_whole;

/// The page's name in the run's folder.
pub const FILE: &str = "report.html";

const GAIN: &str = "Gain over the blurred input (dB)";

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

impl StageLog {
    /// The curves side by side.
    pub(super) fn charts(&self) -> Markup {
        let chart = |title, points| Chart::single(title, self.iterations(), points);
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let charts = [
            chart("Pixel loss", self.trained(|record| record.pixel_loss)).logarithmic(),
            chart(
                "Frequency loss",
                self.trained(|record| record.frequency_loss),
            )
            .logarithmic(),
            chart("Light loss", self.trained(|record| record.light_loss)).logarithmic(),
            chart(
                "Diffusion loss",
                self.trained(|record| record.diffusion_loss),
            )
            .logarithmic(),
            self.by_set(
                "Validation PSNR (dB)",
                |record| Some(record.psnr),
                |set| set.psnr,
            ),
            self.by_set(
                "Gain over the blurred input (dB)",
                |record| record.gain,
                |set| set.gain,
            ),
            self.by_set(
                "Validation SSIM (per channel)",
                |record| Some(record.ssim),
                |set| set.ssim,
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
        html! { div .grid { @for figure in charts.iter().filter_map(Chart::figure) { (figure) } } }
    }

    /// A number of the validations, and where there are several sets, each one's.
    fn by_set(
        &self,
        title: &'static str,
        mean: impl Fn(&ValidationRecord) -> Option<f64>,
        of_set: impl Fn(&SetRecord) -> f64,
    ) -> Chart {
        let mut chart = Chart::single(title, self.iterations(), self.validated(mean));
        let sets = self.sets();
        if !sets.is_empty() {
            chart.curves[0].name = "mean of the sets".to_string();
        }
        for (index, name) in sets.into_iter().enumerate() {
            chart.curves.push(Curve {
                name: name.to_string(),
                colour: index + 1,
                points: self.validated_set(name, &of_set),
            });
        }
        chart
    }

    fn validations(&self) -> Markup {
        if self.validations.is_empty() {
            return html! {};
        }
        let best = self.best().map(|record| record.iteration);
        let rows: Vec<TableRow> = self
            .validations
            .iter()
            .map(|record| {
                let class = if Some(record.iteration) == best {
                    "best"
                } else {
                    ""
                };
                TableRow::new(class, thousands(record.iteration as u64))
                    .number(fixed(record.psnr, 3))
                    .number(signed(record.gain.unwrap_or(f64::NAN), 3))
                    .number(fixed(record.ssim, 4))
                    .number(record.images)
            })
            .collect();
        let headings = [
            "After iteration",
            "PSNR (dB)",
            GAIN,
            "SSIM (per channel)",
            "Images",
        ];
        let label = format!("{}: validations", self.stage.title());
        let table = table(&label, &headings, &rows);
        html! {
            @if rows.len() > LONG_TABLE {
                details {
                    summary { (counted(rows.len(), "validation", "validations")) ", the best in bold" }
                    (table)
                }
            } @else {
                h3 .apart { "Validations" }
                (table)
            }
            (self.set_scores())
        }
    }

    /// Of several validation sets, each one's scores at the best validation.
    fn set_scores(&self) -> Markup {
        let Some(best) = self.best().filter(|best| best.sets.len() > 1) else {
            return html! {};
        };
        let row = |set: &SetRecord| {
            TableRow::new("", &set.name)
                .number(fixed(set.psnr, 3))
                .number(signed(set.gain, 3))
                .number(fixed(set.ssim, 4))
                .number(set.images)
        };
        let rows: Vec<TableRow> = best.sets.iter().map(row).collect();
        let headings = [
            "Validation set",
            "PSNR (dB)",
            GAIN,
            "SSIM (per channel)",
            "Images",
        ];
        let label = format!("{}: validation sets", self.stage.title());
        html! {
            h3 .apart { "Sets at the best validation, after iteration " (thousands(best.iteration as u64)) }
            (table(&label, &headings, &rows))
        }
    }

    fn pictures(&self) -> Result<Markup> {
        Ok(html! {
            @if !self.pictures.is_empty() { h3 .apart { "Validation pictures" } }
            @for path in &self.pictures {
                @if let Some((iteration, name)) = iteration_and_name(path) {
                    article .card {
                        h3 { bdi { (name) } }
                        p .quiet { "After iteration " (thousands(iteration as u64)) }
                        // A file that cannot be read is said to be so; it must not stop a training.
                        @match open_rgb8(path).ok().map(|read| read.pixels).as_ref().and_then(apart) {
                            Some([blurred, restored, sharp]) => {
                                (viewer(&name, &Pictures { blurred, restored, sharp })?)
                            }
                            None => p .warning { "The picture could not be read." },
                        }
                    }
                }
            }
        })
    }

    fn section(&self) -> Result<Markup> {
        let id = format!("stage-{}", self.stage.number());
        let heading = format!("{}: {}", self.stage.title(), self.progress());
        let inside = html! { (self.charts()) (self.validations()) (self.pictures()?) };
        Ok(section(&id, &heading, inside))
    }
}

/// Writes the page of `run` on `out`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if `out` cannot be written.
pub fn write(out: &mut dyn Write, run: &Run) -> Result<()> {
    let mut facts: Vec<String> = Vec::new();
    for stage in &run.stages {
        facts.push(format!("{}: {}", stage.stage.title(), stage.progress()));
    }
    if let Some(record) = run.stages.last().and_then(StageLog::best) {
        let gain = record.gain.map(|gain| format!(" ({})", signed(gain, 2)));
        facts.push(format!(
            "best validation {} dB{} after {}",
            fixed(record.psnr, 2),
            gain.unwrap_or_default(),
            thousands(record.iteration as u64)
        ));
    }
    if run.stages.is_empty() {
        facts.push("nothing is logged yet".to_string());
    }
    let heading = format!("Training {}", run.folder.display());
    let origin = html! {
        (commands(&run.calls))
        (folded_code("Configuration of the run (TOML)", &run.config))
    };
    let main = html! {
        @for stage in &run.stages { (stage.section()?) }
        (section("origin", "How this was made", origin))
    };
    put(out, &page(&heading, &facts, main).0)
}

/// The commands, and what ran them.
pub(super) fn commands(calls: &[Call]) -> Markup {
    html! {
        @if calls.is_empty() { p .quiet { "The command is not written down." } }
        // A run that was resumed often has been called alike.
        @for alike in calls.chunk_by(|a, b| a == b) {
            @let call = &alike[0];
            (code(&call.command))
            p .quiet {
                (counted(alike.len(), "call", "calls")) ", hi-diff " (call.version) ", backend " (call.backend)
            }
        }
    }
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
            "train '&lt;b&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn each_validation_set_has_its_curves_and_scores() {
        let folder = tempfile::tempdir().unwrap();
        let record = |iteration: usize, gain: f64| {
            format!(
                r#"{{"kind":"validation","stage":1,"iteration":{iteration},"psnr":{psnr},"ssim":0.75,"gain":{gain},"images":6,"sets":[{{"name":"street","psnr":28.5,"ssim":0.8,"gain":-0.5,"images":4}},{{"name":"<b>","psnr":22.25,"ssim":0.7,"gain":1.25,"images":2}}]}}"#,
                psnr = 25.0 + gain
            )
        };
        let log = [record(10, 0.25), record(20, 0.375)].join("\n");
        fs::write(folder.path().join("log.jsonl"), log).unwrap();
        let page = fs::read_to_string(write_beside(folder.path()).unwrap()).unwrap();
        for part in [
            "best validation 25.38 dB (+0.38) after 20",
            "Gain over the blurred input (dB) by iteration",
            "<span class=\"c0\">mean of the sets</span>",
            "<span class=\"c1\">street</span>",
            "<span class=\"c2\">&lt;b&gt;</span>",
            "street: -0.5000 after 20",
            "&lt;b&gt;: 1.250 after 10",
            "Sets at the best validation, after iteration 20",
            "<td class=\"number\">−0.500</td><td class=\"number\">0.8000</td><td class=\"number\">4</td>",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<b>"));
    }
}
