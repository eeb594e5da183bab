//! `.safetensors` files: as they are, or (where the first byte is odd) a header alone, with its length and the data it asks for.
#![no_main]

use hi_diff::fuzzing;
use hi_diff::weights::Weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let mut file = bytes.to_vec();
    if choice % 2 == 1 {
        file = (bytes.len() as u64).to_le_bytes().to_vec();
        file.extend(bytes);
        file.resize(file.len() + 4 * usize::from(choice / 2), 0x3e);
    }
    if let Ok(numbers) = fuzzing::safetensors(&file) {
        assert!(2 * numbers.len() <= file.len());
    }
    if let Ok(weights) = Weights::from_bytes("in", file) {
        let _ = (weights.networks(), weights.config_or(None));
    }
});
