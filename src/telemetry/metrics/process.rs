//! Measurements of the process and its disk, read when they are asked for.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use std::path::PathBuf;
use std::time::Instant;

/// Registers what is known about the process.
pub(super) fn observe(meter: &Meter) {
    let started = Instant::now();
    // The SDK keeps the callbacks; the handles are not needed.
    let _build = meter
        .u64_observable_gauge("skep.build.info")
        .with_description("Always 1; the version is a label")
        .with_callback(|o| o.observe(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]))
        .build();
    let _uptime = meter
        .f64_observable_gauge("process.uptime")
        .with_unit("s")
        .with_description("Time since the process started")
        .with_callback(move |o| o.observe(started.elapsed().as_secs_f64(), &[]))
        .build();
    let _cpu = meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("CPU time of the process")
        .with_callback(|o| {
            if let Some((user, system)) = cpu_time() {
                o.observe(user, &[KeyValue::new("cpu.mode", "user")]);
                o.observe(system, &[KeyValue::new("cpu.mode", "system")]);
            }
        })
        .build();
    let _memory = meter
        .u64_observable_gauge("process.memory.usage")
        .with_unit("By")
        .with_description("Resident memory of the process")
        .with_callback(|o| {
            if let Some(bytes) = resident_bytes() {
                o.observe(bytes, &[]);
            }
        })
        .build();
    let _files = meter
        .u64_observable_gauge("process.open_file_descriptors")
        .with_description("Open file descriptors of the process")
        .with_callback(|o| {
            if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
                // One of them is the folder itself.
                o.observe((files.count() as u64).saturating_sub(1), &[]);
            }
        })
        .build();
}

/// Registers the space of the file system that holds a folder.
pub(super) fn observe_disk(meter: &Meter, folder: PathBuf) {
    let size_of = folder.clone();
    let _free = meter
        .u64_observable_gauge("skep.disk.free")
        .with_unit("By")
        .with_description("Space of the data directory's file system that is available to Skep")
        .with_callback(move |o| {
            if let Ok(fs) = rustix::fs::statvfs(&folder) {
                o.observe(fs.f_bavail.saturating_mul(fs.f_frsize), &[]);
            }
        })
        .build();
    let _size = meter
        .u64_observable_gauge("skep.disk.size")
        .with_unit("By")
        .with_description("Size of the data directory's file system")
        .with_callback(move |o| {
            if let Ok(fs) = rustix::fs::statvfs(&size_of) {
                o.observe(fs.f_blocks.saturating_mul(fs.f_frsize), &[]);
            }
        })
        .build();
}

/// Returns user and system time in seconds.
fn cpu_time() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / ticks);
    Some((seconds()?, seconds()?))
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_measures_itself() {
        let (user, system) = cpu_time().unwrap();
        assert!(user + system >= 0.0 && user + system < 3_600.0);
        assert!(resident_bytes().unwrap() > 1024 * 1024);
    }
}
