//! From the inputs and the output of a command to one job for each image.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use alphanumeric_sort::compare_os_str;
use walkdir::WalkDir;

use super::journal::{Journal, Recipe};
use crate::error::{Error, Result};
use crate::picture::{self, Format, PassedOver, foreign_extension};
use crate::whole::EXISTS;

/// One image to read and where its result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The image to read.
    pub input: PathBuf,
    /// The file to write, whose extension means a [`Format`].
    pub output: PathBuf,
}

impl Job {
    /// The file beside the output that has `ending` for the output's extension.
    pub fn beside(&self, ending: &str) -> PathBuf {
        self.output.with_extension(ending)
    }

    /// Width and height of the input in pixels, upright, by its header.
    ///
    /// # Errors
    /// The file cannot be read, or is not an image that is read.
    pub fn size(&self) -> Result<(u32, u32)> {
        picture::size(&self.input)
    }
}

/// An input that has no job.
#[derive(Debug)]
pub struct Failure {
    /// The file or folder.
    pub input: PathBuf,
    /// Why.
    pub error: Error,
}

/// What becomes of outputs.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Outputs that exist are replaced.
    pub force: bool,
    /// Outputs that are results of their inputs are kept (see [`Journal::is_done`]), others replaced. A job is done where
    /// all its files are there.
    pub resume: bool,
    /// The format of outputs in a folder, by their extensions; none: that of the inputs, and JPEG for HEIC and AVIF.
    pub format: Option<Format>,
    /// The endings of what is written beside each output (see [`Job::beside`]).
    pub beside: Vec<&'static str>,
    /// Files that are read beside the inputs, such as a mask, and are no more overwritten than these.
    pub others: Vec<PathBuf>,
}

/// What to do, and what cannot be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The images to work on: in the order of the inputs, within a folder sorted by name as people count, `frame2` before
    /// `frame10`.
    pub jobs: Vec<Job>,
    /// The jobs that are done already, in the same order.
    pub done: Vec<Job>,
    /// One failure for each input or file that has no job. The others can go on.
    pub failures: Vec<Failure>,
    /// Of each folder among the inputs that holds other files, what they are; hidden files are not counted.
    pub passed_over: Vec<PassedOver>,
    /// What earlier runs wrote into the folder of the results.
    pub journal: Journal,
}

impl Plan {
    /// As [`with`](Self::with), replacing existing outputs or not.
    ///
    /// # Errors
    ///
    /// As for [`with`](Self::with).
    pub fn new(inputs: &[PathBuf], output: &Path, force: bool) -> Result<Plan> {
        let options = PlanOptions {
            force,
            ..PlanOptions::default()
        };
        Self::with(inputs, output, &options)
    }

    /// Maps `inputs`, files and folders, to files at `output`.
    ///
    /// Folders are searched recursively for files whose extension [`is_read`](Format::is_read); hidden files
    /// and folders, and whatever lies in `output`, are left out. Symbolic links are followed,
    /// except to a folder that contains them.
    ///
    /// `output` is a folder that is made when needed: a file keeps its name in it (but for the
    /// extension, where the options have a format or the file is HEIC or AVIF), and the files of a folder keep their place
    /// below that folder. Only if it [`is_file`](Self::is_file) is it the file to write. Where the one
    /// input is a file, a new folder's name has no extension, or one without letters, as `results.2024`
    /// has, or ends in a separator, so that nobody who means a format gets a folder.
    ///
    /// A failure is: a missing input, a folder without images, two inputs with the same output or
    /// file beside it (neither is done), an output that is one of the inputs (under whatever name),
    /// an output without an image's extension, and an output that exists, unless it is to be
    /// replaced or kept. What is written beside an output counts as an output.
    ///
    /// # Errors
    ///
    /// `output` is a file where it has to be a folder, or has an extension that means no [`Format`] where
    /// it could be a file.
    pub fn with(inputs: &[PathBuf], output: &Path, options: &PlanOptions) -> Result<Plan> {
        let single_file = Self::is_file(inputs, output);
        if let [input] = inputs
            && !single_file
            && !input.is_dir()
            && let Some(extension) = file_extension(output)
        {
            return Err(Error::image(output, no_format(output, &extension)));
        }
        if !single_file && output.exists() && !output.is_dir() {
            let reason = "a file, expected a folder for the results of several images";
            return Err(Error::refused(output, reason));
        }

        let mut plan = Plan::default();
        // Who never resumes finds nothing but results in the folder.
        if !single_file && (options.resume || Journal::is_in(output)) {
            plan.journal = Journal::read(output);
        }
        for input in inputs {
            match fs::metadata(input) {
                Err(source) => plan.fail(input, Error::io(input)(source)),
                Ok(found) if found.is_dir() => plan.add_folder(input, output, options.format),
                Ok(_) if single_file => plan.add(input.clone(), output.to_path_buf(), None),
                Ok(_) => match input.file_name() {
                    Some(name) => plan.add(input.clone(), output.join(name), options.format),
                    None => plan.fail(input, Error::image(input, "not an image file")),
                },
            }
        }
        plan.refuse_what_would_be_lost(options);
        Ok(plan)
    }

