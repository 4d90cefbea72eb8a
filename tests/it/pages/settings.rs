//! The pages of the settings: what `skep doctor` and `skep config check` show, for administrators only.

use super::{is_clean, logged_in};
use crate::support::browser::Browser;
use crate::support::rest::{Service, service};
use serde_json::json;
use skep::app::Program;
use skep::config::Sources;
use skep::domain::{AccessRole, PersonName, Principal};
use skep::ports::accounts::Person;
use skep::service::host::HostContext;
use skep::service::installation::Installation;
use skep::service::{Caller, Right, Via, installation, sessions};
use std::path::Path;
use std::sync::Arc;

const TOKEN: &str = "T0123/B0123/a-token-of-the-channel";

async fn service_of(data: &Path) -> Service {
    let mut s = service().await;
    let sources = Sources { data_dir: data.to_owned(), ..Sources::default() };
    let context = HostContext { sources, verbosity: 0, json_logs: false, is_demo: false, server: None };
    s.state.services.installation = Some(Arc::new(Installation::new(Arc::new(Program::default()), context)));
    s.router = skep::http::router(s.state.clone());
    s
}

fn configured(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("skep.toml");
    std::fs::write(&file, text).expect("a file");
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_show_values_with_their_sources_and_no_secret() {
    let dir = configured(&format!(
        "[runs]\nmax_live_runs = 7\n[notify.team]\nkind = \"webhook\"\n\
         url = \"https://hooks.example.org/services/{TOKEN}\"\n[git]\nauthor_name = {}\n\
         [forges.hub]\nkind = \"forgejo\"\nurl = \"https://code.example.org\"\ntoken_env = \"HOME\"\n",
        json!("Zoë \" onclick='x' {{x}} &amp;")
    ));
    let s = service_of(dir.path()).await;
    let mut browser = logged_in(&s).await;
    let config = browser.open("/settings/config").await.is(200);
    is_clean(&config);
    assert!(!config.contains(TOKEN) && config.contains("notify.team.url"), "{config}");
    let row = config.split("<tr").find(|row| row.contains("runs.max_live_runs")).expect("the key");
    assert!(row.contains(">7<") && row.contains("skep.toml"), "the value and its file: {row}");
    let set = browser.open("/settings/config?changed=1").await.is(200);
    assert!(set.contains("runs.max_live_runs") && !set.contains("telemetry.log_format"), "{set}");
    let one = browser.open("/settings/config?q=author_n").await.is(200);
    assert_eq!(one.matches("<tr data-row").count(), 1, "{one}");
    let none = browser.open("/settings/config?q=%3Cscript%3E").await.is(200);
    is_clean(&none);
    assert!(none.contains("No key fits."), "{none}");

    let engines = browser.open("/settings/engines").await.is(200);
    for part in ["Roles", "Agents", "claude-agent-acp", "Providers", "anthropic"] {
        assert!(engines.contains(part), "{part}: {engines}");
    }
    let forges = browser.open("/settings/forges").await.is(200);
    assert!(forges.contains("https://code.example.org"), "{forges}");
    assert_eq!(browser.open("/settings/secrets").await.status, 404);
    let inbox = browser.open("/").await.is(200);
    assert!(inbox.contains("href=\"/settings\""), "{inbox}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_shows_what_doctor_finds() {
    let dir = configured("[budget]\nday_cost = \"5.00 USD\"\n");
    let s = service_of(dir.path()).await;
    let mut browser = logged_in(&s).await;
    let health = browser.open("/settings").await.is(200);
    is_clean(&health);
    for subject in ["configuration", "data directory", "git", "sandbox", "budget"] {
        assert!(health.contains(&format!("<bdi>{subject}</bdi>")), "{subject}: {health}");
    }
    assert!(health.contains(env!("CARGO_PKG_VERSION")), "{health}");
    // It is inspected at most once a minute: the second page shows the same, though the file is broken by now.
    std::fs::write(dir.path().join("skep.toml"), "[budgt]\n").expect("a file");
    assert!(browser.open("/settings").await.is(200).contains("<bdi>budget</bdi>"));
    let broken = browser.open("/settings/config").await;
    assert_eq!(broken.status, 503, "{broken:?}");
    assert!(broken.text.contains("unknown key") && broken.text.contains("</nav>"), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_see_the_settings() {
    let dir = configured("");
    let s = service_of(dir.path()).await;
    for (name, role, status) in [("ann", AccessRole::Approver, 403), ("bob", AccessRole::Admin, 200)] {
        let name = PersonName::new(name).expect("a name");
        let person = Person {
            name: name.clone(),
            role,
            project_roles: Default::default(),
            created_at: s.state.services.clock.now(),
            disabled_at: None,
        };
        s.state.services.accounts.add_person(&person).await.expect("stored");
        let operator = Caller::with_all_rights(Principal::from("local:tester"), Via::Rest);
        let link = sessions::new_link(&s.state.services, &operator, Some(name.as_str())).await.expect("a link");
        let path = skep::http::rest::wire::LoginLink::new(link).path;
        let mut browser = Browser::new(&s);
        browser.open(&path).await.is(200);
        browser.submit(&path, &[]).await.is(303);
        for part in ["", "/config", "/engines", "/forges"] {
            assert_eq!(browser.open(&format!("/settings{part}")).await.status, status, "{name} {part}");
        }
        let inbox = browser.open("/").await.is(200);
        assert_eq!(inbox.contains("href=\"/settings\""), status == 200, "{inbox}");
    }
    let reader = Caller::new(Principal::from("user:ann"), [Right::Read].into(), Via::Page);
    let refused = installation::configuration(&s.state.services, &reader).await.expect_err("refused");
    assert_eq!(refused.code, "missing_right");
}
