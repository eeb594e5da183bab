//! From the inputs and the output of a command to one job for each image.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::inference::image::Format;
use crate::whole::EXISTS;

/// One image to read and where its result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The image to read.
    pub input: PathBuf,
    /// The file to write, whose extension means a [`Format`].
    pub output: PathBuf,
}

/// What to do, and what cannot be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The images to work on: in the order of the inputs, within a folder sorted by name.
    pub jobs: Vec<Job>,
    /// One error for each input or file that has no job. The others can go on.
    pub failures: Vec<Error>,
}

impl Plan {
    /// Maps `inputs`, files and folders, to files at `output`.
    ///
    /// Folders are searched recursively for files whose extension means a [`Format`]; hidden files
    /// and folders, and whatever lies in `output`, are left out. Symbolic links are followed,
    /// except to a folder that contains them.
    ///
    /// `output` is a folder that is made when needed: a file keeps its name in it, and the files of
    /// a folder keep their place below that folder. Only where the one input is a file and `output`
    /// has an image's extension, and is not a folder already, is it the file to write.
    ///
    /// A failure is: a missing input, a folder without images, two inputs with the same output
    /// (neither is done), an output that is one of the inputs (under whatever name), an output
    /// without an image's extension, and an output that exists, unless `force` is given.
    ///
    /// # Errors
    ///
    /// `output` is a file where it has to be a folder.
    pub fn new(inputs: &[PathBuf], output: &Path, force: bool) -> Result<Plan> {
        let single_file = match inputs {
            [input] => !input.is_dir() && !output.is_dir() && Format::of_path(output).is_some(),
            _ => false,
        };
        if !single_file && output.exists() && !output.is_dir() {
            let reason = "a file, expected a folder for the results of several images";
            return Err(Error::refused(output, reason));
        }

        let mut plan = Plan::default();
        for input in inputs {
            match fs::metadata(input) {
                Err(source) => plan.failures.push(Error::Io {
                    path: input.clone(),
                    source,
                }),
                Ok(found) if found.is_dir() => plan.add_folder(input, output),
                Ok(_) if single_file => plan.add(input.clone(), output.to_path_buf()),
                Ok(_) => match input.file_name() {
                    Some(name) => plan.add(input.clone(), output.join(name)),
                    None => plan.failures.push(Error::image(input, "not an image file")),
                },
            }
        }
        plan.refuse_what_would_be_lost(force);
        Ok(plan)
    }

    fn add(&mut self, input: PathBuf, output: PathBuf) {
        if Format::of_path(&output).is_some() {
            self.jobs.push(Job { input, output });
        } else {
            let reason = format!(
                "the extension means no image format, expected {}",
                Format::LIST
            );
            self.failures.push(Error::image(&output, reason));
        }
    }

    fn add_folder(&mut self, folder: &Path, output: &Path) {
        let results = output.canonicalize().ok();
        let is_results = |path: &Path| results.is_some() && path.canonicalize().ok() == results;
        if is_results(folder) {
            let reason = "the folder of the inputs, expected another one for the results";
            self.failures.push(Error::refused(output, reason));
            return;
        }

        let before = (self.jobs.len(), self.failures.len());
        let entries = WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter();
        let wanted = entries.filter_entry(|entry| {
            let path = entry.path();
            let skipped = is_hidden(path) || entry.file_type().is_dir() && is_results(path);
            entry.depth() == 0 || !skipped
        });
        for entry in wanted {
            match entry {
                Ok(entry) => {
                    let path = entry.path();
                    if !entry.file_type().is_file() || Format::of_path(path).is_none() {
                        continue;
                    }
                    let below = path.strip_prefix(folder).unwrap_or(path);
                    self.add(path.to_path_buf(), output.join(below));
                }
                Err(error) => self.failures.extend(walk_failure(folder, error)),
            }
        }
        if (self.jobs.len(), self.failures.len()) == before {
            let reason = format!("no images in this folder, expected {}", Format::LIST);
            self.failures.push(Error::image(folder, reason));
        }
    }

