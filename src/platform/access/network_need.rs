//! Recognizes in the output of a command that it needed the network, and which hosts.

use std::collections::BTreeSet;

/// Maximum number of hosts that are proposed.
const HOSTS_MAX: usize = 8;

/// Messages, in lower case, of programs that need a network and have none. A message counts as a whole: "enotfound" does
/// not stand in "ModuleNotFoundError".
const MESSAGES: &[&str] = &[
    // Name resolution and connections: curl, wget, git, ssh, Python, Node.js, Rust, Go, Java, musl.
    "could not resolve host",
    "couldn't resolve host",
    "could not resolve hostname",
    "could not resolve proxy",
    "unable to resolve host address",
    "temporary failure in name resolution",
    "name or service not known",
    "name does not resolve",
    "no address associated with hostname",
    "failed to lookup address information",
    "temporary failure resolving",
    "network is unreachable",
    "eai_again",
    "enotfound",
    "enetunreach",
    "dns error",
    "no such host",
    "unknownhostexception",
    "unknown host",
    // Package managers in offline mode: npm, pnpm, yarn, corepack, Cargo, Go, pip, uv, Maven, Gradle, Hex,
    // Composer, Bundler, rustup.
    "enotcached",
    "only-if-cached",
    "err_pnpm_no_offline_meta",
    "err_pnpm_no_offline_tarball",
    "network access have been disabled by configuration",
    "network access has been disabled by configuration",
    "network access disabled by the environment",
    "--offline was specified",
    "you may not have network access",
    "module lookup disabled by goproxy=off",
    "(from versions: none)",
    "network connectivity is disabled",
    "in offline mode and the artifact",
    "in offline mode",
    "in the offline mode",
    "for offline mode",
    "using offline mode",
    "hex is running in offline mode",
    "network disabled, request canceled",
    "could not reach host",
    "has been blocked because of your configuration settings",
    "could not fetch specs",
    "auto-install is disabled",
];

/// Messages, in lower case, that also stand for other failures: they count on a line that names a public host.
const MESSAGES_WITH_HOST: &[&str] = &[
    // Programs in Rust (uv, Deno), and the imports of Deno.
    "error sending request for url",
    "client error (connect)",
    "import 'http",
];

/// Messages, in lower case, by which programs report that a proxy did not connect them: curl, git, Cargo, pip, uv, Deno,
/// npm, Java.
const REFUSALS: &[&str] = &[
    "tunnel failed",
    "tunnel connection failed",
    "tunnel error",
    "tunneling socket could not be established",
    "proxy connect aborted",
    "from proxy after connect",
    "unable to tunnel through proxy",
];

/// The answers of the proxy, in lower case. They count on a line that names the host.
const ANSWERS: &[&str] = &["403", "502", "504", "forbidden", "access denied", "bad gateway", "gateway time"];

/// Beginnings, in lower case, of texts that name a host without a URL.
const HOST_FOLLOWS: &[&str] = &[
    "could not resolve host: ",
    "could not resolve hostname ",
    "unable to resolve host address ",
    "eai_again ",
    "enotfound ",
    "lookup ",
    "unknownhostexception: ",
    "temporary failure resolving ",
];

/// Words, in lower case, of lines whose addresses are for people.
const HELP: &[&str] = &["more help", "more information", "[help ", "learn more", "read more", "for more details"];

/// Words, in lower case, directly before an address that is for people.
const BEFORE_HELP: &[&str] = &["see", "see:", "visit", "visit:", "docs:", "documentation:"];

/// Returns whether the output shows that the command needed a network.
pub fn is_needed(output: &str) -> bool {
    let output = output.to_lowercase();
    let names_host = |line: &str| MESSAGES_WITH_HOST.iter().any(|m| line.contains(m)) && !hosts(line).is_empty();
    MESSAGES.iter().any(|message| contains_whole(&output, message)) || output.lines().any(names_host)
}

/// Returns whether the output of a failed command says that the proxy did not connect it, to this host or at all.
pub fn blames(output: &str, host: &str) -> bool {
    let (output, host) = (output.to_lowercase(), host.to_lowercase());
    let names_answer = |line: &str| line.contains(&host) && ANSWERS.iter().any(|answer| contains_whole(line, answer));
    let is_refusal = MESSAGES.iter().chain(REFUSALS).any(|message| contains_whole(&output, message));
    is_refusal || output.lines().any(names_answer)
}

/// Returns whether `text` contains `part`, not as a piece of a longer word.
fn contains_whole(text: &str, part: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts_word = part.starts_with(is_word);
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + part.len()..].chars().next().is_some_and(is_word) && part.ends_with(is_word);
        !(after || before && starts_word)
    })
}

/// Returns the hosts that the output names, as entries of the list of hosts. It is the command's text: only what has the
/// form of a public host name counts.
pub fn hosts(output: &str) -> Vec<String> {
    let lines = output.lines().map(str::to_lowercase);
    let output = lines.filter(|line| !HELP.iter().any(|words| line.contains(words))).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    let is_help = |before: &str| {
        let word = before.trim_end_matches([' ', '<', '"', '\'', '`', '(']).rsplit(char::is_whitespace).next();
        word.is_some_and(|word| BEFORE_HELP.contains(&word))
    };
    let after = |mark: &str| {
        let found = output.match_indices(mark).filter(|(at, _)| !is_help(&output[..*at]));
        found.map(|(at, _)| &output[at + mark.len()..]).collect::<Vec<_>>()
    };
    for mark in ["https://", "http://", "git+ssh://", "ssh://"].iter().chain(HOST_FOLLOWS) {
        for rest in after(mark) {
            let rest = rest.trim_start_matches(['\'', '"', '`', '(']);
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".-:@".contains(c))).unwrap_or(rest.len());
            let authority = rest[..end].rsplit('@').next().unwrap_or_default().trim_end_matches(['.', ':', '-']);
            let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
            let port = port.parse::<u16>().ok().filter(|port| ![80, 443].contains(port));
            if is_public_name(name) {
                found.insert(port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")));
            }
        }
    }
    found.into_iter().take(HOSTS_MAX).collect()
}

