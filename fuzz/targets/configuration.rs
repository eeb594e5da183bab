//! Configuration files, with changes by `--set`: the text up to the first zero byte is the file, then a setting a line.
#![no_main]

use hi_diff::Config;
use hi_diff::config::Setting;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (file, settings) = text.split_once('\0').unwrap_or((&text, ""));
    let settings: Vec<Setting> = settings
        .split('\0')
        .filter_map(|line| line.parse().ok())
        .collect();
    let parsed = Config::parse(file, "file");
    if let Ok(config) = &parsed {
        let json = serde_json::to_string(config).unwrap();
        let again: Config = serde_json::from_str(&json).unwrap();
        assert_eq!(*config, again);
    }
    let config = parsed.unwrap_or_default();
    if let Ok(changed) = config.with("file", &settings) {
        let _ = changed.without_training();
    }
});
