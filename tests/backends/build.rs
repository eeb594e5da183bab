//! Tells the borrowed tests to run on the other backends too.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(other_backends, burn_cpu)");
    println!("cargo::rustc-cfg=other_backends");
    if std::env::var_os("CARGO_FEATURE_CPU").is_some() {
        println!("cargo::rustc-cfg=burn_cpu");
    }
}
