//! Cost of redaction per MB: whole texts and streams, with few and with many registered secrets, on plain logs and on
//! text full of secrets; and the scan of outgoing commits. Rounds are interleaved and the median counts, because the
//! machine is shared.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a benchmark that cannot run should fail loudly

use skep::secrets::{Live, OutgoingScan, Redactor, Secret, redact_bytes, redact_live, register};
use std::hint::black_box;
use std::time::Instant;

const MB: usize = 1_000_000;
const ROUNDS: usize = 9;

fn main() {
    let log: Vec<u8> = (0u128..)
        .flat_map(|n| {
            format!("2026-01-01T00:00:00Z info test module::name_{n} ... ok ({n} ms, sha {:032x})\n", mixed(n))
                .into_bytes()
        })
        .take(4 * MB)
        .collect();
    let patch: Vec<u8> = [&b"skep-commit 1\n+++ b/x\n@@ -0,0 +1,4000000 @@\n"[..]]
        .into_iter()
        .chain(log.split_inclusive(|b| *b == b'\n').flat_map(|line| [&b"+"[..], line]))
        .flatten()
        .copied()
        .collect();
    println!(
        "{:>7} {:>10} {:>10} {:>10} {:>10} {:>12}   ms per MB",
        "values", "live", "with forms", "stream", "scan", "all secrets"
    );
    let mut held: Vec<Live> = Vec::new();
    for count in [0usize, 1, 8, 64] {
        while held.len() < count {
            let n = held.len();
            held.push(register(&format!("S{n}"), &Secret::new(format!("value-{n}-{:032x}", mixed(n as u128)))));
        }
        let leaky: Vec<u8> =
            format!("say value-0-{:032x} again\n", mixed(0)).into_bytes().into_iter().cycle().take(4 * MB).collect();
        let (mut live, mut forms, mut stream, mut scan, mut all) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            live.push(per_mb(log.len(), || drop(black_box(redact_live(&log)))));
            forms.push(per_mb(log.len(), || drop(black_box(redact_bytes(&log)))));
            stream.push(per_mb(log.len(), || {
                let mut redactor = Redactor::default();
                log.chunks(16 * 1024).for_each(|chunk| drop(black_box(redactor.push(chunk))));
                drop(black_box(redactor.finish()));
            }));
            scan.push(per_mb(patch.len(), || {
                let mut scan = OutgoingScan::default();
                patch.chunks(16 * 1024).for_each(|chunk| scan.push(chunk));
                drop(black_box(scan.finish()));
            }));
            all.push(per_mb(leaky.len(), || drop(black_box(redact_live(&leaky)))));
        }
        let [live, forms, stream, scan, all] = [live, forms, stream, scan, all].map(median);
        println!("{count:>7} {live:>10.2} {forms:>10.2} {stream:>10.2} {scan:>10.2} {all:>12.2}");
    }
}

/// A pseudo-random number.
fn mixed(n: u128) -> u128 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn per_mb(bytes: usize, act: impl FnOnce()) -> f64 {
    let start = Instant::now();
    act();
    start.elapsed().as_secs_f64() * 1_000.0 / (bytes as f64 / MB as f64)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
