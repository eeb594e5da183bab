//! What was written into a folder, of what and how: by it a later run tells its results from other files.
//!
//! The journal is a hidden file among the results, of one line of JSON for each. It only helps: lines that cannot be read are
//! passed over, and without it a result is known by its time and size.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::Job;
use crate::error::{Error, Result};
use crate::picture;

/// Its name in the folder of the results.
const FILE: &str = ".hi-diff.jsonl";

/// The most that is read of it, in bytes: some 100,000 results.
const MOST: u64 = 128 << 20;

/// What decides about the restored pixels, such as weights and seed, by name.
pub type Recipe = BTreeMap<String, String>;

/// The results of this and earlier runs in a folder.
#[derive(Debug, Default)]
pub struct Journal {
    /// None where the result is a file on its own, beside which nothing is left.
    folder: Option<PathBuf>,
    /// By their paths below the folder.
    entries: HashMap<String, Entry>,
    /// Whether the last line of the file was not finished.
    torn: bool,
    recipe: Recipe,
    /// Results that stay although something beside them is missing.
    kept: HashSet<PathBuf>,
    /// The inputs of this run as they were before it began.
    inputs: HashMap<PathBuf, Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    output: String,
    input: Stamp,
    result: Stamp,
    recipe: Recipe,
}

/// By what a file is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// When it was changed, in nanoseconds since 1970; 0 where the system does not say.
    modified: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let modified = found.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        found.is_file().then(|| Self {
            bytes: found.len(),
            modified: modified.map_or(0, |time| time.as_nanos() as u64),
        })
    }
}

impl Journal {
    /// The journal of the results in `folder`, as far as there is one that can be read.
    pub fn read(folder: &Path) -> Self {
        let mut text = Vec::new();
        let file = File::open(folder.join(FILE));
        // What is read before an error counts.
        let _ = file.and_then(|file| file.take(MOST).read_to_end(&mut text));
        let lines = text.split(|&byte| byte == b'\n');
        let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        Self {
            folder: Some(folder.to_path_buf()),
            torn: text.last().is_some_and(|&byte| byte != b'\n'),
            // Of two lines about one result the later one counts.
            entries: entries.map(|entry| (entry.output.clone(), entry)).collect(),
            ..Self::default()
        }
    }

    /// Whether the job's result is there and of the input as it is now.
    ///
    /// It has to be a picture. Where the journal has a line about it, the input has to be the one of then, by size and time, and
    /// the result as long as then, unless somebody changed it later; else it has to be as large as the input in pixels and
    /// not older. An input that is no file, such as standard input, is not compared.
    pub fn is_done(&self, job: &Job) -> bool {
        let Some(result) = Stamp::of(&job.output).filter(|result| result.bytes > 0) else {
            return false;
        };
        let input = Stamp::of(&job.input);
        let entry = self.entry(job);
        if let Some((input, entry)) = input.zip(entry)
            && (input, result) == (entry.input, entry.result)
        {
            return true; // without opening the file, as there may be thousands
        }
        let Ok(size) = picture::size(&job.output) else {
            return false;
        };
        match (input, entry) {
            (None, _) => true,
            (Some(input), Some(entry)) => {
                let as_written = result.bytes == entry.result.bytes;
                input == entry.input && (as_written || result.modified > entry.result.modified)
            }
            (Some(input), None) => {
                result.modified >= input.modified
                    && picture::size(&job.input).is_ok_and(|wanted| wanted == size)
            }
        }
    }

    /// Whether somebody's picture has the result's name: one that no line knows, not older than the input and of another
    /// size. It is not replaced without being asked.
    pub(super) fn is_foreign(&self, job: &Job) -> bool {
        let stamps = Stamp::of(&job.output).zip(Stamp::of(&job.input));
        let newer = stamps.is_some_and(|(result, input)| result.modified >= input.modified);
        newer
            && self.entry(job).is_none()
            && picture::size(&job.output)
                .is_ok_and(|size| picture::size(&job.input).is_ok_and(|wanted| wanted != size))
    }

    /// Whether there is a journal in `folder`.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Whether `file`, which belongs beside the job's result, is there and not of an earlier result.
    pub fn has_beside(&self, job: &Job, file: &Path) -> bool {
        let (result, beside) = (Stamp::of(&job.output), Stamp::of(file));
        let not_older = result.zip(beside);
        not_older.is_some_and(|(result, beside)| beside.modified >= result.modified)
            && picture::size(file).is_ok()
    }

