//! The host allow-list: patterns from the configuration, and addresses that no name may resolve to.

use async_trait::async_trait;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Ports that a pattern without a port allows.
const DEFAULT_PORTS: [u16; 2] = [443, 80];
/// Maximum length of a host name.
const NAME_MAX: usize = 253;

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Exactly this name.
    Name(String),
    /// Every name that ends with this suffix (including its leading dot).
    Subdomains(String),
    /// This address, written literally.
    Address(IpAddr),
}

/// The hosts one session may reach.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<Rule>);

impl Hosts {
    /// Parses patterns: `pypi.org`, `*.crates.io:443`, `127.0.0.1:3000`, `[::1]:3000`.
    ///
    /// # Errors
    /// Names the invalid pattern, and describes a valid one.
    pub fn parse(patterns: &[String]) -> Result<Hosts, String> {
        patterns.iter().map(|p| rule(p)).collect::<Result<_, _>>().map(Hosts)
    }

    /// Checks that `host:port` is on the list.
    ///
    /// # Errors
    /// The reason for the denial, for the log and the client.
    pub fn check(&self, host: &str, port: u16) -> Result<(), &'static str> {
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let fits = |rule: &&Rule| match (&rule.host, address) {
            (Host::Address(listed), Some(requested)) => *listed == requested,
            (Host::Name(name), None) => name == host,
            (Host::Subdomains(suffix), None) => host.ends_with(suffix.as_str()),
            _ => false,
        };
        let mut fitting = self.0.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(if address.is_some() { "an address that is not on the list" } else { "not on the list" });
        }
        let open = |rule: &Rule| rule.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |listed| listed == port);
        if fitting.any(open) { Ok(()) } else { Err("on the list, but with another port") }
    }

    /// Returns whether a connection to a resolved address is allowed: the address must be public, or on the list
    /// itself.
    pub fn may_dial(&self, address: SocketAddr) -> bool {
        is_public(address.ip()) || self.check(&address.ip().to_canonical().to_string(), address.port()).is_ok()
    }
}

/// Returns the entry that allows a host or an address at a port.
pub fn entry(host: &str, port: u16) -> String {
    match (DEFAULT_PORTS.contains(&port), host.contains(':')) {
        (true, _) => host.to_owned(),
        (false, true) => format!("[{host}]:{port}"),
        (false, false) => format!("{host}:{port}"),
    }
}

/// Services that give credentials to any program on a cloud machine, besides the link-local ones.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Returns whether an address may be listed: not one that gives away credentials of this machine.
pub fn may_be_listed(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !METADATA.contains(&ip) && !is_link_local && !ip.is_unspecified()
}

fn rule(pattern: &str) -> Result<Rule, String> {
    let invalid = |why: &str| {
        format!(
            "invalid host {pattern:?}: {why}; use a name, `*.` and a name, or an address, followed by `:PORT` unless it is 443 or 80"
        )
    };
    let (host, port) = split(pattern).ok_or_else(|| invalid("cannot parse it"))?;
    if port == Some(0) {
        return Err(invalid("port 0 does not exist"));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Rule { host: Host::Address(ip.to_canonical()), port });
    }
    let (name, is_wildcard) = host.strip_prefix("*.").map_or((host.as_str(), false), |name| (name, true));
    let name = normalize_name(name).ok_or_else(|| invalid("the name contains invalid characters"))?;
    if is_wildcard && !name.contains('.') {
        return Err(invalid("the wildcard is too broad"));
    }
    Ok(Rule { host: if is_wildcard { Host::Subdomains(format!(".{name}")) } else { Host::Name(name) }, port })
}

/// Splits `host`, `host:port`, `[v6]:port` or `v6`.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text.to_owned(), None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']')?;
        ip.parse::<Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { None } else { Some(port(rest.strip_prefix(':')?)?) };
        return Some((ip.to_owned(), port));
    }
    match text.split_once(':') {
        None => Some((text.to_owned(), None)),
        Some((host, digits)) => Some((host.to_owned(), Some(port(digits)?))),
    }
}