    /// Turns jobs that would overwrite an input, each other or an existing file into failures.
    pub(crate) fn refuse_what_would_be_lost(&mut self, force: bool) {
        let jobs = std::mem::take(&mut self.jobs);
        let identities: Vec<_> = jobs.iter().map(|job| Identity::of(&job.input)).collect();
        let inputs: HashSet<&Identity> = identities.iter().flatten().collect();

        let mut claims: HashMap<&Path, HashSet<Option<&Identity>>> = HashMap::new();
        for (job, identity) in jobs.iter().zip(&identities) {
            claims
                .entry(&job.output)
                .or_default()
                .insert(identity.as_ref());
        }
        let mut planned = HashSet::new();
        let mut kept = Vec::new();
        for job in &jobs {
            let rivals = claims.get(job.output.as_path()).map_or(0, HashSet::len);
            let existing = Identity::of(&job.output);
            if rivals > 1 {
                let reason = format!(
                    "{rivals} inputs would be written here, {} is one of them; \
                     give them different names or write them one by one",
                    job.input.display()
                );
                self.failures.push(Error::refused(&job.output, reason));
            } else if !planned.insert(&job.output) {
                // The same file given twice is done once.
            } else if existing
                .as_ref()
                .is_some_and(|existing| inputs.contains(existing))
            {
                let reason = "one of the inputs, which are never overwritten";
                self.failures.push(Error::refused(&job.output, reason));
            } else if !force && fs::symlink_metadata(&job.output).is_ok() {
                self.failures.push(Error::refused(&job.output, EXISTS));
            } else {
                kept.push(job.clone());
            }
        }
        self.jobs = kept;
    }
}

/// What went wrong while searching `folder`; nothing for a link to a folder around it.
fn walk_failure(folder: &Path, error: walkdir::Error) -> Option<Error> {
    let path = error.path().unwrap_or(folder).to_path_buf();
    if error.loop_ancestor().is_some() || is_hidden(&path) {
        return None;
    }
    error
        .into_io_error()
        .map(|source| Error::Io { path, source })
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with('.'))
}

