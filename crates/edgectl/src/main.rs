//! The `edgectl` binary: the library on this process's streams.

fn main() {
    std::process::exit(edgectl::run(std::env::args_os()));
}
