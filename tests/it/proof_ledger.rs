//! A change lands with every kind of engine, and the ledger equals the server's count to the token and micro-USD.

use crate::support::baseline::{Baseline, ROLES, RUN, driven, priced, usual};
use crate::support::models::{KEY, Models, Served};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// Runs the standard story and compares the complete ledger with the server's count.
async fn story(api: Api, roles: &str, turns: usize) {
    let baseline = Baseline::new(Models::responding(usual).await, api, roles);
    baseline.run(RUN).exits_with(0);
    assert_eq!(baseline.landed(), "b");
    let served = baseline.models.served();
    assert_eq!(served.len(), turns, "{served:?}");
    assert!(served.iter().all(|s| s.cached > 0) && served[0] != served[1], "each answer has a different usage");

    let run = baseline.show();
    let (tokens, micros) = priced(&served);
    let is = |found: &Value| {
        let of = |key: &str| found[key].as_u64();
        (of("tokens"), of("cost_micros"), of("turns"))
    };
    let all = (Some(tokens), Some(micros), Some(turns as u64));
    assert_eq!(is(&run["budget"]["spent"]), all);
    assert_eq!(is(&run["budget"]["reserved"]), (Some(0), Some(0), Some(0)));

    let _service = baseline.serve();
    let day = chrono::Utc::now().format("%Y-%m-%d").to_string();
    let whole = [("run", run["id"].as_str().unwrap().to_owned()), ("project", "tool".to_owned()), ("day", day)];
    for (by, key) in whole {
        let rows = baseline.get(&format!("/api/v1/spending?by={by}")).await;
        assert_eq!((rows.as_array().unwrap().len(), &rows[0]["key"]), (1, &json!(key)), "{rows}");
        assert_eq!(is(&rows[0]), all, "by {by}");
    }
    for (role, model) in [("manager", "strong"), ("dev", "cheap"), ("reviewer", "judge")] {
        let mine: Vec<&Served> = served.iter().filter(|s| s.model == model).collect();
        let (tokens, micros) = priced(mine.iter().copied());
        for (by, key) in [("role", role.to_owned()), ("model", format!("acme/{model}"))] {
            let rows = baseline.get(&format!("/api/v1/spending?by={by}")).await;
            let row = rows.as_array().unwrap().iter().find(|r| r["key"] == key.as_str());
            let row = row.unwrap_or_else(|| panic!("no {key} in {rows}"));
            assert_eq!(is(row), (Some(tokens), Some(micros), Some(mine.len() as u64)), "{key}");
        }
    }
    // Only the provider received the key.
    assert!(baseline.models.seen().iter().all(|r| format!("{:?}", r.headers).contains(KEY)));
    let store = std::fs::read(baseline.cli.path("data/skep.db")).unwrap();
    assert!(!store.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_over_anthropic_messages() {
    story(Api::Anthropic, ROLES, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_over_chat_completions() {
    story(Api::OpenAi, ROLES, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_over_acp() {
    story(Api::OpenAi, &driven("acp"), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headless_agent() {
    story(Api::OpenAi, &driven("cli"), 6).await;
}