/// What stays the same when one file has several names.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Device and inode.
    #[cfg(unix)]
    Inode(u64, u64),
    /// The path without links.
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Option<Identity> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path)
                .ok()
                .map(|found| Identity::Inode(found.dev(), found.ino()))
        }
        #[cfg(not(unix))]
        {
            path.canonicalize().ok().map(Identity::Path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A folder with empty files of these names.
    fn folder(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    /// Plans with paths below `root`; jobs as `input > output`, failures as their messages.
    fn plan(root: &TempDir, inputs: &[&str], output: &str, force: bool) -> (Vec<String>, String) {
        let root = root.path();
        let inputs: Vec<_> = inputs.iter().map(|input| root.join(input)).collect();
        let plan = Plan::new(&inputs, &root.join(output), force).unwrap();
        let below = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let jobs = plan.jobs.iter().map(|job| {
            format!("{} > {}", below(&job.input), below(&job.output)).replace('\\', "/")
        });
        let failures: Vec<_> = plan.failures.iter().map(ToString::to_string).collect();
        (jobs.collect(), failures.join("\n"))
    }

    #[test]
    fn a_file_goes_to_a_named_file_or_into_a_folder() {
        let root = folder(&["a.jpg", "folder.png/x"]);
        let to = |output| plan(&root, &["a.jpg"], output, false).0;
        assert_eq!(to("new/b.png"), ["a.jpg > new/b.png"]);
        assert_eq!(to("out"), ["a.jpg > out/a.jpg"]);
        assert_eq!(to("folder.png"), ["a.jpg > folder.png/a.jpg"]);
    }

    #[test]
    fn a_folder_keeps_its_structure_sorted_and_without_foreign_and_hidden_files() {
        let root = folder(&[
            "in/b/2.PNG",
            "in/b/1.tiff",
            "in/a.webp",
            "in/notes.txt",
            "in/.hidden.png",
            "in/.git/c.png",
        ]);
        let (jobs, failures) = plan(&root, &["in"], "out", false);
        let expected = [
            "in/a.webp > out/a.webp",
            "in/b/1.tiff > out/b/1.tiff",
            "in/b/2.PNG > out/b/2.PNG",
        ];
        assert_eq!(jobs, expected);
        assert_eq!(failures, "");
    }

    #[test]
    fn results_inside_the_input_folder_are_not_inputs() {
        let root = folder(&["in/a.png", "in/out/a.png", "in/out/deep/b.png"]);
        let (jobs, failures) = plan(&root, &["in"], "in/out", true);
        assert_eq!(
            (jobs, failures),
            (vec!["in/a.png > in/out/a.png".into()], String::new())
        );
    }

    #[test]
    fn a_missing_or_empty_input_does_not_stop_the_others() {
        let root = folder(&["a.png", "text/readme.txt"]);
        let (jobs, failures) = plan(&root, &["gone.png", "text", "a.png"], "out", false);
        assert_eq!(jobs, ["a.png > out/a.png"]);
        assert!(failures.contains("gone.png: "), "{failures}");
        assert!(
            failures.contains("text: no images in this folder"),
            "{failures}"
        );
    }

    #[test]
    fn two_inputs_with_one_output_are_both_refused() {
        let root = folder(&["a/1.png", "b/1.png", "b/2.png"]);
        let (jobs, failures) = plan(&root, &["a", "b"], "out", true);
        assert_eq!(jobs, ["b/2.png > out/2.png"]);
        assert_eq!(
            failures.matches("2 inputs would be written here").count(),
            2,
            "{failures}"
        );
    }

    #[test]
    fn the_same_file_twice_is_done_once() {
        let root = folder(&["a/1.png", "a/2.png"]);
        let (jobs, failures) = plan(&root, &["a", "a/../a/1.png"], "out", false);
        assert_eq!(jobs, ["a/1.png > out/1.png", "a/2.png > out/2.png"]);
        assert_eq!(failures, "");
    }

    #[test]
    fn inputs_are_never_outputs_even_with_force() {
        let root = folder(&["a.png", "in/b.png", "in/c.png"]);
        for output in ["a.png", "in/../a.png"] {
            let (jobs, failures) = plan(&root, &["a.png"], output, true);
            assert!(
                jobs.is_empty() && failures.contains("one of the inputs"),
                "{failures}"
            );
        }
        let (jobs, failures) = plan(&root, &["in"], "in", true);
        assert!(
            jobs.is_empty() && failures.contains("another one for the results"),
            "{failures}"
        );
        // Into the folder of one of the inputs, beside another input.
        let (jobs, failures) = plan(&root, &["a.png", "in/b.png"], "in", true);
        assert_eq!(jobs, ["a.png > in/a.png"]);
        assert!(failures.contains("b.png: one of the inputs"), "{failures}");
    }

    #[cfg(unix)]
    #[test]
    fn inputs_are_recognised_through_links_and_link_loops_end() {
        use std::os::unix::fs::symlink;
        let root = folder(&["in/a.png", "out/x"]);
        symlink(root.path().join("in/a.png"), root.path().join("out/a.png")).unwrap();
        symlink(root.path().join("in"), root.path().join("in/loop")).unwrap();
        let (jobs, failures) = plan(&root, &["in"], "out", true);
        assert!(
            jobs.is_empty() && failures.contains("one of the inputs"),
            "{failures}"
        );
        fs::remove_file(root.path().join("out/a.png")).unwrap();
        fs::hard_link(root.path().join("in/a.png"), root.path().join("out/a.png")).unwrap();
        let (jobs, failures) = plan(&root, &["in"], "out", true);
        assert!(
            jobs.is_empty() && failures.contains("one of the inputs"),
            "{failures}"
        );
        let (jobs, failures) = plan(&root, &["in"], "elsewhere", true);
        assert_eq!(jobs, ["in/a.png > elsewhere/a.png"], "{failures}");
        assert_eq!(failures, "");
    }

    #[test]
    fn existing_outputs_need_force() {
        let root = folder(&["in/a.png", "in/b.png", "out/a.png"]);
        let (jobs, failures) = plan(&root, &["in"], "out", false);
        assert_eq!(jobs, ["in/b.png > out/b.png"]);
        assert!(failures.contains("a.png: exists already"), "{failures}");
        assert_eq!(plan(&root, &["in"], "out", true).0.len(), 2);
    }

    #[test]
    fn outputs_need_a_format_and_a_folder() {
        let root = folder(&["photo", "a.png", "file"]);
        let (jobs, failures) = plan(&root, &["photo"], "out", false);
        assert!(
            jobs.is_empty() && failures.contains("means no image format"),
            "{failures}"
        );
        assert_eq!(
            plan(&root, &["photo"], "out.png", false).0,
            ["photo > out.png"]
        );
        let inputs = [root.path().join("a.png"), root.path().join("photo")];
        let error = Plan::new(&inputs, &root.path().join("file"), true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("file: a file, expected a folder"), "{error}");
    }
}