fn port(digits: &str) -> Option<u16> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Normalizes the host of a request: lower case, no trailing dot. `None` = neither a name nor an address, or a
/// disguised address (`127.1`, `0x7f000001`, `2130706433`).
pub fn normalize_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(v6) = bare {
        return v6.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical().to_string());
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(ip.to_string());
    }
    let name = normalize_name(text)?;
    // No public name ends in a number, and C libraries parse such a name as a numeric address.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric { None } else { Some(name) }
}

fn normalize_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(is_valid);
    (name.len() <= NAME_MAX && name.split('.').all(label)).then_some(name)
}

/// Returns whether an address is public. Addresses of this machine, of private networks and of cloud metadata services
/// are not; neither are addresses that embed another one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = matches!(
                (a, b, c),
                (0 | 10 | 127, _, _)
                    | (100, 64..=127, _)
                    | (169, 254, _)
                    | (172, 16..=31, _)
                    | (192, 0, 0 | 2)
                    | (192, 88, 99)
                    | (192, 168, _)
                    | (198, 18 | 19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
                    | (224.., _, _)
            );
            // Metadata services of Azure and Alibaba use addresses that look public.
            !special && v4 != Ipv4Addr::new(168, 63, 129, 16)
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let global = (0x2000..0x4000).contains(&s[0]);
            let special = (s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8))
                || s[0] == 0x2002
                || (s[0] == 0x3fff && s[1] < 0x1000);
            global && !special
        }
    }
}

/// Resolves host names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Returns the addresses of `host`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.take(16).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(patterns: &[&str]) -> Hosts {
        Hosts::parse(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_listed_hosts_are_allowed() {
        let list =
            hosts(&["pypi.org", "*.crates.io:443", "Mirror.corp.:8080", "127.0.0.1:3000", "[::1]:3000", "10.1.2.3"]);
        for (host, port) in [
            ("pypi.org", 443),
            ("pypi.org", 80),
            ("static.crates.io", 443),
            ("a.b.crates.io", 443),
            ("mirror.corp", 8080),
            ("127.0.0.1", 3000),
            ("::1", 3000),
            ("10.1.2.3", 80),
        ] {
            assert_eq!(list.check(host, port), Ok(()), "{host}:{port}");
        }
        for (host, port) in [
            ("pypi.org", 22),
            ("pypi.org.evil.com", 443),
            ("evilpypi.org", 443),
            ("files.pypi.org", 443),
            ("crates.io", 443),
            ("static.crates.io", 80),
            ("evilcrates.io", 443),
            ("127.0.0.1", 80),
            ("127.0.0.2", 3000),
            ("1.2.3.4", 443),
            ("", 443),
        ] {
            assert!(list.check(host, port).is_err(), "{host}:{port}");
        }
    }

    #[test]
    fn disguised_hosts_are_rejected() {
        for (text, normalized) in [
            ("PyPI.org.", "pypi.org"),
            ("[::1]", "::1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(normalize_host(text).as_deref(), Some(normalized), "{text}");
        }
        for text in [
            "",
            ".",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.01",
            "a..b",
            "pypi.org%00.evil.com",
            "pypi.org\0",
            "user@pypi.org",
            "pypi.org/",
            "pypi.org#",
            "pypi.org?",
            "pypi.org\\",
            "p\u{443}pi.org",
            "pypi.org:443",
            "[::1",
            "::1]",
            "[::1%lo]",
            " pypi.org",
            "pypi.org\n",
            "ⓟypi.org",
            "pypi。org",
        ] {
            assert_eq!(normalize_host(text), None, "{text:?}");
        }
    }

    #[test]
    fn invalid_patterns_are_reported() {
        for text in [
            "",
            "*",
            "*.com",
            "*.*.com",
            "a.*.com",
            "pypi.org:",
            "pypi.org:0",
            "pypi.org:99999",
            "pypi.org:+80",
            "https://pypi.org",
            "pypi.org/simple",
            "user@pypi.org",
            "[::1",
            "[pypi.org]",
        ] {
            let error = Hosts::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.contains("invalid host"), "{text}: {error}");
        }
    }

    #[test]
    fn private_and_special_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            ["1.1.1.1", "8.8.8.8", "151.101.0.223", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a04:4e42::223"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        let list = hosts(&["mirror.corp", "10.0.0.5:443"]);
        assert!(list.may_dial("10.0.0.5:443".parse().unwrap()) && !list.may_dial("10.0.0.6:443".parse().unwrap()));
    }
}
