//! Configuration: the reference is correct and complete, and invalid input is refused with its key and a fix.

use proptest::prelude::*;
use skep::config::{self, Config, Database, Problems, REFERENCE, Sources};
use skep::domain::{ProjectName, Role};
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn sources(dir: &Path, file: &str, env: &[(&str, &str)]) -> Sources {
    std::fs::write(dir.join("skep.toml"), file).unwrap();
    let profile = env.iter().find(|(k, _)| *k == "SKEP_PROFILE").map(|(_, v)| (*v).to_owned());
    let env = env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
    Sources { data_dir: dir.to_owned(), file: None, profile, env }
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<config::Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    config::load(&sources(dir.path(), file, env))
}

#[test]
fn the_reference_equals_the_defaults() {
    let empty = tempfile::tempdir().unwrap();
    let of_nothing = Sources { data_dir: empty.path().to_owned(), ..Sources::default() };
    let loaded = config::load(&of_nothing).unwrap().config;
    // Named tables exist only in the reference.
    let mut named = Config { providers: loaded.providers.clone(), agents: loaded.agents.clone(), ..Config::default() };
    // Where grants can be added is known only once a data directory is.
    named.granted.file.clone_from(&loaded.granted.file);
    named.private_files.clone_from(&loaded.private_files);
    assert_eq!(loaded, named);
    // The reference is a valid configuration file and changes nothing.
    let mut of_reference = load(REFERENCE, &[]).unwrap().config;
    of_reference.granted.file.clone_from(&loaded.granted.file);
    of_reference.private_files.clone_from(&loaded.private_files);
    assert_eq!(of_reference, loaded);
}

