//! A guided model of a fifth of the bundled one's work, with all that the published ones have.

/// Its weights.
pub const TINY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/weights/tiny.safetensors"
);