    /// Whether the job's result stays as it is, and only what is missing beside it is to be written.
    pub fn keeps(&self, job: &Job) -> bool {
        self.kept.contains(&job.output)
    }

    pub(super) fn keep(&mut self, job: &Job) {
        self.kept.insert(job.output.clone());
    }

    /// Begins a run that makes `jobs` by this recipe and leaves `done` as they are.
    ///
    /// # Errors
    /// [`Error::Refused`] if a result that stays was made by another recipe.
    pub(super) fn begin(&mut self, recipe: Recipe, jobs: &[Job], done: &[Job]) -> Result<()> {
        for job in done.iter().chain(jobs.iter().filter(|job| self.keeps(job))) {
            let Some(entry) = self.entry(job) else {
                continue;
            };
            let differences = differences(&entry.recipe, &recipe);
            if !differences.is_empty() {
                let reason = format!(
                    "made in another way: {}; write into another folder, or begin anew by --force without --resume",
                    differences.join(", ")
                );
                return Err(Error::refused(&job.output, reason));
            }
        }
        self.recipe = recipe;
        let stamp = |job: &Job| Some((job.input.clone(), Stamp::of(&job.input)?));
        self.inputs = jobs.iter().filter_map(stamp).collect();
        Ok(())
    }

    /// Writes down that the job's result is there.
    ///
    /// # Errors
    /// [`Error::Io`] if the journal cannot be written. The result is there all the same.
    pub fn add(&self, job: &Job) -> Result<()> {
        let (Some(folder), Some(output)) = (&self.folder, self.name(job)) else {
            return Ok(());
        };
        let input = self.inputs.get(&job.input).copied();
        let (Some(input), Some(result)) = (input, Stamp::of(&job.output)) else {
            return Ok(());
        };
        let recipe = self.recipe.clone();
        let entry = Entry {
            output,
            input,
            result,
            recipe,
        };
        let path = folder.join(FILE);
        let line = serde_json::to_string(&entry).map_err(|error| Error::io(&path)(error.into()))?;
        let line = format!("{}{line}\n", if self.torn { "\n" } else { "" });
        // In one piece, so that neither a crash nor a second program mixes lines.
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(Error::io(&path))
    }

    fn entry(&self, job: &Job) -> Option<&Entry> {
        self.entries.get(&self.name(job)?)
    }

    /// The result's path below the folder, with `/` on every system.
    fn name(&self, job: &Job) -> Option<String> {
        let below = job.output.strip_prefix(self.folder.as_ref()?).ok()?;
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        Some(parts.join("/"))
    }
}

