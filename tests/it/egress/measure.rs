//! Overhead of the proxy per call: `cargo test --release --test it egress::measure -- --ignored --nocapture`.

use crate::support::provider::{Scripted, base, client, meter, open, provider, proxy};
use serde_json::json;
use skep::domain::Usage;
use skep::providers::settings::Api;
use std::time::{Duration, Instant};

const CALLS: u32 = 500;

async fn median(client: &reqwest::Client, url: &str, body: &str) -> Duration {
    let mut took = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        let request = client.post(url).header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
        took.push(began.elapsed());
        assert!(!answer.is_empty());
    }
    took.sort();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measurement; run it by hand in a release build"]
async fn a_call_with_and_without_the_proxy() {
    let answer = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;
    let server = Scripted::always(200, "application/json", answer).await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &meter);
    let client = client();
    for kib in [1, 100, 1000] {
        let body = json!({ "model": "m", "max_tokens": 10, "x": "y".repeat(kib * 1024) }).to_string();
        let bare = median(&client, &format!("http://{}/v1/chat/completions", server.at), &body).await;
        let proxied = median(&client, &format!("{}/chat/completions", base(&opened)), &body).await;
        println!(
            "{kib} KiB sent: direct {bare:?}, through the proxy {proxied:?}, overhead {:?}",
            proxied.saturating_sub(bare)
        );
    }
}
