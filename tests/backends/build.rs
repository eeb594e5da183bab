//! Tells the borrowed tests to run on the other backends too.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(other_backends, burn_cpu, burn_tch)");
    println!("cargo::rustc-cfg=other_backends");
    for backend in ["cpu", "tch"] {
        let feature = format!("CARGO_FEATURE_{}", backend.to_uppercase());
        if std::env::var_os(feature).is_some() {
            println!("cargo::rustc-cfg=burn_{backend}");
        }
    }
}
