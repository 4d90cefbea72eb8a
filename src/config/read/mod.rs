//! All keys: their names, their valid values, and the constraints between them.

mod auth;
mod deploy;
mod engines;
mod forges;
mod improve;
mod memory;
mod notify;
mod open;
mod projects;
mod runners;
mod sandbox;
mod schedules;

pub use engines::{engine, is_engine_kind, key_in};
pub use projects::check_host;

use super::reader::Reader;
use super::sections::{Config, Database};
use super::units::Unreadable;
use crate::domain::batch::MAX_BATCH;
use crate::domain::policy::PathPattern;
use crate::domain::{BaseChecks, StepLimits};
use crate::secrets::{Key, Secret, read_private};
use crate::telemetry::settings::LogFormat;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Maximum size of a file that holds a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

type Parsed<T> = Result<T, Unreadable>;

fn wrong<T>(why: impl Into<String>, fix: impl Into<String>) -> Parsed<T> {
    Err(Unreadable { why: why.into(), fix: fix.into() })
}

/// Reads every key into `c`. `env` returns the value of an environment variable, for the `*_env` keys.
pub(super) fn read(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    server(r, c);
    auth::read(r, c, env);
    store(r, c, env);
    let runs = &mut c.runs;
    r.number("runs.max_live_runs", &mut runs.max_live_runs, 1..=1_000);
    r.number("runs.max_reserved_slots", &mut runs.max_reserved_slots, 0..=1_000);
    r.duration("runs.sweep_interval", &mut runs.sweep_interval, "1s", "1day");
    r.duration("runs.lease_ttl", &mut runs.lease_ttl, "3s", "1h");
    let retention = &mut c.retention;
    r.duration_or_never("retention.interval", &mut retention.interval, "1s", "365days");
    r.duration_or_never("retention.logs", &mut retention.logs, "1s", "3650days");
    r.duration("retention.caches", &mut retention.caches, "1s", "3650days");
    policy(r, c);
    engines::read(r, c, env);
    sandbox::read(r, c);
    runners::read(r, c);
    forges::read(r, c);
    improve::read(r, c);
    memory::read(r, c);
    open::read(r, c);
    notify::read(r, c, env);
    projects::read(r, c);
    projects::check(r, c);
    schedules::read(r, c);
    deploy::read(r, c);
    secrets(r, c, env);
    let line = |what: &'static str| {
        move |s: &str| match s.trim() {
            "" => wrong("the value is empty", format!("write {what}")),
            t if t.contains(|c: char| c.is_control() || c == '<' || c == '>') => {
                wrong("git does not allow <, > or control characters here", format!("write {what}"))
            }
            t => Ok(t.to_owned()),
        }
    };
    r.checked("git.author_name", &mut c.git.author_name, line("a name such as \"Skep\""));
    r.checked("git.author_email", &mut c.git.author_email, |s| {
        let email = line("an address such as \"skep@example.org\"")(s)?;
        match email.contains('@') && !email.contains(char::is_whitespace) {
            true => Ok(email),
            false => wrong("this is not an e-mail address", "write an address such as \"skep@example.org\""),
        }
    });
    r.checked("git.branch_prefix", &mut c.git.branch_prefix, branch_prefix);
    r.seconds("checks.timeout", &mut c.checks.timeout_secs, "1s", "1day");
    telemetry(r, c, env);
}

