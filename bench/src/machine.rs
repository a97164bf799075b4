//! What was measured on.

use std::process::Command;

/// Processor, cores, system, compiler, allocator: what a reader needs to place the figures, and no name of a host.
pub fn line() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Machine: {}, {cores} cores, {} {}; {}; {} for both sides.",
        processor(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        compiler(),
        crate::alloc::NAME,
    )
}

/// A warning, if others have work for the processors: medians bear some of that, not much.
pub fn disturbance() -> Option<String> {
    let said = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = said.split(' ').next()?.parse().ok()?;
    (load > 1.0).then(|| {
        format!("The machine had other work (load {load:.1} before the run): not figures to rely on.")
    })
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown processor".to_owned(), |(_, model)| model.trim().to_owned())
}

/// The compiler that `cargo run` uses here, which is the one this program was built with.
fn compiler() -> String {
    let said = Command::new("rustc").arg("--version").output().ok().map(|output| output.stdout);
    let version = said.and_then(|said| String::from_utf8(said).ok());
    let version = version.as_deref().and_then(|v| v.split(" (").next()).map(str::trim);
    version.filter(|v| !v.is_empty()).unwrap_or("unknown rustc").to_owned()
}

/// Bytes of this process that lie in memory now.
pub fn resident() -> f64 {
    status("VmRSS:")
}

/// The most there ever were.
pub fn most_resident() -> f64 {
    status("VmHWM:")
}

fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells processes their size");
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).expect("a size in kB") * 1024.0
}
