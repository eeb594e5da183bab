//! What a run reads of an earlier one, damaged: the first byte chooses which.
#![no_main]

mod common;

use std::fs;
use std::path::Path;

use hi_diff::Config;
use hi_diff::evaluation::journal::{EvaluationPlan, Journal};
use hi_diff::fuzzing;
use hi_diff::inference::files::{Plan, PlanOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    match choice % 5 {
        0 => evaluation(bytes, true),
        1 => evaluation(bytes, false),
        2 => deblurring(bytes),
        3 => video(bytes),
        _ => {
            let _ = fuzzing::video_streams(bytes);
        }
    }
});

fn evaluation(bytes: &[u8], begun: bool) {
    let path = common::empty_folder().join("journal.jsonl");
    let plan = EvaluationPlan {
        command: "hi-diff eval".into(),
        weights: "bundled".into(),
        fingerprint: "0".into(),
        backend: "flex".into(),
        seed: 0,
        save_images: false,
        config: Config::default(),
        datasets: Vec::new(),
    };
    let mut file = Vec::new();
    if begun {
        file = serde_json::to_vec(&plan).unwrap();
        file.push(b'\n');
    }
    file.extend(bytes);
    fs::write(&path, file).unwrap();
    if let Ok((_, _, done)) = Journal::resume(&path, &plan) {
        let (_, _, again) = Journal::resume(&path, &plan).unwrap();
        assert_eq!(done.len(), again.len());
    }
}

fn deblurring(bytes: &[u8]) {
    let root = common::empty_folder();
    for name in ["in/a.png", "in/b/c.png", "out/a.png"] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        fs::write(path, "a picture, or not").unwrap();
    }
    fs::write(root.join("out/.hi-diff.jsonl"), bytes).unwrap();
    let options = PlanOptions {
        resume: true,
        ..PlanOptions::default()
    };
    let mut plan = Plan::with(&[root.join("in")], &root.join("out"), &options).unwrap();
    assert_eq!(plan.jobs.len() + plan.done.len() + plan.failures.len(), 2);
    if plan.begin(Default::default()).is_ok() {
        for job in &plan.jobs {
            plan.journal.add(job).unwrap();
        }
        // What was added is read, whatever was before.
        Plan::with(&[root.join("in")], &root.join("out"), &options).unwrap();
    }
}

fn video(bytes: &[u8]) {
    let root = common::empty_folder();
    let (input, output) = (root.join("in.mp4"), root.join("out.mp4"));
    let frames = root.join("out.mp4.frames");
    fs::write(&input, "a video").unwrap();
    fs::create_dir_all(&frames).unwrap();
    fs::write(frames.join("lock"), "").unwrap();
    fs::write(frames.join("state.json"), bytes).unwrap();
    fs::write(frames.join("00000001.png"), bytes).unwrap();
    let _ = fuzzing::video_frames(&input, &output);
}