fn server(r: &mut Reader, c: &mut Config) {
    let s = &mut c.server;
    r.checked("server.listen", &mut s.listen, |t| {
        t.parse::<SocketAddr>().or_else(|_| {
            wrong("this is not an address with a port", "write one such as \"127.0.0.1:7377\" or \"[::1]:7377\"")
        })
    });
    r.list("server.allowed_hosts", &mut s.allowed_hosts, |h| {
        let good = !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
        if good { Ok(()) } else { wrong("one entry is not a host name", "write names such as \"skep.example.org\"") }
    });
    r.checked("server.trusted_proxy", &mut s.trusted_proxy, |t| match t {
        "" => Ok(None),
        t => t
            .parse::<IpAddr>()
            .map(Some)
            .or_else(|_| wrong("this is not an IP address", "write the proxy's address, such as \"10.0.0.5\"")),
    });
    r.checked("server.token_file", &mut s.token_file, path);
    r.secret_files.extend(s.token_file.clone());
    r.list("mcp.allow", &mut c.mcp.allow, |right| match right {
        "approve" | "budget" => Ok(()),
        _ => wrong("one entry is not a right that agents can be given", "write \"approve\", \"budget\" or both"),
    });
    r.number("server.max_streams", &mut s.max_streams, 1..=10_000);
    r.checked("server.public_url", &mut s.public_url, |text| match text.trim_end_matches('/') {
        "" => Ok(None),
        url if is_page_address(url) => Ok(Some(url.to_owned())),
        _ => wrong("this is not the address of pages", "write one such as \"https://skep.example.org\""),
    });
    if !s.listen.ip().is_loopback() && s.trusted_proxy.is_none() {
        r.refuse(
            "server.listen",
            "other machines can reach this address, and no TLS-terminating proxy is configured",
            "listen on 127.0.0.1, or name the TLS-terminating proxy in server.trusted_proxy",
        );
    }
}

fn is_page_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b))
    })
}

fn path(text: &str) -> Parsed<Option<PathBuf>> {
    match text {
        "" => Ok(None),
        t if t.starts_with('/') && !t.contains('\0') => Ok(Some(PathBuf::from(t))),
        _ => wrong("this is not an absolute path", "write the absolute path, starting with /"),
    }
}

fn variable_name(text: &str) -> Parsed<String> {
    let good =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !text.starts_with(|c: char| c.is_ascii_digit());
    match good {
        true => Ok(text.to_owned()),
        false => wrong("this is not the name of a variable", "write the name only, such as \"DATABASE_URL\""),
    }
}

/// Returns the content of a `*_file` or `*_env` secret, if either is set and readable.
fn secret(
    r: &mut Reader,
    file_key: &'static str,
    env_key: &'static str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    let (mut file, mut name) = (None, String::new());
    r.checked(file_key, &mut file, path);
    r.checked(env_key, &mut name, variable_name);
    if file.is_some() && !name.is_empty() {
        r.refuse(env_key, format!("{file_key} is set as well"), "keep one of them");
        return None;
    }
    if let Some(file) = file {
        r.secret_files.push(file.clone());
        let text = match read_private(&file, MAX_SECRET_BYTES) {
            Ok(text) => text.expose().to_owned(),
            Err(problem) => {
                r.refuse(file_key, format!("the file {}", problem.why), problem.fix);
                return None;
            }
        };
        return Some((file_key, text));
    }
    if !name.is_empty() {
        match env(&name) {
            Some(text) if !text.trim().is_empty() => return Some((env_key, text)),
            _ => r.refuse(env_key, "the variable is not set", "set that variable, or name another"),
        }
    }
    None
}

fn store(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    let mut url = String::new();
    r.checked("store.url", &mut url, |t| match has_password(t) {
        true => wrong(
            "the URL contains a password",
            "write the whole URL to a file that only this user can read, and name that file in store.url_file",
        ),
        false => database_url(t),
    });
    let from = secret(r, "store.url_file", "store.url_env", env);
    if !url.is_empty() {
        if let Some((key, _)) = &from {
            r.refuse(key, "store.url is set as well", "keep one of them");
        }
        c.store.database = Database::Url(Secret::new(url));
    } else if let Some((key, text)) = from {
        match database_url(text.trim()) {
            Ok(url) if !url.is_empty() => c.store.database = Database::Url(Secret::new(url)),
            Ok(_) => r.refuse(key, "the secret is empty", "write the database URL there"),
            Err(e) => r.refuse(key, format!("the secret is not a database URL: {}", e.why), e.fix),
        }
    }
}

