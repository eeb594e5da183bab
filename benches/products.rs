//! The product of weights and pixels beside the `gemm` crate's, on one thread, at the shapes of the model: rows and channels of the
//! blocks' 1×1 convolutions, and as many pixels as a step takes at once.
//!
//! `cargo bench --bench products`

use hi_diff::kernels::product_rates;

/// Pixels of a step.
const PIXELS: usize = 512;

fn main() {
    println!("| weights | ours (GFLOP/s) | gemm (GFLOP/s) | ratio |");
    println!("|---|---|---|---|");
    // MDTA's q, k and v and its projection, GDFN's two: at level 1 of the small model, and at levels 1 to 4 of the released one.
    for channels in [16, 32, 48, 96, 192, 384] {
        let hidden = (channels as f64 * 2.66) as usize;
        for (rows, inner) in [
            (3 * channels, channels),
            (channels, channels),
            (2 * hidden, channels),
            (channels, hidden),
        ] {
            let [ours, gemm] = product_rates([rows, inner, PIXELS]).map(|rate| rate / 1e9);
            println!(
                "| {rows}×{inner} | {ours:.0} | {gemm:.0} | {:.2} |",
                ours / gemm
            );
        }
    }
}
