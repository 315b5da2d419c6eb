//! Links `edged` at a fixed address. Every container has a shim, which is this program again; in
//! one that the loader may put anywhere, each shim has its own copy of all pages with pointers.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let is_static = var("CARGO_CFG_TARGET_FEATURE").split(',').any(|f| f == "crt-static");
    // What images/cross-build.sh links is at a fixed address as it is: `file` says "executable".
    if var("CARGO_CFG_TARGET_ENV") == "gnu" && !is_static {
        println!("cargo:rustc-link-arg-bin=edged=-no-pie");
    }
}