fn secrets(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    let mut name = String::new();
    r.checked("secrets.key_file", &mut c.secrets.key_file, path);
    r.secret_files.extend(c.secrets.key_file.clone());
    r.checked("secrets.key_env", &mut name, variable_name);
    if c.secrets.key_file.as_deref().is_some_and(|file| !file.is_file()) {
        r.refuse(
            "secrets.key_file",
            "the file does not exist",
            "create it with 32 random bytes as 64 hex digits, chmod 600",
        );
    }
    if name.is_empty() {
        return;
    }
    if c.secrets.key_file.is_some() {
        return r.refuse("secrets.key_env", "secrets.key_file is set as well", "keep one of them");
    }
    match env(&name) {
        Some(text) if Key::parse(&text).is_some() => c.secrets.key_env = Some((name, Secret::new(text))),
        Some(_) => r.refuse(
            "secrets.key_env",
            "the variable does not hold a key",
            "write 64 hex digits or base64 of 32 bytes there",
        ),
        None => r.refuse("secrets.key_env", "the variable is not set", "set that variable, or name another"),
    }
}

fn database_url(text: &str) -> Parsed<String> {
    let rest = |scheme: &str| text.strip_prefix(scheme);
    match () {
        () if text.is_empty() => Ok(String::new()),
        () if text.contains(char::is_control) => wrong("the URL contains control characters", "write one line"),
        () if rest("sqlite:").is_some_and(|p| p.contains("memory")) => wrong(
            "an in-memory database stores nothing permanently",
            "name a file, such as \"sqlite:/var/lib/skep/skep.db\"",
        ),
        () if rest("sqlite:").is_some_and(|p| p.starts_with('/')) => Ok(text.to_owned()),
        () if rest("sqlite:").is_some() => {
            wrong("the path is not absolute", "write the absolute path, such as \"sqlite:/var/lib/skep/skep.db\"")
        }
        () if rest("postgres://").or(rest("postgresql://")).is_some_and(unencrypted) => wrong(
            "the connection to another machine is not encrypted (sslmode)",
            "write sslmode=require or, with the server's certificate, sslmode=verify-full",
        ),
        () if rest("postgres://").or(rest("postgresql://")).is_some_and(|r| !r.is_empty()) => Ok(text.to_owned()),
        () => {
            wrong("only SQLite and Postgres are supported", "write \"sqlite:/path\" or \"postgres://user@host/name\"")
        }
    }
}

/// Returns whether the rest of a Postgres URL turns off encryption on the way to another machine.
fn unencrypted(rest: &str) -> bool {
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parameters = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let authority = place.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_off = parameters.clone().any(|(name, value)| name == "sslmode" && ["disable", "allow"].contains(&value));
    // A socket's directory may be written as a parameter, or percent-encoded as the host.
    let is_socket = |host: &str| host.starts_with('/') || host.get(..3).is_some_and(|h| h.eq_ignore_ascii_case("%2f"));
    let other = parameters.find(|(name, _)| *name == "host").map_or(host, |(_, host)| host);
    is_off && !other.is_empty() && !is_socket(other) && !is_loopback(other)
}

/// Returns whether a host, optionally with a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None if host.parse::<IpAddr>().is_ok() => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Returns whether a URL sends what it carries unencrypted to another machine.
fn is_plain_to_others(url: &str) -> bool {
    url.strip_prefix("http://").is_some_and(|rest| !is_loopback(rest.split('/').next().unwrap_or_default()))
}

/// Returns whether a URL contains a password, as userinfo or as a parameter.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password may contain an unescaped slash, so the whole rest is searched for "user:…@", too.
    let userinfo = authority.rsplit_once('@').or_else(|| rest.rsplit_once('@')).map(|(user, _)| user);
    userinfo.is_some_and(|u| u.contains(':')) || rest.to_ascii_lowercase().contains("password=")
}