    /// One job whose input is no file, or is known to be one.
    pub fn of_job(job: Job, options: &PlanOptions) -> Plan {
        let mut plan = Plan::default();
        plan.add(job.input, job.output, None);
        plan.refuse_what_would_be_lost(options);
        plan
    }

    /// Whether `output` is the file to write: the one input is a file, and `output` has an image's extension, no
    /// separator at its end, and is not a folder already.
    pub fn is_file(inputs: &[PathBuf], output: &Path) -> bool {
        match inputs {
            [input] => !input.is_dir() && !is_folder(output) && Format::of_path(output).is_some(),
            _ => false,
        }
    }

    /// Begins a run that makes the jobs by this recipe. From then on the journal takes what was done.
    ///
    /// # Errors
    /// [`Error::Refused`] if one of the results that are done was made by another recipe.
    pub fn begin(&mut self, recipe: Recipe) -> Result<()> {
        self.journal.begin(recipe, &self.jobs, &self.done)
    }

    pub(crate) fn fail(&mut self, input: &Path, error: Error) {
        let input = input.to_path_buf();
        self.failures.push(Failure { input, error });
    }

    fn add(&mut self, input: PathBuf, mut output: PathBuf, format: Option<Format>) {
        // By default as the photograph's own format, which HEIC and AVIF are not.
        let by_name = Format::is_heif(&output).then_some(Format::Jpeg);
        if let Some(format) = format.or(by_name)
            && Format::of_path(&output) != Some(format)
        {
            output.set_extension(format.extensions()[0]);
        }
        if Format::of_path(&output).is_some() {
            self.jobs.push(Job { input, output });
        } else {
            let reason = format!(
                "the extension means no image format, expected {}",
                Format::LIST
            );
            self.fail(&input, Error::image(&output, reason));
        }
    }