/// How two recipes differ, in words.
pub(crate) fn differences(before: &Recipe, now: &Recipe) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|&key| before.get(key) != now.get(key));
    let text = |recipe: &Recipe, key| recipe.get(key).cloned().unwrap_or_else(|| "none".into());
    differing
        .map(|key| format!("{key} was {}, now {}", text(before, key), text(now, key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use std::time::{Duration, SystemTime};
    use tempfile::TempDir;

    struct Case {
        root: TempDir,
        job: Job,
    }

    impl Case {
        /// An input and its result, both of 4×3 pixels and of the same time.
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("out")).unwrap();
            let job = Job {
                input: root.path().join("a.png"),
                output: root.path().join("out/a.png"),
            };
            let case = Self { root, job };
            case.input(4, 3, 0);
            case.result(4, 3, 0);
            case
        }

        fn input(&self, width: u32, height: u32, seconds: u64) {
            picture(&self.job.input, width, height, seconds);
        }

        fn result(&self, width: u32, height: u32, seconds: u64) {
            picture(&self.job.output, width, height, seconds);
        }

        fn journal(&self) -> Journal {
            Journal::read(&self.root.path().join("out"))
        }

        fn is_done(&self) -> bool {
            self.journal().is_done(&self.job)
        }

        fn record(&self, seed: &str) {
            let mut journal = self.journal();
            let jobs = std::slice::from_ref(&self.job);
            journal.begin(recipe(seed), jobs, &[]).unwrap();
            journal.add(&self.job).unwrap();
        }
    }

    fn recipe(seed: &str) -> Recipe {
        BTreeMap::from([("seed".to_string(), seed.to_string())])
    }

    /// A picture that was changed so many seconds after a certain time.
    fn picture(path: &Path, width: u32, height: u32, seconds: u64) {
        RgbImage::new(width, height).save(path).unwrap();
        set_time(path, seconds);
    }

    fn set_time(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn without_a_line_time_and_size_decide() {
        let case = Case::new();
        assert!(case.is_done(), "of the same time");
        case.input(4, 3, 1);
        assert!(!case.is_done(), "older than its input");
        case.result(4, 3, 2);
        assert!(case.is_done());
        assert!(!case.journal().is_foreign(&case.job));
        case.result(3, 4, 2);
        assert!(!case.is_done(), "of another size");
        assert!(case.journal().is_foreign(&case.job));
        for bytes in [&b""[..], b"no picture"] {
            fs::write(&case.job.output, bytes).unwrap();
            assert!(!case.is_done(), "{bytes:?}");
        }
        fs::remove_file(&case.job.output).unwrap();
        assert!(!case.is_done());
    }

    #[test]
    fn with_a_line_the_input_has_to_be_the_one_of_then() {
        let case = Case::new();
        case.result(4, 3, 5);
        case.record("0");
        assert!(case.is_done());
        // Another photograph of the same size and an earlier time, as `cp -p` leaves it.
        case.input(4, 3, 1);
        assert!(!case.is_done());
        case.input(4, 3, 0);
        assert!(case.is_done());
        // Somebody cropped the result, and somebody cut it off.
        case.result(2, 2, 9);
        assert!(case.is_done(), "edited");
        let bytes = fs::read(&case.job.output).unwrap();
        fs::write(&case.job.output, &bytes[..bytes.len() - 12]).unwrap();
        set_time(&case.job.output, 5);
        assert!(!case.is_done(), "cut off");
        fs::write(&case.job.output, "").unwrap();
        assert!(!case.is_done(), "empty");
    }

    #[test]
    fn a_damaged_journal_is_none_and_is_gone_on_with() {
        let case = Case::new();
        let path = case.root.path().join("out").join(FILE);
        let garbage = b"\xff\xfe{\"output\":3}\n[[[[\n{\"output\":\"a.png\",\"inp";
        fs::write(&path, garbage).unwrap();
        assert!(case.is_done(), "by time and size");
        case.record("0");
        let journal = case.journal();
        assert_eq!(journal.entries.len(), 1);
        assert_eq!(journal.entry(&case.job).unwrap().recipe, recipe("0"));
        // The last line counts.
        case.record("1");
        assert_eq!(case.journal().entry(&case.job).unwrap().recipe, recipe("1"));
    }

    #[test]
    fn results_of_another_recipe_are_refused_and_not_kept() {
        let case = Case::new();
        case.record("0");
        let begin = |seed| {
            let done = std::slice::from_ref(&case.job);
            case.journal().begin(recipe(seed), &[], done)
        };
        begin("0").unwrap();
        let mut journal = case.journal();
        journal.keep(&case.job);
        let jobs = std::slice::from_ref(&case.job);
        assert!(journal.begin(recipe("7"), jobs, &[]).is_err());
        // What is made anew may be made in another way.
        case.journal().begin(recipe("7"), jobs, &[]).unwrap();
        let error = begin("7").unwrap_err().to_string();
        assert!(
            error.contains("a.png: made in another way: seed was 0, now 7"),
            "{error}"
        );
    }

    #[test]
    fn an_input_that_changes_meanwhile_is_not_taken_for_the_one_restored() {
        let case = Case::new();
        let mut journal = case.journal();
        let jobs = std::slice::from_ref(&case.job);
        journal.begin(recipe("0"), jobs, &[]).unwrap();
        case.input(4, 3, 3);
        journal.add(&case.job).unwrap();
        assert!(!case.is_done());
    }

    #[test]
    fn what_is_beside_a_result_is_not_older() {
        let case = Case::new();
        let beside = case.job.beside("compare.png");
        let has = || case.journal().has_beside(&case.job, &beside);
        assert!(!has());
        picture(&beside, 9, 3, 0);
        assert!(has());
        case.result(4, 3, 1);
        assert!(!has());
    }
}