fn policy(r: &mut Reader, c: &mut Config) {
    let p = &mut c.policy;
    r.number("policy.parallel_tasks", &mut p.parallel_tasks, 1..=64);
    r.number("policy.max_tasks", &mut p.max_tasks, 1..=500);
    r.number("policy.max_lost_attempts", &mut p.max_lost_attempts, 1..=100);
    r.number("policy.max_questions", &mut p.max_questions, 0..=1_000);
    r.flag("policy.explore", &mut p.explore);
    r.checked("policy.base_checks", &mut p.base_checks, |text| {
        match BaseChecks::ALL.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let names: Vec<String> = BaseChecks::ALL.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                wrong("there is no such value", format!("write one of {}", names.join(", ")))
            }
        }
    });
    r.flag("policy.check_head_again", &mut p.check_head_again);
    r.flag("policy.approve_plan", &mut p.approve_plan);
    r.flag("policy.approve_merge", &mut p.approve_merge);
    r.flag("policy.self_approval", &mut p.self_approval);
    let glob = |pattern: &str| match PathPattern::problem(pattern) {
        None => Ok(()),
        Some(why) => wrong(
            format!("one entry is not a usable path pattern: {why}"),
            "write patterns such as \"docs/**\" or \"**/*.lock\"",
        ),
    };
    r.list("policy.protected_paths", &mut p.protected_paths, glob);
    r.list("policy.test_paths", &mut p.test_paths, glob);
    r.list("policy.forbidden_paths", &mut p.forbidden_paths, glob);
    r.list("policy.allowed_paths", &mut p.allowed_paths, glob);
    r.list("policy.required_statuses", &mut p.required_statuses, |s| match s.trim().is_empty() {
        true => wrong("one entry is empty", "write the names of the contexts, such as \"ci/test\""),
        false => Ok(()),
    });
    r.number("policy.max_ci_reruns", &mut p.max_ci_reruns, 0..=10);
    r.number("policy.landing_batch", &mut p.landing_batch, 1..=u64::from(MAX_BATCH));
    r.seconds("policy.watch_landed", &mut p.watch_landed_secs, "0s", "1day");
    r.flag("policy.bisect_landed", &mut p.bisect_landed);
    r.number("policy.max_deleted", &mut p.max_deleted, 0..=1_000_000);
    r.number("policy.max_files", &mut p.max_files, 1..=1_000_000);
    r.number("policy.max_lines", &mut p.max_lines, 1..=100_000_000);

    r.count("limits.tokens", &mut p.limits.tokens);
    r.money("limits.cost", &mut p.limits.cost_micros);
    r.turns("limits.turns", &mut p.limits.turns);
    r.seconds("limits.timeout", &mut p.limits.timeout_secs, "1s", "30days");
    r.number("limits.rounds", &mut p.limits.rounds, 0..=100);
    r.number("limits.attempts", &mut p.limits.attempts, 1..=10_000);

    type Keys = [&'static str; 5];
    let mut step = |[tries, timeout, tokens, cost, turns]: Keys, s: &mut StepLimits| {
        r.number(tries, &mut s.tries, 1..=100);
        r.seconds(timeout, &mut s.timeout_secs, "1s", "1day");
        r.count(tokens, &mut s.tokens);
        r.money(cost, &mut s.cost_micros);
        r.turns(turns, &mut s.turns);
    };
    macro_rules! step {
        ($name:ident) => {
            step(
                [
                    concat!("steps.", stringify!($name), ".tries"),
                    concat!("steps.", stringify!($name), ".timeout"),
                    concat!("steps.", stringify!($name), ".tokens"),
                    concat!("steps.", stringify!($name), ".cost"),
                    concat!("steps.", stringify!($name), ".turns"),
                ],
                &mut p.steps.$name,
            )
        };
    }
    step!(explore);
    step!(plan);
    step!(develop);
    step!(review);
    r.seconds("steps.ops.timeout", &mut p.steps.ops.timeout_secs, "1s", "1day");
}