#[test]
fn every_key_of_the_reference_has_a_comment_and_is_explained() {
    let mut table = String::new();
    let mut keys = Vec::new();
    let mut before = "";
    let mut explained_keys = std::collections::BTreeSet::new();
    let mut within_a_text = false;
    for line in REFERENCE.lines() {
        let was_within = within_a_text;
        within_a_text ^= line.matches("\"\"\"").count() % 2 == 1;
        if was_within {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.starts_with(['#', ' '])
        {
            // The first named table of a kind explains the keys of all.
            let (kind, rest) = table.split_once('.').unwrap_or((&table, ""));
            let inner = rest.split_once('.').map_or("", |(_, inner)| inner);
            let named = matches!(kind, "providers" | "agents");
            let explained_above = named && (!explained_keys.insert(format!("{kind}.{key}")) || !inner.is_empty());
            let commented = before.starts_with("# ") && before.len() > 8;
            assert!(commented || explained_above, "{table}.{key} has no comment");
            keys.push(format!("{table}.{key}"));
        }
        before = line;
    }
    let loaded = load("", &[]).unwrap();
    let mut explained: Vec<String> = loaded.explain().iter().map(|e| e.key.clone()).collect();
    explained.sort();
    keys.sort();
    assert_eq!(explained, keys);
    assert!(keys.len() > 60, "{}", keys.len());
    assert!(loaded.explain().iter().all(|e| e.source == "default"));
}

#[test]
fn later_layers_override_and_every_value_has_its_source() {
    let file = "[runs]\nmax_live_runs = 3\nlease_ttl = \"1m\"\n[limits]\ncost = \"5.00 USD\"\n\
                [profile.night.runs]\nmax_live_runs = 20\n[role.dev]\nengine = \"command: ./fix it\"";
    let env = [
        ("SKEP_PROFILE", "night"),
        ("SKEP_RUNS__LEASE_TTL", "45s"),
        ("SKEP_POLICY__EXPLORE", "true"),
        ("SKEP_POLICY__ALLOWED_PATHS", "src/**, docs/**"),
        ("SKEP_LIMITS__TOKENS", "200000"),
        ("SKEP_TEST_DATABASE_URL", "left alone"),
        ("SKEP_PORT_7377_TCP", "left alone"),
    ];
    let loaded = load(file, &env).unwrap();
    let c = &loaded.config;
    assert_eq!((c.runs.max_live_runs, c.runs.lease_ttl.as_secs()), (20, 45));
    assert_eq!((c.policy.limits.cost_micros, c.policy.limits.tokens), (Some(5_000_000), Some(200_000)));
    assert_eq!((c.policy.explore, c.policy.allowed_paths.len()), (true, 2));
    assert_eq!(c.engines.roles[&Role::Dev].arg, "./fix it");
    let source = |key| loaded.explain().iter().find(|e| e.key == key).unwrap().source.clone();
    assert!(source("runs.max_live_runs").starts_with("profile night of file /"), "{}", source("runs.max_live_runs"));
    assert_eq!(source("runs.lease_ttl"), "environment variable SKEP_RUNS__LEASE_TTL");
    assert!(source("limits.cost").starts_with("file /"));
    assert_eq!(source("limits.rounds"), "default");
}

/// An invalid file or variables, the key that the error must name, and a part of the fix that it must give.
type Bad = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const SSH_LEAPS: &str = "[runners.box]\nkind = \"ssh\"\nhost = \"-oProxyCommand=x\"\nuser = \"a\"\nidentity_file = \"/k\"\nknown_hosts = \"/h\"";
const SSH_HOME: &str = "[runners.box]\nkind = \"ssh\"\nhost = \"h\"\nuser = \"a\"\nidentity_file = \"/k\"\nknown_hosts = \"~/.ssh/known_hosts\"";
const SSH_UP: &str = "[runners.box]\nkind = \"ssh\"\nhost = \"h\"\nuser = \"a\"\nidentity_file = \"/k\"\nknown_hosts = \"/h\"\ndir = \"../x\"";

const BAD: &[Bad] = &[
    ("[runs]\nmax_live_run = 3", &[], "runs.max_live_run", "did you mean runs.max_live_runs?"),
    ("[runners.box]\nhost = \"h\"", &[], "runners.box.kind", "write kind = "),
    ("[runners.box]\nkind = \"telnet\"", &[], "runners.box.kind", "\"docker\""),
    ("[runners.local]\nkind = \"docker\"\nimage = \"a\"", &[], "runners.local.kind", "another name"),
    ("[runners.box]\nkind = \"docker\"", &[], "runners.box.image", "NAME@sha256"),
    ("[runners.box]\nkind = \"docker\"\nimage = \"--privileged\"", &[], "runners.box.image", "NAME@sha256"),
    ("[runners.box]\nkind = \"docker\"\nimage = \"a\"\nnetwork = \"host\"", &[], "runners.box.network", "\"none\""),
    ("[runners.box]\nkind = \"docker\"\nimage = \"a\"\nhost = \"x\"", &[], "runners.box.host", ""),
    (
        "[runners.box]\nkind = \"docker\"\nimage = \"a\"\ndocker_host = \"tcp://10.0.0.1:2375\"",
        &[],
        "runners.box.docker_host",
        "kind = \"ssh\"",
    ),
    ("[runners.box]\nkind = \"docker\"\nimage = \"a\"\nuser = \"root\"", &[], "runners.box.user", "65534:65534"),
    (SSH_LEAPS, &[], "runners.box.host", "ci.example.org"),
    (SSH_HOME, &[], "runners.box.known_hosts", "starting with /"),
    (SSH_UP, &[], "runners.box.dir", ".skep"),
    ("[checks]\nrunner = \"box\"", &[], "checks.runner", "[runners.NAME]"),
    ("[forges.f]\nkind = \"git\"", &[], "forges.f.kind", "\"github\""),
    ("[forges.f]\nkind = \"github\"", &[], "forges.f.token_env", "token_gh"),
    ("[forges.f]\nkind = \"forgejo\"\ntoken_env = \"T\"", &[], "forges.f.url", "https://code.example.org"),
    ("[forges.f]\nkind = \"gitea\"\nurl = \"https://f.example.org\"", &[], "forges.f.token_env", "token_file"),
    ("[forges.f]\nkind = \"gitea\"\ntoken_env = \"T\"\nurl = \"http://f.example.org\"", &[], "forges.f.url", "https"),
    (
        "[forges.f]\nkind = \"gitea\"\ntoken_env = \"T\"\nurl = \"https://f.example.org\"\nlabel = \"a,b\"",
        &[],
        "forges.f.label",
        "without a comma",
    ),
    (
        "[forges.f]\nkind = \"forgejo\"\ntoken_env = \"T\"\nurl = \"https://f.example.org\"\nmerge_method = \"ff\"",
        &[],
        "forges.f.merge_method",
        "fast-forward-only",
    ),
    ("[forges.f]\nkind = \"gitlab\"", &[], "forges.f.token_env", "token_glab"),
    ("[forges.f]\nkind = \"gitlab\"\ntoken_glab = true\ntoken_file = \"/t\"", &[], "forges.f.token_glab", "keep one"),
    ("[forges.f]\nkind = \"gitlab\"\ntoken_env = \"T\"\nurl = \"http://f.example.org\"", &[], "forges.f.url", "https"),
    (
        "[forges.f]\nkind = \"gitlab\"\ntoken_env = \"T\"\nmerge_method = \"rebase\"",
        &[],
        "forges.f.merge_method",
        "squash",
    ),
    ("[forges.local]\nkind = \"github\"\ntoken_gh = true", &[], "forges.local.kind", "another name"),
    ("[forges.f]\nkind = \"github\"\ntoken_gh = true\ntoken_env = \"T\"", &[], "forges.f.token_gh", "keep one"),
    ("[forges.f]\nkind = \"github\"\ntoken_gh = true\napp_id = 1", &[], "forges.f.token_gh", "GitHub App"),
    ("[forges.f]\nkind = \"github\"\napp_id = 1", &[], "forges.f.private_key_file", "private key"),
    ("[forges.f]\nkind = \"github\"\nprivate_key_env = \"K\"", &[], "forges.f.app_id", "a number"),
    ("[forges.f]\nkind = \"github\"\ntoken_gh = true\nurl = \"http://f.example.org\"", &[], "forges.f.url", "https"),
    ("[forges.f]\nkind = \"github\"\ntoken_gh = true\nmerge_method = \"ff\"", &[], "forges.f.merge_method", "squash"),
    ("[telemetry]\nmetrics_listen = \"0.0.0.0:9464\"", &[], "telemetry.metrics_listen", "with a token"),
    ("[telemetry]\nmetrics_listen = \"9464\"", &[], "telemetry.metrics_listen", "127.0.0.1:9464"),
    ("[server]\npublic_url = \"skep.example.org\"", &[], "server.public_url", "https://skep.example.org"),
    ("[auth]\nproxy_header = \"Remote-User\"", &[], "auth.proxy_header", "server.trusted_proxy"),
    ("[auth]\nproxy_header = \"Remote User\"", &[], "auth.proxy_header", "\"Remote-User\""),
    ("[auth]\nproxy_header = \"Cookie\"", &[], "auth.proxy_header", "\"Remote-User\""),
    ("[auth.oidc]\nissuer = \"id.example\"", &[], "auth.oidc.issuer", "as the provider does"),
    ("[auth.oidc]\nissuer = \"http://id.example\"", &[], "auth.oidc.issuer", "https"),
    (
        "[auth.oidc]\nissuer = \"https://id.example\"\n[auth.oidc.groups]\nadmin = [\"ops\"]",
        &[],
        "auth.oidc.client_id",
        "knows this service",
    ),
    (
        "[auth.oidc]\nissuer = \"https://id.example\"\nclient_id = \"s\"",
        &[],
        "auth.oidc.default_role",
        "[auth.oidc.groups]",
    ),
    ("[auth.oidc]\ndefault_role = \"root\"", &[], "auth.oidc.default_role", "\"viewer\""),
    (
        "[auth.oidc]\nissuer = \"https://id.example\"\nclient_id = \"s\"\ndefault_role = \"viewer\"",
        &[],
        "auth.oidc.default_role",
        "auth.oidc.domains",
    ),
    (
        "[server]\nlisten = \"10.0.0.1:80\"\ntrusted_proxy = \"10.0.0.2\"\n[auth.oidc]\nissuer = \"https://id.example\"\n\
         client_id = \"s\"\n[auth.oidc.groups]\nadmin = [\"ops\"]",
        &[],
        "server.public_url",
        "browsers reach the pages",
    ),
    (
        "[auth.oidc]\nscopes = [\"email\"]\nissuer = \"https://id.example\"\nclient_id = \"s\"\n[auth.oidc.groups]\nadmin = [\"ops\"]",
        &[],
        "auth.oidc.scopes",
        "\"openid\"",
    ),
    ("[auth.oidc]\ndomains = [\"@example.org\"]", &[], "auth.oidc.domains", "without @"),
    ("[auth.oidc.groups]\nowner = [\"ops\"]", &[], "auth.oidc.groups.owner", ""),
    ("[auth.oidc.groups]\nadmin = [\"\"]", &[], "auth.oidc.groups.admin", "names of groups"),
    ("[auth.oidc]\nclient_secret_env = \"NOT_SET_HERE\"", &[], "auth.oidc.client_secret_env", "set that variable"),
    ("[notify.t]\nkind = \"sms\"\nurl = \"https://h/x\"", &[], "notify.t.kind", "\"webhook\""),
    ("[notify.t]\nurl = \"https://h/x\"", &[], "notify.t.kind", "\"webhook\""),
    ("[notify.t]\nkind = \"email\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]", &[], "notify.t.smtp", "smtps://"),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"mail.example\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]",
        &[],
        "notify.t.smtp",
        "smtps://HOST",
    ),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"smtps://me@mail.example\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]",
        &[],
        "notify.t.smtp",
        "`user`",
    ),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"smtps://m.example:port\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]",
        &[],
        "notify.t.smtp",
        "HOST:PORT",
    ),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"smtps://m.example\"\nfrom = \"a@b.example\"\nto = [\"nobody\"]",
        &[],
        "notify.t.to",
        "ann@example.org",
    ),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"smtps://m.example\"\nfrom = \"a@b.example\"",
        &[],
        "notify.t.to",
        "[\"ann@example.org\"]",
    ),
    (
        "[notify.t]\nkind = \"email\"\nsmtp = \"smtps://m.example\"\nuser = \"u\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]",
        &[],
        "notify.t.user",
        "notify.t.password_file",
    ),
    ("[notify.t]\nkind = \"webhook\"\nurl = \"https://h/x\"\ndigest = \"24:00\"", &[], "notify.t.digest", "07:00"),
    ("[notify.t]\nkind = \"webhook\"", &[], "notify.t.url_file", "the file that holds its URL"),
    ("[notify.t]\nkind = \"webhook\"\nurl = \"http://h.example/x\"", &[], "notify.t.url", "https"),
    ("[notify.t]\nkind = \"webhook\"\nurl = \"h.example\"", &[], "notify.t.url", "address"),
    ("[notify.t]\nkind = \"webhook\"\nurl_env = \"NOT_SET_HERE\"", &[], "notify.t.url_env", "set that variable"),
    (
        "[notify.t]\nkind = \"webhook\"\nurl = \"https://h/x\"\ntemplate = \"irc\"",
        &[],
        "notify.t.template",
        "\"slack\"",
    ),
    ("[notify.t]\nkind = \"webhook\"\nurl = \"https://h/x\"\non = [\"done\"]", &[], "notify.t.on", "\"question\""),
    ("[notify.t]\nkind = \"webhook\"\nurl = \"https://h/x\"\nremind = [\"4\"]", &[], "notify.t.remind", "\"4h\""),
    ("[project.a.checks]\nrunners = [\"box\"]", &[], "project.a.checks.runners", "[runners.NAME]"),
    ("max_live_runs = 3", &[], "max_live_runs", "did you mean runs.max_live_runs?"),
    ("[run]\nmax_live_runs = 3", &[], "run", "did you mean [runs]?"),
    ("[runs]\nLease-TTL = \"30s\"", &[], "runs.Lease-TTL", "did you mean runs.lease_ttl?"),
    ("[zzzzqqqq]\nxxxxx = 3", &[], "zzzzqqqq", "config/default.toml lists every key"),
    ("[store]\npassword = \"hunter2\"", &[], "store.password", "*_file"),
    ("[runs]\nlease_ttl = 30", &[], "runs.lease_ttl", "write \"30s\""),
    ("[runs]\nlease_ttl = \"30\"", &[], "runs.lease_ttl", "write \"30s\""),
    ("[runs]\nlease_ttl = 1.5", &[], "runs.lease_ttl", "write \"1.5s\""),
    ("[runs]\nlease_ttl = \"30 parsecs\"", &[], "runs.lease_ttl", "a number and a unit"),
    ("[runs]\nlease_ttl = \"\"", &[], "runs.lease_ttl", "such as \"30s\""),
    ("[runs]\nlease_ttl = \"1ms\"", &[], "runs.lease_ttl", "from \"3s\" to \"1h\""),
    ("[runs]\nlease_ttl = \"-5s\"", &[], "runs.lease_ttl", "a number and a unit"),
    ("[runs]\nlease_ttl = \"900years\"", &[], "runs.lease_ttl", "a shorter duration"),
    ("[runs]\nlease_ttl = true", &[], "runs.lease_ttl", "such as \"30s\""),
    ("[runs]\nlease_ttl = 2026-01-01", &[], "runs.lease_ttl", "such as \"30s\""),
    ("[runs]\nlease_ttl = nan", &[], "runs.lease_ttl", "number and a unit"),
    ("[policy]\nmax_lost_attempts = 0", &[], "policy.max_lost_attempts", "from 1 to 100"),
    ("[policy]\nmax_questions = -1", &[], "policy.max_questions", "from 0 to 1000"),
    ("[runs]\nmax_live_runs = 0", &[], "runs.max_live_runs", "from 1 to 1000"),
    ("[runs]\nmax_live_runs = -1", &[], "runs.max_live_runs", "from 1 to 1000"),
    ("[runs]\nmax_live_runs = 99999999999", &[], "runs.max_live_runs", "from 1 to 1000"),
    ("[runs]\nmax_live_runs = 1.5", &[], "runs.max_live_runs", "a whole number"),
    ("[runs]\nmax_live_runs = \"10\"", &[], "runs.max_live_runs", "without quotes"),
    ("[runs]\nmax_live_runs = [10]", &[], "runs.max_live_runs", "a whole number"),
    ("[runs.max_live_runs]\nx = 1", &[], "runs.max_live_runs", "a whole number"),
    ("runs = 5", &[], "runs", "write [runs]"),
    ("[limits]\ncost = 5", &[], "limits.cost", "write \"5 USD\""),
    ("[limits]\ncost = \"5\"", &[], "limits.cost", "write \"5 USD\""),
    ("[limits]\ncost = \"5 EUR\"", &[], "limits.cost", "as USD"),
    ("[limits]\ncost = \"$5\"", &[], "limits.cost", "\"5.00 USD\""),
    ("[limits]\ncost = \"-5 USD\"", &[], "limits.cost", "\"5.00 USD\""),
    ("[limits]\ntokens = \"many\"", &[], "limits.tokens", "or \"unlimited\""),
    ("[limits]\ntokens = 0", &[], "limits.tokens", "from 1"),
    ("[limits]\nturns = 0", &[], "limits.turns", "\"unlimited\""),
    ("[steps.develop]\nturns = \"many\"", &[], "steps.develop.turns", "\"unlimited\""),
    ("[agents.claude]\nidle_timeout = 5", &[], "agents.claude.idle_timeout", "write \"5s\""),
    ("[limits]\ntimeout = \"1500ms\"", &[], "limits.timeout", "\"30s\""),
    ("[steps.develop]\ntries = 0", &[], "steps.develop.tries", "from 1 to 100"),
    ("[steps.develp]\ntries = 1", &[], "steps.develp", "did you mean [steps.develop]?"),
    ("[steps.plan]\ntimeout = 120", &[], "steps.plan.timeout", "write \"120s\""),
    ("[steps.ops]\ntimeout = 900", &[], "steps.ops.timeout", "write \"900s\""),
    ("[policy]\nexplore = \"yes\"", &[], "policy.explore", "true or false"),
    ("[policy]\nprotected_paths = \"a/**\"", &[], "policy.protected_paths", "a list of strings"),
    ("[policy]\nprotected_paths = [1]", &[], "policy.protected_paths", "a list of strings"),
    ("[policy]\nforbidden_paths = [\"a[\"]", &[], "policy.forbidden_paths", "\"docs/**\""),
    ("[server]\nlisten = \"localhost\"", &[], "server.listen", "\"127.0.0.1:7377\""),
    ("[server]\nlisten = 7377", &[], "server.listen", "in quotes"),
    ("[server]\nlisten = \"0.0.0.0:7377\"", &[], "server.listen", "server.trusted_proxy"),
    ("[server]\ntrusted_proxy = \"nginx\"", &[], "server.trusted_proxy", "\"10.0.0.5\""),
    ("[server]\ntoken_file = \"~/token\"", &[], "server.token_file", "starting with /"),
    ("[server]\nallowed_hosts = [\"http://a\"]", &[], "server.allowed_hosts", "\"skep.example.org\""),
    ("[store]\nurl = \"postgres://skep:hunter2@db/skep\"", &[], "store.url", "store.url_file"),
    ("[store]\nurl = \"postgres://db/skep?password=hunter2\"", &[], "store.url", "store.url_file"),
    ("[store]\nurl = \"mysql://db/skep\"", &[], "store.url", "\"postgres://user@host/name\""),
    ("[store]\nurl = \"sqlite::memory:\"", &[], "store.url", "name a file"),
    ("[store]\nurl = \"sqlite:skep.db\"", &[], "store.url", "the absolute path"),
    ("[store]\nurl_file = \"/nowhere/at/all\"", &[], "store.url_file", "this user can read"),
    ("[store]\nurl_file = \"/dev/null\"", &[], "store.url_file", "this user can read"),
    ("[store]\nurl_env = \"NOT_SET_HERE\"", &[], "store.url_env", "set that variable"),
    ("[store]\nurl_env = \"postgres://a\"", &[], "store.url_env", "the name only"),
    ("[store]\nurl_env = \"U\"", &[("U", "mysql://hunter2")], "store.url_env", "\"sqlite:/path\""),
    ("[store]\nurl_env = \"U\"\nurl = \"sqlite:/a\"", &[("U", "sqlite:/b")], "store.url_env", "keep one"),
    ("[role.dev]\nengine = \"comand: x\"", &[], "role.dev.engine", "did you mean \"command\"?"),
    ("[role.dev]\nengine = \"direct\"", &[], "role.dev.engine", "\"command: <command line>\""),
    ("[role.dev]\nengine = \"command\"", &[], "role.dev.engine", "\"command: <command line>\""),
    ("[engines]\npass_env = \"AGENT_KEY\"", &[], "engines.pass_env", "a list of strings"),
    ("[engines]\npass_env = [\"AGENT_KEY\", \"AGENT_KEY=hunter2\"]", &[], "engines.pass_env", "never their values"),
    ("[engines]\npass_env = [\"agent_key\"]", &[], "engines.pass_env", "never their values"),
    ("[engines]\npass_env = [\"2KEYS\"]", &[], "engines.pass_env", "never their values"),
    ("[engines]\npass_env = [\"\"]", &[], "engines.pass_env", "never their values"),
    ("[engines]\npass_env = [\"SKEP_JOB\"]", &[], "engines.pass_env", "never their values"),
    ("", &[("SKEP_ENGINES__PASS_ENV", "A_KEY, sk-hunter2")], "engines.pass_env", "never their values"),
    ("[role.reviewer]\nengine = \"direct: x\"", &[], "role.reviewer.engine", "write \"direct\""),
    (
        "[engines]\ndev = \"command: x\"\n[role.dev]\nengine = \"command: y\"",
        &[],
        "engines.dev",
        "it is now `role.dev.engine`",
    ),
    ("[limits]\nwall = \"4h\"\ntimeout = \"5h\"", &[], "limits.wall", "it is now `limits.timeout`"),
    ("[role.devs]\nengine = \"x\"", &[], "role.devs", "did you mean [role.dev]?"),
    ("[role.dev]\nmodel = \"m\"", &[], "role.dev.model", "name the engine"),
    ("[role.dev]\nengine = \"command: x\"\nmodel = \"m\"", &[], "role.dev.model", "llm, acp or cli"),
    ("[role.dev]\nengine = \"llm:ollama/a\"\nmodel = \"m\"", &[], "role.dev.model", "keep one"),
    ("[role.dev]\nengine = \"llm:ollama\"\nmodel = \"m n\"", &[], "role.dev.model", "without spaces"),
    ("[role.dev]\nengine = \"llm:ollama\"", &[], "role.dev.engine", "role.dev.model"),
    ("[role.dev]\nengine = \"llm:ollama/a\"\neffort = \"hihg\"", &[], "role.dev.effort", "\"medium\" or \"high\""),
    ("[role.dev]\nengine = \"llm:ollama/a#hihg\"", &[], "role.dev.engine", "leave the # out"),
    ("[role.dev]\nengine = \"llm:ollama/a#low\"\neffort = \"high\"", &[], "role.dev.effort", "keep one"),
    ("[role.dev]\nengine = \"command: x\"\neffort = \"high\"", &[], "role.dev.effort", "llm, acp or cli"),
    ("[role.dev]\neffort = \"high\"", &[], "role.dev.effort", "name the engine"),
    (
        "[agents.x]\ncommand = [\"x\"]\n[role.dev]\nengine = \"acp:x\"\neffort = \"high\"",
        &[],
        "role.dev.engine",
        "{effort}",
    ),
    ("[role.dev]\nengine = \"llm\"", &[], "role.dev.engine", "llm:PROVIDER/MODEL"),
    ("[role.dev]\nengine = \"llm:antropic/x\"", &[], "role.dev.engine", "[providers.antropic]"),
    ("[role.dev]\nengine = \"llm:anthropic/x\"", &[], "role.dev.engine", "providers.anthropic.key_env"),
    ("[role.dev]\nfallback = [\"llm:anthropic/x\"]", &[], "role.dev.fallback", "providers.anthropic.key_env"),
    ("[role.dev]\nfallback = [\"\"]", &[], "role.dev.fallback", "\"llm:openai/"),
    ("[role.dev]\nfallback = [\"direct\"]", &[], "role.dev.fallback", "command line"),
    ("[role.dev]\nengine = \"acp\"", &[], "role.dev.engine", "acp:AGENT"),
    ("[role.dev]\nengine = \"acp:nobody\"", &[], "role.dev.engine", "[agents.nobody]"),
    ("[role.dev]\nengine = \"cli:claude\"", &[], "role.dev.engine", "acp:claude"),
    ("[role.dev]\nengine = \"acp:claude\"", &[], "role.dev.engine", "providers.anthropic.key_env"),
    ("[providers.mine]\napi = \"openai\"", &[], "providers.mine.base_url", "8000/v1/"),
    ("[providers.mine]\nbase_url = \"host:80\"", &[], "providers.mine.base_url", "https://api.example.org/v1/"),
    ("[providers.mine]\nbase_url = \"http://u:hunter2@h/\"", &[], "providers.mine.base_url", "key_env"),
    ("[providers.mine]\nbase_url = \"http://h/?key=hunter2\"", &[], "providers.mine.base_url", "https://api"),
    ("[providers.openai]\nbase_ulr = \"http://h\"", &[], "providers.openai.base_ulr", "providers.openai.base_url?"),
    ("[providers.openai]\nkey = \"hunter2\"", &[], "providers.openai.key", "*_file"),
    ("[providers.openai]\napi_key = \"hunter2\"", &[], "providers.openai.api_key", "*_file"),
    ("[providers.openai]\napi = \"soap\"", &[], "providers.openai.api", "\"anthropic\""),
    ("[providers.openai]\nkey_env = \"sk-hunter2\"", &[], "providers.openai.key_env", "the name only"),
    ("[providers.openai]\nkey_file = \"/nowhere/at/all\"", &[], "providers.openai.key_file", "this user can read"),
    ("[providers.openai]\nkey_secret = \"a key!\"", &[], "providers.openai.key_secret", "never its value"),
    ("[providers.openai]\nconcurrency = 0", &[], "providers.openai.concurrency", "from 1 to 1000"),
    ("[providers.openai]\nrequests_per_minute = 0", &[], "providers.openai.requests_per_minute", "\"unlimited\""),
    ("[providers.openai]\nidle_timeout = 5", &[], "providers.openai.idle_timeout", "write \"5s\""),
    (
        "[providers.openai]\ncontext_window = 1000",
        &[],
        "providers.openai.max_output_tokens",
        "less than context_window",
    ),
    ("[providers.Mine]\nbase_url = \"http://h\"", &[], "providers.Mine", "a-z"),
    ("[providers.\"a.b\"]\nbase_url = \"http://h\"", &[], "providers.\"a.b\"", "a-z"),
    ("[providers]\nopenai = \"x\"", &[], "providers.openai", "write [providers.openai]"),
    ("providers = 1", &[], "providers", "write [providers]"),
    ("[provider.mine]\nbase_url = \"http://h\"", &[], "provider", "did you mean [providers"),
    (
        "",
        &[("SKEP_PROVIDERS__OPENAI__BASE_ULR", "http://h")],
        "providers.openai.base_ulr",
        "SKEP_PROVIDERS__OPENAI__BASE_URL",
    ),
    ("[agents.mine]\nprotocol = \"cli\"", &[], "agents.mine.command", "the program and its arguments"),
    ("[agents.mine]\ncommand = \"x y\"", &[], "agents.mine.command", "a list of strings"),
    ("[agents.mine]\ncommand = [\"x\"]\nprotocol = \"http\"", &[], "agents.mine.protocol", "\"acp\""),
    ("[agents.mine]\ncommand = [\"x\"]\nprovider = \"no\"", &[], "agents.mine.provider", "add its table"),
    ("[agents.mine]\ncommand = [\"x\"]\nenv = {\"A B\" = \"x\"}", &[], "agents.mine.env", "letters, digits"),
    ("[agents.mine]\ncommand = [\"x\"]\nenv = [\"A\"]", &[], "agents.mine.env", "[agents.mine.env]"),
    ("[agents.mine]\ncommand = [\"x\"]\nenv = {A = 1}", &[], "agents.mine.env", "[agents.mine.env]"),
    ("[agents.mine]\ncommand = [\"x\"]\nfiles = {\"../x\" = \"\"}", &[], "agents.mine.files", ".codex/config.toml"),
    ("[agents.mine]\ncommand = [\"x\"]\npass_env = [\"A=hunter2\"]", &[], "agents.mine.pass_env", "never their values"),
    (concat!("[agents.mine]\ncommand = [\"x\"]\nenv = {URL = \"{", "gate}/v1\"}"), &[], "agents.mine.env", "proxy_url"),
    (
        concat!("[agents.mine]\ncommand = [\"x\"]\nfiles = {\"a\" = \"{", "gate}\"}"),
        &[],
        "agents.mine.files",
        "proxy_url",
    ),
    (
        "[agents.claude]\nsilence = \"5s\"\nidle_timeout = \"5s\"",
        &[],
        "agents.claude.silence",
        "`agents.claude.idle_timeout`",
    ),
    ("[agents.codex_cli.output]\nsaid = \"x\"", &[], "agents.codex_cli.output.text", "JSONPath"),
    (
        "[agents.codex_cli.output]\ntext = \"type=x y\"",
        &[],
        "agents.codex_cli.output.text",
        "$[?@.type=='result'].result",
    ),
    ("[agents.codex_cli.output]\nerror = [\"$[0].a\", \"$[0\"]", &[], "agents.codex_cli.output.error", "JSONPath"),
    ("[agents.codex_cli.output]\nformat = \"text\"", &[], "agents.codex_cli.output.format", "remove the expressions"),
    ("[agents.codex_cli.output]\nformat = \"xml\"", &[], "agents.codex_cli.output.format", "\"json\""),
    ("", &[("SKEP_AGENTS__CLAUDE__ENV__A", "x")], "agents.claude.env", "in the file"),
    ("[budget]\nday_cost = 5", &[], "budget.day_cost", "write \"5 USD\""),
    ("[budget]\nday_tokens = 0", &[], "budget.day_tokens", "from 1"),
    ("[budget]\nalert_percent = [80, 50]", &[], "budget.alert_percent", "ascending"),
    ("[budget]\nalert_percent = [0]", &[], "budget.alert_percent", "ascending"),
    ("[budget]\nalert_percent = 50", &[], "budget.alert_percent", "[50, 80, 100]"),
    ("", &[("SKEP_BUDGET__ALERT_PERCENT", "50, many")], "budget.alert_percent", "[50, 80, 100]"),
    ("[prices]\nfile = \"/nowhere\"", &[], "prices.file", "this user can read"),
    ("[prompts]\ndir = \"/nowhere\"", &[], "prompts.dir", "this user can read"),
    ("[secrets]\nkey_file = \"/nowhere\"", &[], "secrets.key_file", "32 random bytes"),
    ("[secrets]\nkey_env = \"NOT_SET_HERE\"", &[], "secrets.key_env", "set that variable"),
    ("[sandbox]\nlevel = \"loose\"", &[], "sandbox.level", "\"landlock\""),
    ("[sandbox]\nlevel = \"none\"", &[], "sandbox.level", "accept_no_isolation"),
    ("[sandbox]\nuser = \"0:0\"", &[], "sandbox.user", "\"65534:65534\""),
    ("[sandbox]\nuser = \"nobody\"", &[], "sandbox.user", "\"65534:65534\""),
    ("[sandbox]\nmemory = \"4GB\"", &[], "sandbox.memory", "\"4GiB\""),
    ("[sandbox]\nfile_size = \"1KiB\"", &[], "sandbox.file_size", "1MiB"),
    ("[sandbox]\nfile_size = \"unlimited\"", &[], "sandbox.file_size", "\"4GiB\""),
    ("[sandbox]\nprocesses = 1", &[], "sandbox.processes", "from 16"),
    ("[sandbox]\ntoolchains = [\"opt\"]", &[], "sandbox.toolchains", "starting with /"),
    ("[sandbox]\ntoolchains = [\"/\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/root\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/root/.ssh\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/home/somebody\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/etc\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/etc/app\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/home/somebody/.config/gh\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/usr/../etc\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/dev/shm\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\ntoolchains = [\"/proc/self/fd/0\"]", &[], "sandbox.toolchains", "\"/opt/toolchains\""),
    ("[sandbox]\nmemory = \"1MiB\"", &[], "sandbox.memory", "\"64MiB\""),
    (
        "[providers.far]\nbase_url = \"http://models.example.org/v1\"\nkey_env = \"X\"",
        &[],
        "providers.far.base_url",
        "https",
    ),
    ("[providers.anthropic]\nbase_url = \"http://10.0.0.5/v1\"", &[], "providers.anthropic.base_url", "https"),
    ("[store]\nurl = \"postgres://skep@db.example.org/skep?sslmode=disable\"", &[], "store.url", "sslmode=require"),
    ("[store]\nurl = \"postgres://skep@/skep?sslmode=allow&host=10.0.0.5\"", &[], "store.url", "sslmode=require"),
    ("[engines]\npass_env = [\"LD_PRELOAD\"]", &[], "engines.pass_env", "never their values"),
    ("[engines]\npass_env = [\"GIT_SSH_COMMAND\"]", &[], "engines.pass_env", "never their values"),
    ("[egress]\nhosts = [\"169.254.169.254\"]", &[], "egress.hosts", "leave it out"),
    ("[egress]\nhosts = [\"100.100.100.200:80\"]", &[], "egress.hosts", "leave it out"),
    ("[egress]\nhosts = [\"localhost:7377\"]", &[], "egress.hosts", "leave it out"),
    ("[project.tally.egress]\nhosts = [\"127.0.0.1:7377\"]", &[], "project.tally.egress.hosts", "leave it out"),
    ("[egress]\nhosts = [\"https://pypi.org\"]", &[], "egress.hosts", "\"pypi.org\""),
    ("[egress]\nhosts = [\"https://u:p@a.example:8443/x\"]", &[], "egress.hosts", "only its host: \"a.example:8443\""),
    ("[egress]\nhosts = [\"*.*\"]", &[], "egress.hosts", "\"pypi.org\""),
    ("[project.tally]\nchecks = [\"make test\"]", &[], "project.tally.checks", "below [[check]]"),
    ("[egress]\nhosts = [\"*\"]", &[], "egress.hosts", "\"pypi.org\""),
    ("[egress]\nhosts = [\"pypi.org:0\"]", &[], "egress.hosts", "\"pypi.org\""),
    ("[project.tally.egress]\nhosts = [\"*\"]", &[], "project.tally.egress.hosts", "\"pypi.org\""),
    ("[project.tally.egress]\nhost = []", &[], "project.tally.egress.host", "project.tally.egress.hosts?"),
    ("[checks]\nsecrets = [\"DB-PASSWORD\"]", &[], "checks.secrets", "\"DB_PASSWORD\""),
    ("[checks]\nsecrets = [\"9A\"]", &[], "checks.secrets", "\"DB_PASSWORD\""),
    ("[checks]\nsecrets = [\"PATH\"]", &[], "checks.secrets", "names of variables"),
    ("[checks]\nsecrets = [\"LD_PRELOAD\"]", &[], "checks.secrets", "names of variables"),
    ("[checks]\nsecrets = [\"SKEP_STEP\"]", &[], "checks.secrets", "names of variables"),
    ("[checks]\nsecrets = [\"A\", \"A\"]", &[], "checks.secrets", "keep one"),
    ("[engines]\nsecrets = [\"CARGO_HOME\"]", &[], "engines.secrets", "names of variables"),
    ("[engines]\nsecrets = [\"https_proxy\"]", &[], "engines.secrets", "names of variables"),
    ("[engines]\nsecrets = [\"A\"]\npass_env = [\"A\"]", &[], "engines.secrets", "keep one"),
    ("[project.tally.checks]\nsecrets = [\"HOME\"]", &[], "project.tally.checks.secrets", "names of variables"),
    (
        "[project.tally.engines]\nsecrets = [\"node_options\"]",
        &[],
        "project.tally.engines.secrets",
        "names of variables",
    ),
    ("[project.tally.checks]\ntimeout = \"1s\"", &[], "project.tally.checks.timeout", ""),
    ("[project.Tally]\n", &[], "project.Tally", "the name of a project"),
    ("[git]\nauthor_name = \"a <b>\"", &[], "git.author_name", "\"Skep\""),
    ("[git]\nauthor_email = \"skep\"", &[], "git.author_email", "\"skep@example.org\""),
    ("[git]\nbranch_prefix = \"-x\"", &[], "git.branch_prefix", "such as \"skep\""),
    ("[git]\nbranch_prefix = \"a..b\"", &[], "git.branch_prefix", "such as \"skep\""),
    ("[telemetry]\notlp_endpoint = \"localhost:4318\"", &[], "telemetry.otlp_endpoint", "\"http://127.0.0.1:4318\""),
    ("[telemetry]\notlp_endpoint = \"http://u:p@h\"", &[], "telemetry.otlp_endpoint", "otlp_headers_file"),
    ("[telemetry]\notlp_endpoint = \"http://h/v1/traces\"", &[], "telemetry.otlp_endpoint", "leave it out"),
    ("[telemetry]\notlp_headers_env = \"H\"", &[("H", "hunter2")], "telemetry.otlp_headers_env", "\"name: value\""),
    ("[telemetry]\nlog_format = \"xml\"", &[], "telemetry.log_format", "\"json\""),
    ("[telemetry]\nlog_level = \"verbose\"", &[], "telemetry.log_level", "\"debug\""),
    ("[telemetry]\nlog_level = \"skep=loud\"", &[], "telemetry.log_level", "\"debug\""),
    ("profile = 1", &[], "profile", "write [profile]"),
    ("[profile]\nnight = 1", &[], "profile.night", "write [profile.night]"),
    ("[profile.night.runs]\nlease_ttl = 30", &[], "runs.lease_ttl", "write \"30s\""),
    ("[profile.day]", &[("SKEP_PROFILE", "night")], "profile.night", "use one of: day"),
    ("", &[("SKEP_PROFILE", "night")], "profile.night", "add the table"),
    ("", &[("SKEP_RUNS__LEASE_TTL", "30")], "runs.lease_ttl", "write \"30s\""),
    ("", &[("SKEP_RUNS__MAX_LIVE_RUNS", "ten")], "runs.max_live_runs", "a whole number"),
    ("", &[("SKEP_RUNS__MAX_LIVE_RUN", "10")], "runs.max_live_run", "did you mean SKEP_RUNS__MAX_LIVE_RUNS?"),
    ("", &[("SKEP_RUNS_LEASE_TTL", "30s")], "SKEP_RUNS_LEASE_TTL", "use SKEP_RUNS__LEASE_TTL"),
    ("", &[("SKEP_RUNS__", "30s")], "SKEP_RUNS__", "SKEP_<TABLE>__<KEY>"),
    ("", &[("SKEP_RUNS", "30s")], "SKEP_RUNS", "SKEP_<TABLE>__<KEY>"),
    ("[runs", &[], "skep.toml", "fix that line"),
    ("[runs]\nlease_ttl = hunter2", &[], "skep.toml", "fix that line"),
    ("[runs]\nlease_ttl = \"3s\"\nlease_ttl = \"4s\"", &[], "skep.toml", "each only once"),
];