    fn add_folder(&mut self, folder: &Path, output: &Path, format: Option<Format>) {
        let results = output.canonicalize().ok();
        let is_results = |path: &Path| results.is_some() && path.canonicalize().ok() == results;
        if is_results(folder) {
            let reason = "the folder of the inputs, expected another one for the results";
            self.fail(folder, Error::refused(output, reason));
            return;
        }

        let before = (self.jobs.len(), self.failures.len());
        let mut passed_over = PassedOver::new(folder);
        let entries = WalkDir::new(folder)
            .follow_links(true)
            .sort_by(|a, b| as_people_count(a.file_name(), b.file_name()))
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
                    if !entry.file_type().is_file() {
                        continue;
                    }
                    if !Format::is_read(path) {
                        passed_over.add(path);
                        continue;
                    }
                    let below = path.strip_prefix(folder).unwrap_or(path);
                    self.add(path.to_path_buf(), output.join(below), format);
                }
                Err(error) => self.failures.extend(walk_failure(folder, error)),
            }
        }
        if (self.jobs.len(), self.failures.len()) == before {
            let reason = passed_over.no_images();
            self.fail(folder, Error::image(folder, reason));
        }
        if !passed_over.is_empty() {
            self.passed_over.push(passed_over);
        }
    }

    /// Turns jobs that would overwrite an input, each other or an existing file into failures, and sets aside those that
    /// are done.
    pub(crate) fn refuse_what_would_be_lost(&mut self, options: &PlanOptions) {
        let jobs = std::mem::take(&mut self.jobs);
        let identities: Vec<_> = jobs.iter().map(|job| Identity::of(&job.input)).collect();
        let others: Vec<_> = options
            .others
            .iter()
            .map(|file| Identity::of(file))
            .collect();
        let inputs: HashSet<&Identity> = identities.iter().chain(&others).flatten().collect();
        let files = |job: &Job| -> Vec<PathBuf> {
            let beside = options.beside.iter().map(|ending| job.beside(ending));
            std::iter::once(job.output.clone()).chain(beside).collect()
        };

        let mut claims: HashMap<PathBuf, HashSet<Option<&Identity>>> = HashMap::new();
        for (job, identity) in jobs.iter().zip(&identities) {
            for file in files(job) {
                claims.entry(file).or_default().insert(identity.as_ref());
            }
        }
        let rivals = |file: &Path| claims.get(file).map_or(0, HashSet::len);
        let is_input = |file: &Path| Identity::of(file).is_some_and(|it| inputs.contains(&it));
        let exists = |file: &Path| fs::symlink_metadata(file).is_ok();

        let mut planned = HashSet::new();
        for job in &jobs {
            let files = files(job);
            if let Some(file) = files.iter().find(|file| rivals(file) > 1) {
                let reason = format!(
                    "{} inputs would be written here, {} is one of them; \
                     give them different names or write them one by one",
                    rivals(file),
                    job.input.display()
                );
                self.fail(&job.input, Error::refused(file, reason));
            } else if !planned.insert(&job.output) {
                // The same file given twice is done once.
            } else if let Some(file) = files.iter().find(|file| is_input(file)) {
                let reason = "one of the inputs, which are never overwritten";
                self.fail(&job.input, Error::refused(file, reason));
            } else if options.resume && self.journal.is_done(job) {
                let beside = &files[1..];
                if beside.iter().all(|file| self.journal.has_beside(job, file)) {
                    self.done.push(job.clone());
                } else {
                    self.journal.keep(job);
                    self.jobs.push(job.clone());
                }
            } else if options.resume && self.journal.is_foreign(job) {
                let reason = "a picture of another size, and not known to be a result: move it, or begin anew by \
                              --force without --resume";
                self.fail(&job.input, Error::refused(&job.output, reason));
            } else if !options.force
                && !options.resume
                && let Some(file) = files.iter().find(|file| exists(file))
            {
                self.fail(&job.input, Error::refused(file, EXISTS));
            } else {
                self.jobs.push(job.clone());
            }
        }
    }
}

/// Whether `output` is a folder, or written as one: with a separator at its end.
pub(crate) fn is_folder(output: &Path) -> bool {
    let text = output.as_os_str().to_string_lossy();
    text.ends_with(std::path::is_separator) || output.is_dir()
}

/// The extension by which `output` may be meant as a file. One without a letter is part of a folder's name, such as
/// `results.2024`, and so is one with other characters than letters and digits.
pub(crate) fn file_extension(output: &Path) -> Option<String> {
    let extension = output.extension()?.to_str()?;
    let is_meant =
        extension.chars().all(char::is_alphanumeric) && extension.chars().any(char::is_alphabetic);
    (is_meant && !is_folder(output)).then(|| extension.to_string())
}

/// That results are not written with `output`'s extension.
fn no_format(output: &Path, extension: &str) -> String {
    let found = match foreign_extension(&extension.to_ascii_lowercase()) {
        Some(name) => format!("the extension means {name}, which is not written"),
        None => "the extension means no image format".to_string(),
    };
    let (expected, folder) = (Format::LIST, output.display());
    format!("{found}, expected that of {expected}; for a folder of this name write {folder}/")
}

/// `frame2` before `frame10`; names that count the same in the order of their bytes.
fn as_people_count(a: &OsStr, b: &OsStr) -> Ordering {
    compare_os_str(a, b).then_with(|| a.cmp(b))
}

