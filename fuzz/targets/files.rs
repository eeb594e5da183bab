//! A picture file as both sides of a pair, on the ways of `crop`, `synth`, `metrics`, `eval` and training, and as input and result
//! of a `deblur` that goes on.
#![no_main]

mod common;

use std::fs;

use hi_diff::config::{Layout, blur::BlurModel};
use hi_diff::data::crops::{CropOptions, crop_dataset};
use hi_diff::data::dataset::PairReader;
use hi_diff::data::layout::Part;
use hi_diff::data::pairs::find_pairs;
use hi_diff::data::synthesis::{SynthesisOptions, synthesize_folder};
use hi_diff::evaluation::Protocol;
use hi_diff::evaluation::files::{match_paths, score_files};
use hi_diff::fuzzing;
use hi_diff::inference::files::{Plan, PlanOptions};
use libfuzzer_sys::fuzz_target;

/// All else is slow: larger pictures are only asked for their size and a region.
const MOST: u32 = 1 << 12;

fuzz_target!(init: common::watch_panics(), |bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let extension = ["png", "jpg", "tif", "webp", "gif", "bmp"][usize::from(choice) % 6];
    let root = common::empty_folder();
    let name = format!("a.{extension}");
    let (pairs, out) = (root.join("pairs"), root.join("out"));
    let [input, target] = ["input", "target"].map(|side| pairs.join(side));
    for folder in [&input, &target] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(&name), bytes).unwrap();
    }
    let path = input.join(&name);

    let size = fuzzing::size(&path);
    if let Ok((width, height)) = size {
        let region = [width / 3, height / 4, (width / 2).max(1), (height / 2).max(1)];
        let fits = region[0] + region[2] <= width && region[1] + region[3] <= height;
        if fits && let Ok((part, whole)) = fuzzing::region(&path, region) {
            assert_eq!(part.dimensions(), (region[2], region[3]));
            assert_eq!(whole, (width, height));
        }
        if width * height > MOST {
            return;
        }
    }
    if let Ok(found) = find_pairs(&pairs, None, Part::Train) {
        let (width, height) = size.as_ref().copied().unwrap();
        let reader = PairReader::new(found.pairs, 0);
        if let Ok(pair) = reader.read(0) {
            assert_eq!(pair.blur.dimensions(), (width, height));
            assert_eq!(pair.blur, pair.sharp);
        }
    }
    let options = CropOptions { size: 24, overlap: 8, force: false };
    let cropped = crop_dataset(&pairs, Some(Layout::InputTarget), Part::Train, &out.join("crops"), &options, &|_, _| {});
    let options = SynthesisOptions { max_size: Some(32), ..SynthesisOptions::default() };
    let blurred = synthesize_folder(&target, &out.join("blur"), &BlurModel::default(), &options, &|_, _| {});
    let _ = (cropped, blurred);
    if let Ok(pairs) = match_paths(&path, &target.join(&name)) {
        for protocol in [Protocol::Gopro, Protocol::Realblur] {
            score_files(&pairs, protocol, &|_| {}).to_string();
        }
    }

    let results = out.join("results");
    fs::create_dir_all(&results).unwrap();
    fs::write(results.join(&name), bytes).unwrap();
    let options = PlanOptions { resume: true, ..PlanOptions::default() };
    if let Ok(mut plan) = Plan::with(&[input], &results, &options) {
        for job in plan.jobs.iter().chain(&plan.done) {
            let _ = job.size();
        }
        let _ = plan.begin(Default::default());
    }
});
