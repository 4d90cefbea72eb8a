//! Cost of starting a command in the sandbox, compared with starting it directly.
#![allow(missing_docs, clippy::expect_used)]

use divan::Bencher;
use skep::platform::sandbox::{Job, Level, Policy, Purpose, Sandbox};
use std::path::Path;
use std::time::Duration;

fn main() {
    divan::main();
}

#[divan::bench(args = ["none", "strict"], sample_count = 100)]
fn start_and_end(bencher: Bencher<'_, '_>, level: &str) {
    let level = Level::named(level).expect("a level");
    let policy = Policy { level, accept_no_isolation: level == Level::None, ..Policy::default() };
    let sandbox =
        Sandbox::isolated(&policy, &[], Some(Path::new(env!("CARGO_BIN_EXE_skep")))).expect("the sandbox starts");
    let root = tempfile::tempdir().expect("a folder");
    let (dir, cache, scratch) = (root.path().join("work"), root.path().join("cache"), root.path().join("scratch"));
    std::fs::create_dir(&dir).expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let job = Job {
        command: ":",
        purpose: Purpose::Check,
        origin: None,
        dir: &dir,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        timeout: Duration::from_secs(30),
        max_output: 1024,
        proxy: None,
    };
    bencher.bench_local(|| {
        let ended = runtime.block_on(sandbox.run(&job, None)).expect("it starts");
        assert!(ended.ok(), "{ended:?}");
    });
}
