//! From the inputs and the output of a command to one job for each video.

use std::fs;
use std::path::{Path, PathBuf};

use super::format::{self, Container};
use super::is_video;
use crate::error::{Error, Result};
use crate::inference::files::{Job, Plan, PlanOptions, file_extension, is_folder};
use crate::picture::Format;

/// Divides the inputs of a command into videos and others.
///
/// A video is what has a video's extension and is not a folder. Folders are not searched for videos: a folder of
/// photographs is often one of clips as well, which take hours.
pub fn split(inputs: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_video = |input: &PathBuf| is_video(input) && !input.is_dir();
    inputs.iter().cloned().partition(is_video)
}

/// Maps `videos` to files at `output`, as [`Plan::new`] does with images.
///
/// `output` is a folder that is made when needed. Only where there is one input and `output`, which is not a folder
/// already and has no separator at its end, has an extension, is it the file to write (see [`Plan::with`]); `alone` says
/// that there are no other inputs. In a folder a
/// video keeps its name; one that is not mp4, m4v, mov, mkv or webm becomes mkv.
///
/// A failure is: a missing input, two inputs with the same output, an output that is one of the inputs, and an output
/// that exists, unless `force` is given.
///
/// # Errors
/// `output` is or looks like a file where it has to be a folder.
pub fn plan(videos: &[PathBuf], output: &Path, alone: bool, force: bool) -> Result<Plan> {
    let alone = alone && videos.len() == 1;
    let names_image = Format::of_path(output).is_some();
    let names_file = is_video(output) || names_image || alone && file_extension(output).is_some();
    let is_file = !is_folder(output) && (output.exists() || names_file);
    if is_file && !alone {
        let reason = "a file, expected a folder for the results of several inputs";
        return Err(Error::refused(output, reason));
    }
    if is_file && Container::of_path(output).is_none() {
        let expected = format::LIST;
        let mut reason =
            format!("the extension means no video that is written, expected {expected}");
        if !output.exists() {
            reason.push_str(&format!(
                "; for a folder of this name write {}/",
                output.display()
            ));
        }
        return Err(Error::video(output, reason));
    }

    let mut plan = Plan::default();
    for video in videos {
        match fs::metadata(video) {
            Err(source) => plan.fail(video, Error::io(video)(source)),
            Ok(_) => plan.jobs.push(Job {
                input: video.clone(),
                output: match is_file {
                    true => output.to_path_buf(),
                    false => in_folder(video, output),
                },
            }),
        }
    }
    plan.refuse_what_would_be_lost(&PlanOptions {
        force,
        ..PlanOptions::default()
    });
    Ok(plan)
}

fn in_folder(video: &Path, folder: &Path) -> PathBuf {
    let path = folder.join(video.file_name().unwrap_or_default());
    match Container::other_extension(video) {
        Some(extension) => path.with_extension(extension),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    /// Jobs as `input > output` below `root`, then failures.
    fn planned(root: &TempDir, inputs: &[&str], output: &str, alone: bool) -> Vec<String> {
        let root = root.path();
        let inputs: Vec<_> = inputs.iter().map(|input| root.join(input)).collect();
        let plan = match plan(&inputs, &root.join(output), alone, false) {
            Ok(plan) => plan,
            Err(error) => return vec![error.to_string()],
        };
        let below = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let jobs = plan.jobs.iter();
        let jobs = jobs.map(|job| format!("{} > {}", below(&job.input), below(&job.output)));
        jobs.chain(
            plan.failures
                .iter()
                .map(|failure| failure.error.to_string()),
        )
        .collect()
    }

    #[test]
    fn only_videos_by_name_are_videos() {
        let root = folder(&["folder.mp4/a.mp4", "b.mp4", "c.png"]);
        let path = |name| root.path().join(name);
        let inputs = ["folder.mp4", "b.mp4", "c.png", "gone.mov"].map(path);
        let (videos, others) = split(&inputs);
        assert_eq!(videos, [path("b.mp4"), path("gone.mov")]);
        assert_eq!(others, [path("folder.mp4"), path("c.png")]);
    }

    #[test]
    fn a_video_goes_to_a_named_file_or_into_a_folder() {
        let root = folder(&["a.mp4", "b.avi", "out.mp4/x"]);
        let one = |input, output| planned(&root, &[input], output, true);
        assert_eq!(one("a.mp4", "b.mkv"), ["a.mp4 > b.mkv"]);
        assert_eq!(one("a.mp4", "new"), ["a.mp4 > new/a.mp4"]);
        assert_eq!(one("a.mp4", "out.mp4"), ["a.mp4 > out.mp4/a.mp4"]);
        assert_eq!(one("b.avi", "new.2"), ["b.avi > new.2/b.mkv"]);
        assert_eq!(one("a.mp4", "new.mp4/"), ["a.mp4 > new.mp4/a.mp4"]);
        let both = planned(&root, &["a.mp4", "b.avi"], "new", true);
        assert_eq!(both, ["a.mp4 > new/a.mp4", "b.avi > new/b.mkv"]);
    }

    #[test]
    fn results_of_several_inputs_need_a_folder() {
        let root = folder(&["a.mp4", "b.mp4", "file"]);
        for (inputs, output, alone) in [
            (&["a.mp4", "b.mp4"][..], "c.mp4", true),
            (&["a.mp4"], "c.mp4", false),
            (&["a.mp4"], "file", false),
        ] {
            let refused = planned(&root, inputs, output, alone);
            assert!(refused[0].contains("expected a folder"), "{refused:?}");
        }
        for output in ["c.png", "c.avi", "c.heic", "file"] {
            let refused = planned(&root, &["a.mp4"], output, true);
            assert!(
                refused[0].contains("mp4, m4v, mov, mkv or webm"),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn nothing_is_lost() {
        let root = folder(&["a.mp4", "x/a.mp4", "x/b.mp4", "c.avi", "c.mkv"]);
        let says = |inputs: &[&str], output, words: &str| {
            let failures = planned(&root, inputs, output, true).join("\n");
            assert!(failures.contains(words), "{failures}");
        };
        says(&["a.mp4"], "a.mp4", "one of the inputs");
        says(&["a.mp4"], "x/b.mp4", "exists already");
        says(&["a.mp4", "x/a.mp4"], "new", "2 inputs would be written");
        says(&["c.avi", "c.mkv"], "new", "2 inputs would be written");
        says(&["gone.mp4"], "new", "gone.mp4");
    }
}