#[test]
fn every_invalid_configuration_yields_one_clear_error() {
    let mut wrong = Vec::new();
    for (file, env, key, fix) in BAD {
        let problems = load(file, env).expect_err(file).0;
        let p = &problems[0];
        let is_at = p.at == *key || p.at.ends_with(&format!("/{key}"));
        if problems.len() != 1 || !is_at || !p.fix.contains(fix) {
            wrong.push(format!("{file:?} {env:?}: {problems:?}"));
        }
        assert!(!p.why.is_empty() && !p.source.is_empty(), "{p:?}");
        assert!(!p.to_string().contains("hunter2") && !p.to_string().contains('\n'), "{p}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_problem_names_what_exactly_is_wrong() {
    for (file, at, why) in [
        ("[policy]\nforbidden_paths = [\"../x\"]", "policy.forbidden_paths", "write it from the root"),
        ("[policy]\nallowed_paths = [\"!a/**\"]", "policy.allowed_paths", "cannot be negated"),
        ("[policy]\ntest_paths = [\"\"]", "policy.test_paths", "write ** for every file"),
        ("a = 1\n[runs", "line 2", "unclosed table"),
        ("[runs]\nlease_ttl = \"3s\"\nlease_ttl = \"4s\"", "line 3", "duplicate key"),
        ("[runs]\nmax_live_runs = 99999999999999999999", "line 2", "the number does not fit"),
        ("[runs]\nmax_live_runs = 9999999999", "runs.max_live_runs", "out of range"),
        ("[runs]\nlease_ttl = \"99999999999999999999h\"", "runs.lease_ttl", "longer than a year"),
        ("[limits]\ncost = \"99999999999999999999 USD\"", "limits.cost", "too large"),
    ] {
        let problem = load(file, &[]).expect_err(file).0.remove(0);
        let text = problem.to_string();
        assert!(text.contains(at) && problem.why.contains(why), "{file:?}: {text}");
    }
}

#[test]
fn a_key_of_an_earlier_version_works_and_is_reported_with_its_new_name() {
    let file = "places.box = { kind = \"docker\", image = \"local:1\" }\n[limits]\nwall = \"4h\"\n[steps.ops]\nwall = \"1m\"\n[engines]\ndev = \"command: x\"\n\
                [providers.mine]\nbase_url = \"http://127.0.0.1:1/v1\"\nwindow = 40000\nsilence = \"7s\"\n\
                [project.tally.checks]\nplace = \"box\"\n";
    let loaded = load(file, &[("SKEP_STEPS__PLAN__WALL", "3m")]).unwrap();
    let explained =
        |key: &str| loaded.explain().iter().find(|e| e.key == key).cloned().unwrap_or_else(|| panic!("{key}"));
    for (key, value, line) in [
        ("limits.timeout", "4h", "skep.toml"),
        ("steps.ops.timeout", "1m", "skep.toml"),
        ("role.dev.engine", "command: x", "skep.toml"),
        ("providers.mine.context_window", "40000", "skep.toml"),
        ("providers.mine.idle_timeout", "7s", "skep.toml"),
        ("project.tally.checks.runner", "box", "skep.toml"),
        ("runners.box.image", "local:1", "skep.toml"),
        ("steps.plan.timeout", "3m", "environment"),
    ] {
        let entry = explained(key);
        assert!(entry.value.contains(value) && entry.source.contains(line), "{key}: {entry:?}");
    }
    let reported = loaded.old_keys().join("\n");
    for (old, new) in
        [("limits.wall", "limits.timeout"), ("places", "runners"), ("steps.plan.wall", "steps.plan.timeout")]
    {
        assert!(reported.contains(old) && reported.contains(&format!("`{new}`")), "{old} is not in {reported}");
    }
    assert_eq!(loaded.old_keys().len(), 8, "{reported}");
    assert!(load("[limits]\ntimeout = \"4h\"", &[]).unwrap().old_keys().is_empty());
    // The value is checked under its new name, at its own line.
    let error = load("[limits]\n\nwall = \"soon\"", &[]).unwrap_err().to_string();
    assert!(error.contains("limits.timeout") && error.contains("skep.toml"), "{error}");
}

#[test]
fn selectors_and_patterns_of_an_earlier_version_work_and_are_reported_with_what_replaced_them() {
    let file = "[agents.mine]\nprotocol = \"cli\"\ncommand = [\"mine\"]\nprovider = \"\"\n[agents.mine.output]\n\
                answer = \"type=result,is_error=false /result\"\nsaid = \"type=note /text | /part/*/text\"\n\
                wait = \"busy | try later\"\nerror = \"$[0].error\"\n";
    let loaded = load(file, &[]).unwrap();
    for (key, value) in [
        ("answer", "$[?@['type']=='result' && (@['is_error']==false || @['is_error']=='false')]['result']"),
        ("text", "$[0]['part'][*]['text']"),
        ("retryable_errors", "try later"),
        ("error", "$[0].error"),
    ] {
        let key = format!("agents.mine.output.{key}");
        let entry = loaded.explain().iter().find(|e| e.key == key).cloned().unwrap_or_else(|| panic!("{key}"));
        assert!(entry.value.contains(value), "{key}: {entry:?}");
    }
    let reported = loaded.old_keys();
    assert!(reported.iter().any(|line| line.contains("output.answer") && line.contains("write [")), "{reported:?}");
    assert_eq!(reported.len(), 4, "said and wait by name, answer and text by syntax: {reported:?}");
    let error = load(&file.replace("/part/*/text", "part"), &[]).unwrap_err().to_string();
    assert!(error.contains("not valid JSONPath"), "{error}");
}

#[test]
fn named_tables_are_layered_like_all_others() {
    let file = "[role.dev]\nengine = \"llm:here\"\nmodel = \"qwen/qwen3:8b\"\neffort = \"high\"\nfallback = [\"llm:anthropic/x\", \"acp:claude\"]\n\
                [providers.here]\nbase_url = \"http://127.0.0.1:8080/v1\"\ncontext_window = 64000\n\
                [providers.anthropic]\nrequests_per_minute = 50\n\
                [agents.claude.env]\nEXTRA = \"{model}\"\n[agents.claude.files]\n\".a/b.c\" = \"x\"\n\
                [profile.night.providers.here]\nconcurrency = 2";
    let env = [
        ("SKEP_PROFILE", "night"),
        ("SKEP_PROVIDERS__ANTHROPIC__BASE_URL", "http://127.0.0.1:4010/v1"),
        ("ANTHROPIC_API_KEY", "sk-hunter2"),
    ];
    let loaded = load(file, &env).unwrap();
    let c = &loaded.config;
    let text = |spec: &skep::domain::EngineSpec| format!("{}:{}", spec.kind, spec.arg);
    assert_eq!(text(&c.engines.roles[&Role::Dev]), "llm:here/qwen/qwen3:8b#high");
    let fallbacks: Vec<String> = c.engines.fallbacks[&Role::Dev].iter().map(text).collect();
    assert_eq!(fallbacks, ["llm:anthropic/x#high", "acp:claude"]);
    let here = &c.providers["here"];
    assert_eq!((here.provider.base_url.as_str(), here.provider.concurrency), ("http://127.0.0.1:8080/v1/", 2));
    assert!(here.provider.key.is_none() && here.missing().is_none());
    let anthropic = &c.providers["anthropic"].provider;
    assert_eq!((anthropic.base_url.as_str(), anthropic.requests_per_minute), ("http://127.0.0.1:4010/v1/", Some(50)));
    assert_eq!(anthropic.key.as_ref().unwrap().expose(), "sk-hunter2");
    assert!(anthropic.key_source.contains("ANTHROPIC_API_KEY"), "{}", anthropic.key_source);
    let claude = &c.agents["claude"];
    assert_eq!((claude.env["EXTRA"].as_str(), claude.files[".a/b.c"].as_str()), ("{model}", "x"));
    assert!(claude.env.contains_key("ANTHROPIC_BASE_URL"), "the built-in variables are gone: {:?}", claude.env);
    let source =
        |key: &str| loaded.explain().iter().find(|e| e.key == key).unwrap_or_else(|| panic!("{key}")).source.clone();
    assert_eq!(source("providers.anthropic.base_url"), "environment variable SKEP_PROVIDERS__ANTHROPIC__BASE_URL");
    assert!(source("providers.here.concurrency").starts_with("profile night"));
    assert!(source("agents.claude.env.EXTRA").starts_with("file /"));
    assert_eq!(source("agents.claude.env.ANTHROPIC_BASE_URL"), "default");
    assert!(source("agents.claude.files.\".a/b.c\"").starts_with("file /"));
    assert!(!format!("{:?}{:?}", loaded.explain(), c).contains("hunter2"));
}

#[test]
fn a_configured_key_overrides_the_built_in_variable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let put = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let env = [("OPENAI_API_KEY", "sk-of-the-variable")];
    let text = format!("[providers.openai]\nkey_file = {file:?}");
    put("sk-of-the-file\n", 0o600);
    let key = |c: &Config| c.providers["openai"].provider.key.clone().map(|k| k.expose().to_owned());
    assert_eq!(key(&load(&text, &env).unwrap().config).as_deref(), Some("sk-of-the-file"));
    let vault = load("[providers.openai]\nkey_secret = \"openai\"", &env).unwrap().config;
    assert_eq!((key(&vault), vault.providers["openai"].missing()), (None, None));
    // A key that would break a header, and a file that others could replace.
    for (content, mode, fix) in
        [("sk-a\r\nx-evil: hunter2", 0o600, "only the key"), ("", 0o600, "only the key"), ("sk-a", 0o622, "chmod 600")]
    {
        put(content, mode);
        let error = load(&text, &env).unwrap_err();
        assert!(error.0.len() == 1 && error.0[0].fix.contains(fix), "{content:?}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
    // An invalid key in a variable counts as missing.
    let odd = load("[role.dev]\nengine = \"llm:openai/m\"", &[("OPENAI_API_KEY", "sk a")]).unwrap_err();
    assert_eq!(odd.0[0].at, "role.dev.engine");
}

#[test]
fn all_errors_are_reported_at_once() {
    let file = "[runs]\nlease_ttl = 30\nmax_live_runs = 0\nnope_nope = 1\n[limits]\ncost = 5";
    let error = load(file, &[("SKEP_CHECKS__TIMEOUT", "9")]).unwrap_err().to_string();
    assert!(error.starts_with("the configuration has 5 problems:"), "{error}");
    for key in ["runs.lease_ttl", "runs.max_live_runs", "runs.nope_nope", "limits.cost", "checks.timeout"] {
        assert!(error.contains(key), "{key} in {error}");
    }
    assert!(error.contains("(environment variable SKEP_CHECKS__TIMEOUT, text): a duration needs a unit"), "{error}");
}

#[test]
fn unreadable_files_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("latin"), [0x61, 0xff, 0xfe]).unwrap();
    std::fs::write(at("huge"), vec![b'#'; 2 << 20]).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    for (name, why) in [
        ("missing", "does not exist"),
        ("", "is a directory"),
        ("latin", "is not UTF-8"),
        ("huge", "larger than 1 MiB"),
        ("loop", "cannot be read"),
    ] {
        let sources = Sources { data_dir: dir.path().into(), file: Some(at(name)), ..Sources::default() };
        let error = config::load(&sources).unwrap_err();
        assert!(error.0.len() == 1 && error.0[0].why.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://skep:hunter2@db/skep\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("[store]\nurl_file = {:?}\n[role.dev]\nengine = \"command: x https://u:hunter2@h\"", file);
    let loaded = load(&text, &[]).unwrap();
    let Database::Url(url) = &loaded.config.store.database else { panic!("no URL") };
    assert_eq!(url.expose(), "postgres://skep:hunter2@db/skep");
    assert!(!format!("{:?}", loaded.explain()).contains("hunter2"));
    assert!(!format!("{:?}", loaded.config.store).contains("hunter2"));

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = load(&text, &[]).unwrap_err();
    assert!(error.0[0].fix.contains("chmod 600"), "{error}");
}

#[test]
fn the_default_database_is_in_the_data_directory() {
    let url = Database::InDataDir.url(Path::new("/a b/100%?/x"));
    assert_eq!(url.expose(), "sqlite:/a b/100%25%3F/x/skep.db");
}

#[test]
fn the_data_directory_is_created_private_and_unusable_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("a/b");
    config::prepare_data_dir(&new).unwrap();
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(&new).unwrap().count(), 0, "the probe file is left");
    config::prepare_data_dir(&new).unwrap();

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = |path: &Path| config::prepare_data_dir(path).unwrap_err().to_string();
    assert!(refused(&file).contains("is not a directory"));
    assert!(refused(&file.join("below")).contains("not a directory"));
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&new).contains("chmod 700"));
    assert!(refused(Path::new("/proc/skep")).contains("data directory"));
    assert!(config::network_file_system(dir.path()).is_none());

    let home = |xdg: Option<&str>, home: Option<&str>| {
        config::default_data_dir(xdg.map(OsString::from), home.map(OsString::from))
    };
    assert_eq!(home(Some("/x"), Some("/h")).unwrap(), Path::new("/x/skep"));
    assert_eq!(home(Some("relative"), Some("/h")).unwrap(), Path::new("/h/.local/share/skep"));
    assert!(home(None, None).unwrap_err().fix.contains("--data-dir"));
}