fn branch_prefix(text: &str) -> Parsed<String> {
    let good = (1..=40).contains(&text.len())
        && text.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !part.ends_with('.')
                && !part.ends_with(".lock")
                && !part.contains("..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        });
    match good {
        true => Ok(text.to_owned()),
        false => wrong(
            "this cannot start a branch name",
            "use 1 to 40 letters, digits, '-', '_', '.' and '/', starting with a letter or digit, such as \"skep\"",
        ),
    }
}

fn telemetry(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    let t = &mut c.telemetry;
    r.checked("telemetry.otlp_endpoint", &mut t.otlp_endpoint, |url| {
        let fix = "write the collector's address, such as \"http://127.0.0.1:4318\"";
        let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
        match rest {
            _ if url.is_empty() => Ok(None),
            None => wrong("this is not an http or https URL", fix),
            Some(rest) if rest.split('/').next().is_some_and(|a| a.contains('@')) => wrong(
                "the URL contains a user or password",
                "write an authorization header to a file and name it in telemetry.otlp_headers_file",
            ),
            Some(rest) if rest.starts_with(['/', ':', '?', '#']) || rest.is_empty() => {
                wrong("the host is missing", fix)
            }
            Some(rest) if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) => {
                wrong("the URL contains characters that a base URL cannot have", fix)
            }
            Some(_) if url.trim_end_matches('/').ends_with("/v1/traces") => {
                wrong("/v1/traces is appended automatically", "leave it out")
            }
            Some(_) => Ok(Some(url.trim_end_matches('/').to_owned())),
        }
    });
    if let Some((key, text)) = secret(r, "telemetry.otlp_headers_file", "telemetry.otlp_headers_env", env) {
        match headers(&text) {
            Some(headers) if !headers.is_empty() && t.otlp_endpoint.as_deref().is_some_and(is_plain_to_others) => {
                r.refuse(
                    "telemetry.otlp_endpoint",
                    "the headers would be sent unencrypted to another machine",
                    "write an https URL, or leave out the headers",
                );
                t.otlp_headers = headers;
            }
            Some(headers) => t.otlp_headers = headers,
            None => {
                r.refuse(key, "the secret contains a line that is not a header", "write one \"name: value\" per line")
            }
        }
    }
    r.checked("telemetry.metrics_listen", &mut t.metrics_listen, |text| match text.parse::<SocketAddr>() {
        _ if text.is_empty() => Ok(None),
        Err(_) => wrong("this is not an address with a port", "write one such as \"127.0.0.1:9464\""),
        Ok(address) if !address.ip().is_loopback() => wrong(
            "other machines can reach this address, and metrics are served there without a token",
            "listen on 127.0.0.1, or read /metrics of server.listen with a token that has the right `metrics`",
        ),
        Ok(address) => Ok(Some(address)),
    });
    r.duration("telemetry.flush_timeout", &mut t.flush_timeout, "0s", "1m");
    r.checked("telemetry.log_format", &mut t.log_format, |f| match f {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => wrong("unknown format", "write \"auto\", \"text\" or \"json\""),
    });
    r.checked("telemetry.log_level", &mut t.log_level, |l| {
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        // A bare word that is not a level would silently be used as the name of a module.
        let typo = l.split(',').map(str::trim).any(|d| !d.contains('=') && !levels.contains(&d));
        let good = !typo && tracing_subscriber::EnvFilter::builder().parse(l).is_ok();
        match good {
            true => Ok(l.to_owned()),
            false => wrong("this is not a level", "write \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or directives such as \"info,skep=debug\""),
        }
    });
}

fn headers(text: &str) -> Option<Vec<(String, Secret)>> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            let name = name.trim().to_ascii_lowercase();
            let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            let clean = value.trim().bytes().all(|b| (0x20..0x7f).contains(&b));
            (good && clean).then(|| (name, Secret::new(value.trim())))
        })
        .collect()
}