/// What went wrong while searching `folder`; nothing for a link to a folder around it.
fn walk_failure(folder: &Path, error: walkdir::Error) -> Option<Failure> {
    let path = error.path().unwrap_or(folder).to_path_buf();
    if error.loop_ancestor().is_some() || is_hidden(&path) {
        return None;
    }
    let error = Error::io(&path)(error.into_io_error()?);
    Some(Failure { input: path, error })
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
        let options = PlanOptions {
            force,
            ..PlanOptions::default()
        };
        let (jobs, _, failures) = plan_with(root, inputs, output, &options);
        (jobs, failures)
    }

    /// As [`plan`], by any options; the jobs that are done between the others and the failures.
    fn plan_with(
        root: &TempDir,
        inputs: &[&str],
        output: &str,
        options: &PlanOptions,
    ) -> (Vec<String>, Vec<String>, String) {
        let root = root.path();
        let inputs: Vec<_> = inputs.iter().map(|input| root.join(input)).collect();
        let plan = Plan::with(&inputs, &root.join(output), options).unwrap();
        let below = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let listed = |jobs: &[Job]| {
            let line = |job: &Job| format!("{} > {}", below(&job.input), below(&job.output));
            jobs.iter()
                .map(|job| line(job).replace('\\', "/"))
                .collect()
        };
        let failures = plan
            .failures
            .iter()
            .map(|failure| failure.error.to_string());
        let failures: Vec<_> = failures.collect();
        (listed(&plan.jobs), listed(&plan.done), failures.join("\n"))
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
    fn an_extension_that_means_no_format_is_no_folders_name_for_one_file() {
        let root = folder(&["a.jpg", "in/b.jpg", "there.heic/x"]);
        let refused = |output: &str| {
            let inputs = [root.path().join("a.jpg")];
            let plan = Plan::new(&inputs, &root.path().join(output), false);
            plan.unwrap_err().to_string()
        };
        let heic = refused("new/sharp.HEIC");
        assert!(
            heic.contains(
                "sharp.HEIC: the extension means HEIC, which is not written, expected that of PNG"
            ) && heic.ends_with("sharp.HEIC/"),
            "{heic}"
        );
        let unknown = refused("sharp.pgn");
        assert!(unknown.contains("means no image format"), "{unknown}");
        refused("results.v2");
        refused("clip.mp4");

        let to = |inputs: &[&str], output| plan(&root, inputs, output, false).0;
        for folder in ["there.heic", "new.heic/", "results.2024", "v1.0", "a.b c"] {
            let expected = format!("a.jpg > {}/a.jpg", folder.trim_end_matches('/'));
            assert_eq!(to(&["a.jpg"], folder), [expected], "{folder}");
        }
        assert_eq!(to(&["a.jpg"], "new.png/"), ["a.jpg > new.png/a.jpg"]);
        assert_eq!(to(&["in"], "new.heic"), ["in/b.jpg > new.heic/b.jpg"]);
        assert_eq!(to(&["a.jpg", "in"], "new.heic").len(), 2);
    }

    #[test]
    fn what_a_folder_passes_over_is_counted_by_kind() {
        let root = folder(&[
            "in/a.png",
            "in/b.jxl",
            "in/deep/c.JXL",
            "in/deep/d.dng",
            "in/clip.mov",
            "in/notes.txt",
            "in/.hidden.jxl",
            "in/.git/e.jxl",
            "in/out/f.jxl",
            "plain/g.png",
            "phone/h.jxl",
        ]);
        let inputs = ["in", "plain", "phone"].map(|name| root.path().join(name));
        let plan = Plan::new(&inputs, &root.path().join("in/out"), false).unwrap();
        let found: Vec<_> = plan
            .passed_over
            .iter()
            .map(|found| (found.folder(), found.to_string()))
            .collect();
        let expected = [
            (
                inputs[0].as_path(),
                "JPEG XL 2, DNG 1, QuickTime video 1, other files 1".to_string(),
            ),
            (inputs[2].as_path(), "JPEG XL 1".to_string()),
        ];
        assert_eq!(found, expected);
        assert_eq!(plan.failures.len(), 1);
        let failure = plan.failures[0].error.to_string();
        assert!(
            failure.contains("phone: no images in this folder") && failure.contains("JPEG XL 1: "),
            "{failure}"
        );
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

    #[test]
    fn frames_come_in_the_order_of_their_numbers() {
        let names = [
            "in/f10.png",
            "in/f2.png",
            "in/f02.png",
            "in/f1.png",
            "in/shot10/a.png",
            "in/shot9/a.png",
        ];
        let (jobs, _) = plan(&folder(&names), &["in"], "out", false);
        let inputs: Vec<_> = jobs
            .iter()
            .map(|job| job.split(" > ").next().unwrap())
            .collect();
        let position = |name: &str| inputs.iter().position(|&input| input == name).unwrap();
        assert_eq!(position("in/f1.png"), 0);
        assert!(position("in/f2.png") < 3 && position("in/f02.png") < 3);
        assert_eq!(position("in/f10.png"), 3);
        assert!(position("in/shot9/a.png") < position("in/shot10/a.png"));
    }

    #[test]
    fn a_format_names_the_results_in_a_folder() {
        let root = folder(&["in/a.JPG", "in/b.png", "in/c.d.webp", "scan"]);
        let options = PlanOptions {
            format: Some(Format::Jpeg),
            ..PlanOptions::default()
        };
        let (jobs, _, failures) = plan_with(&root, &["in", "scan"], "out", &options);
        let expected = [
            "in/a.JPG > out/a.JPG",
            "in/b.png > out/b.jpg",
            "in/c.d.webp > out/c.d.jpg",
            "scan > out/scan.jpg",
        ];
        assert_eq!(
            (jobs, failures),
            (expected.map(String::from).into(), String::new())
        );
        let root = folder(&["in/a.jpg", "in/a.png"]);
        let (jobs, _, failures) = plan_with(&root, &["in"], "out", &options);
        assert!(jobs.is_empty(), "{jobs:?}");
        assert_eq!(
            failures
                .matches("a.jpg: 2 inputs would be written here")
                .count(),
            2,
            "{failures}"
        );
    }

    #[test]
    fn what_is_written_beside_a_result_is_guarded_like_it() {
        let options = |force| PlanOptions {
            force,
            beside: vec!["compare.png"],
            ..PlanOptions::default()
        };
        let refused = |names: &[&str], inputs: &[&str], force: bool, words: &str, times: usize| {
            let (jobs, _, failures) = plan_with(&folder(names), inputs, "out", &options(force));
            assert_eq!(
                failures.matches(words).count(),
                times,
                "{names:?}: {failures}"
            );
            jobs.len()
        };
        let both = "a.compare.png: 2 inputs would be written here";
        assert_eq!(
            refused(&["in/a.png", "in/a.jpg"], &["in"], true, both, 2),
            0
        );
        assert_eq!(
            refused(&["in/a.png", "in/a.compare.png"], &["in"], true, both, 2),
            0
        );
        let exists = "a.compare.png: exists already";
        assert_eq!(
            refused(
                &["in/a.png", "out/a.compare.png"],
                &["in"],
                false,
                exists,
                1
            ),
            0
        );
        assert_eq!(
            refused(&["in/a.png", "out/a.compare.png"], &["in"], true, exists, 0),
            1
        );

        let inputs = ["in/a.png", "out/a.compare.png"];
        let options = PlanOptions {
            format: Some(Format::Jpeg),
            ..options(true)
        };
        let (jobs, _, failures) = plan_with(&folder(&inputs), &inputs, "out", &options);
        assert_eq!(jobs, ["out/a.compare.png > out/a.compare.jpg"]);
        assert!(
            failures.contains("a.compare.png: one of the inputs"),
            "{failures}"
        );
    }

    #[test]
    fn what_exists_as_a_whole_is_done_when_resuming() {
        // In this order, as a result is not older than its input.
        let names = [
            "in/a.png",
            "in/b.png",
            "in/c.png",
            "in/d.png",
            "out/a.png",
            "out/b.png",
            "out/b.compare.png",
            "out/d.png",
        ];
        let root = folder(&names);
        for name in &names[..7] {
            let picture = image::RgbImage::new(2, 2);
            picture.save(root.path().join(name)).unwrap();
        }
        let mut options = PlanOptions {
            resume: true,
            ..PlanOptions::default()
        };
        let (jobs, done, failures) = plan_with(&root, &["in"], "out", &options);
        // An empty file is no result.
        let expected = ["in/c.png > out/c.png", "in/d.png > out/d.png"];
        assert_eq!(
            (jobs, failures),
            (expected.map(String::from).into(), String::new())
        );
        assert_eq!(done, ["in/a.png > out/a.png", "in/b.png > out/b.png"]);
        options.beside = vec!["compare.png"];
        let (jobs, done, _) = plan_with(&root, &["in"], "out", &options);
        let expected = [
            "in/a.png > out/a.png",
            "in/c.png > out/c.png",
            "in/d.png > out/d.png",
        ];
        assert_eq!(jobs, expected);
        assert_eq!(done, ["in/b.png > out/b.png"]);
    }
}