#[test]
fn loading_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources { data_dir: dir.path().join("not/there"), ..Sources::default() };
    config::load(&sources).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Cuts, duplicates and replaces pieces of the reference: almost valid files find more bugs than noise.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"30s\"".to_owned()),
        Just("-1".to_owned()),
        Just("1e308".to_owned()),
        Just("[".to_owned()),
        Just("{a = 1}".to_owned()),
        Just("\u{202e}\u{1b}[2J".to_owned()),
        Just("99999999999999999999s".to_owned()),
        "[a-z_.\\[\\]=\" \\n0-9]{0,12}",
        any::<String>(),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), piece), 1..4).prop_map(|edits| {
        let mut lines: Vec<String> = REFERENCE.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
        for (at, how, piece) in edits {
            let n = at.index(lines.len());
            match how.index(5) {
                0 => {
                    lines.remove(n);
                }
                1 => lines.insert(n, piece),
                2 => {
                    let key = lines[n].split(" = ").next().unwrap_or_default().to_owned();
                    lines[n] = format!("{key} = {piece}");
                }
                3 => lines[n] = lines[n].replacen('_', &piece, 1),
                _ => {
                    let cut = lines[n].char_indices().map(|(i, _)| i).nth(how.index(8)).unwrap_or(0);
                    lines[n].insert_str(cut, &piece);
                }
            }
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("SKEP_TEST_CONFIG_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000)
    ))]

    #[test]
    fn no_mutated_configuration_panics_or_hides_its_key(file in mutated(), name in "[A-Z_]{0,20}", value in any::<String>()) {
        let name = format!("SKEP_{name}");
        let dir = tempfile::tempdir().unwrap();
        if let Err(Problems(problems)) = config::load(&sources(dir.path(), &file, &[(&name, &value)])) {
            prop_assert!(!problems.is_empty());
            for p in problems {
                prop_assert!(!p.at.is_empty() && !p.why.is_empty() && !p.fix.is_empty(), "{:?}", p);
                prop_assert!(!p.to_string().contains(|c: char| c.is_control()), "{:?}", p);
            }
        }
    }
}