fn is_public_name(name: &str) -> bool {
    let label = |l: &str| (1..=63).contains(&l.len()) && !l.starts_with('-') && !l.ends_with('-');
    let top = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && top.len() >= 2
        && top.bytes().all(|b| b.is_ascii_lowercase())
        && name != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_package_managers_are_recognized_with_the_hosts_they_need() {
        for (output, expected) in [
            (
                "npm error code EAI_AGAIN\nnpm error request to https://registry.npmjs.org/x failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org",
                "registry.npmjs.org",
            ),
            (
                "npm error code ENOTCACHED\nnpm error request to https://npm.example.org:8443/a failed: cache mode is 'only-if-cached' but no cached response",
                "npm.example.org:8443",
            ),
            ("curl: (6) Could not resolve host: example.com", "example.com"),
            (
                "fatal: unable to access 'https://git.example.org/a/': Could not resolve host: git.example.org",
                "git.example.org",
            ),
            ("go: example.org/m@v1.0.0: module lookup disabled by GOPROXY=off", ""),
            (
                "error: failed to download from `https://static.crates.io/crates/a/1/download`\nattempting to make an HTTP request, but --offline was specified",
                "static.crates.io",
            ),
            ("ERROR: Could not find a version that satisfies the requirement pytest (from versions: none)", ""),
            (
                "hint: Packages were unavailable because the network was disabled. Network connectivity is disabled, but",
                "",
            ),
            ("dial tcp: lookup proxy.golang.org on 127.0.0.1:53: no such host", "proxy.golang.org"),
            (
                "[ERROR] Cannot access central (https://repo.maven.apache.org/maven2) in offline mode",
                "repo.maven.apache.org",
            ),
            (
                "\u{27a4} YN0080: \u{2502} a@npm:1: Request to 'https://npm.example.org/a/-/a-1.tgz' has been blocked because of your configuration settings",
                "npm.example.org",
            ),
            ("java.net.UnknownHostException: services.gradle.org", "services.gradle.org"),
            (
                "Could not GET 'https://a.example.org/m2'.\na.example.org: Name or service not known\n* Get more help at https://help.example.org",
                "a.example.org",
            ),
            (
                "[ERROR] Unknown host repo.example.org\n[ERROR] https://repo.example.org/m2\n[ERROR] [Help 1] http://cwiki.example.net/x\nread error, see https://docs.example.net/y",
                "repo.example.org",
            ),
            (
                "  can't checkout from 'https://git.example.org/foo': you are in the offline mode (--offline)",
                "git.example.org",
            ),
            (
                "error: JSR package manifest for '@std/assert' failed to load. Import 'https://jsr.example.org/a' failed.",
                "jsr.example.org",
            ),
        ] {
            assert!(is_needed(output), "{output}");
            assert_eq!(hosts(output).join(" "), expected, "{output}");
        }
    }

    #[test]
    fn cargo_without_a_network_needs_it_even_where_it_names_no_host() {
        let output = "error: no matching package named `a` found\nlocation searched: the registry's index\n\
                      As a reminder, you're using offline mode (--offline) which can sometimes cause surprising failures";
        assert!(is_needed(output));
    }

    #[test]
    fn refusals_by_the_proxy_are_recognized() {
        for output in [
            "go: a.example.org/m@v1: Get \"https://proxy.example.org/m/@v/v1.mod\": Forbidden",
            "curl: (56) CONNECT tunnel failed, response 502",
            "npm error 403 403 Forbidden - GET https://proxy.example.org/a",
            "[ERROR] Could not transfer artifact a from/to central (https://proxy.example.org/m2): status code: 403",
            "OSError('Tunnel connection failed: 403 Forbidden')",
            "client error (Connect): tunnel error: unsuccessful",
        ] {
            assert!(blames(output, "proxy.example.org"), "{output}");
        }
        for output in ["AssertionError: 403 != 200", "GET https://other.example.org: Forbidden", "port 15023: ok"] {
            assert!(!blames(output, "proxy.example.org"), "{output}");
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_a_missing_network() {
        for output in [
            "ModuleNotFoundError: No module named 'pytest'",
            "ClassNotFoundException: a.B",
            "error[E0433]: failed to resolve: use of undeclared crate",
            "FileNotFoundError: [Errno 2] No such file or directory: 'x'",
            "fixture 'renotfound' not found",
            "Cannot find module './x'",
            "ImportError: cannot import name 'dns_errors'",
            "AssertionError: 404 != 200",
            "ResourceNotFoundError",
            "XENOTFOUND_Y",
            "test 'reads https' failed",
            "error sending request for url (http://127.0.0.1:8000/)",
        ] {
            assert!(!is_needed(output), "{output}");
        }
    }

    #[test]
    fn only_public_names_are_proposed() {
        for output in [
            "https://localhost/x",
            "http://127.0.0.1:8000/",
            "https://user@internal/x",
            "https://a..b.com",
            "lookup nowhere",
        ] {
            assert!(hosts(output).is_empty(), "{output}: {:?}", hosts(output));
        }
        let many: String = (0..20).map(|n| format!("https://h{n}.example.org/ ")).collect();
        assert_eq!(hosts(&many).len(), HOSTS_MAX);
    }
}