#[test]
fn a_project_table_overrides_the_grants_of_all_projects() {
    let text = "[egress]\nhosts = [\"a.example\"]\n[project.tally.egress]\nhosts = [\"b.example\"]\n[project.plain]\n";
    let granted = load(text, &[]).unwrap().config.granted;
    let hosts = |name: &str| granted.for_project(&ProjectName::new(name).unwrap()).hosts.join(" ");
    assert_eq!((hosts("tally"), hosts("plain")), ("b.example".to_owned(), "a.example".to_owned()));
    assert_eq!(hosts("other"), "a.example");
}

#[test]
fn every_name_that_skep_makes_can_be_configured() {
    for made in ["commander.js", "foo.bar", "123", "Ünï", &"x".repeat(80), "a--", "-"] {
        let name = ProjectName::from_text(made);
        let text = format!("[project.{}.egress]\nhosts = [\"b.example\"]\n", name.as_key());
        let granted = load(&text, &[]).unwrap().config.granted;
        assert_eq!(granted.for_project(&name).hosts, ["b.example"], "{made}");
    }
    // Without quotes, the name is taken for two tables: the fix shows the quotes.
    let problems = load("[project.commander.js.egress]\nhosts = []\n", &[]).unwrap_err();
    assert!(problems.to_string().contains("[project.\"commander.js\".…]"), "{problems}");
    let problems = load("[project.tally.chekcs]\nsecrets = []\n", &[]).unwrap_err();
    assert!(problems.to_string().contains("did you mean [project.tally.checks]?"), "{problems}");
}
