//! Keys of logging in: `[auth]` and `[auth.oidc]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::{Parsed, is_page_address, is_plain_to_others, secret, wrong};
use crate::adapters::oidc::settings::OidcSettings;
use crate::domain::{AccessRole, LoginRules, ProjectName};
use crate::secrets::Secret;
use std::collections::BTreeMap;

/// Headers that a proxy sets for other reasons, or that requests have anyway.
const OTHER_HEADERS: [&str; 6] = ["authorization", "cookie", "host", "origin", "forwarded", "x-forwarded-for"];

/// Reads `[auth]`.
pub(super) fn read(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    r.checked("auth.proxy_header", &mut c.auth.proxy_header, |text| match text.to_ascii_lowercase() {
        name if name.is_empty() => Ok(None),
        name if OTHER_HEADERS.contains(&name.as_str()) => {
            wrong("this header does not name a person", "write the header that the proxy sets, such as \"Remote-User\"")
        }
        name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => Ok(Some(name)),
        _ => wrong("this is not the name of a header", "write the header that the proxy sets, such as \"Remote-User\""),
    });
    if c.auth.proxy_header.is_some() && c.server.trusted_proxy.is_none() {
        let fix = "name the proxy's address in server.trusted_proxy, or leave the header out";
        r.refuse("auth.proxy_header", "no proxy is trusted, so anybody could send this header", fix);
    }
    c.auth.oidc = oidc(r, c.server.pages(), env);
}

fn oidc(r: &mut Reader, pages: Option<String>, env: &dyn Fn(&str) -> Option<String>) -> Option<OidcSettings> {
    let mut issuer = String::new();
    r.checked("auth.oidc.issuer", &mut issuer, |text| match text {
        "" => Ok(String::new()),
        url if !is_page_address(url) => wrong(
            "this is not an issuer, which is an https URL without a query",
            "write it as the provider does, such as \"https://id.example.org/realms/team\"",
        ),
        url if is_plain_to_others(url) => {
            wrong("people would log in unencrypted at another machine", "write an https URL")
        }
        url => Ok(url.to_owned()),
    });
    let mut client_id = String::new();
    let word = |text: &str| match text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.len() > 255 {
        true => wrong("this contains blanks, or is longer than 255 bytes", "write one word"),
        false => Ok(text.to_owned()),
    };
    r.checked("auth.oidc.client_id", &mut client_id, word);
    let client_secret = secret(r, "auth.oidc.client_secret_file", "auth.oidc.client_secret_env", env);
    let mut label = "your company account".to_owned();
    r.checked("auth.oidc.label", &mut label, |text| match text.trim() {
        "" => wrong("the label is empty", "write what people call the provider"),
        text if text.chars().count() > 60 || text.chars().any(char::is_control) => {
            wrong("the label is not one line of at most 60 characters", "write a shorter one")
        }
        text => Ok(text.to_owned()),
    });
    let mut scopes = ["openid", "profile", "email"].map(str::to_owned).to_vec();
    r.list("auth.oidc.scopes", &mut scopes, |scope| word(scope).map(drop));
    let mut username_claim = "preferred_username".to_owned();
    r.checked("auth.oidc.username_claim", &mut username_claim, claim);
    let rules = rules(r);
    if issuer.is_empty() {
        return None;
    }
    if client_id.is_empty() {
        let fix = "write the id under which the provider knows this service";
        r.refuse("auth.oidc.client_id", "the service has no client id at the provider", fix);
    }
    if !scopes.iter().any(|scope| scope == "openid") {
        r.refuse("auth.oidc.scopes", "without the scope \"openid\" there is no ID token", "add \"openid\"");
    }
    if pages.is_none() {
        let fix = "write the address under which browsers reach the pages, such as \"https://skep.example.org\"";
        r.refuse("server.public_url", "the provider cannot return browsers to a service without an address", fix);
    }
    if rules.default_role.is_some() && rules.domains.is_empty() {
        let fix = "name the domains in auth.oidc.domains; [\"*\"] lets in everybody with an account at the provider";
        r.refuse("auth.oidc.default_role", "it would let in everybody with an account at the provider", fix);
    } else if rules.default_role.is_none() && rules.groups.is_empty() && rules.project_groups.is_empty() {
        let fix = "give a group a role in [auth.oidc.groups], or set auth.oidc.default_role";
        r.refuse("auth.oidc.default_role", "nobody may log in: no group has a role, and there is no default", fix);
    }
    let client_secret = client_secret.map(|(_, text)| Secret::new(text.trim().to_owned()));
    Some(OidcSettings { issuer, client_id, client_secret, label, scopes, username_claim, rules })
}

fn rules(r: &mut Reader) -> LoginRules {
    let mut rules = LoginRules { groups_claim: "groups".to_owned(), ..LoginRules::default() };
    r.checked("auth.oidc.groups_claim", &mut rules.groups_claim, claim);
    r.list("auth.oidc.domains", &mut rules.domains, |domain| {
        let is_domain = domain.contains('.') && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        match domain == "*" || is_domain {
            true => Ok(()),
            false => wrong("one entry is not a domain", "write domains such as \"example.org\", without @"),
        }
    });
    r.checked("auth.oidc.default_role", &mut rules.default_role, |name| match AccessRole::named(name) {
        None if !name.is_empty() => {
            wrong("there is no such role", "write \"none\", \"viewer\", \"member\", \"approver\", \"admin\" or \"\"")
        }
        role => Ok(role),
    });
    rules.groups = groups(r, "auth.oidc.groups", &AccessRole::ALL);
    let fix = "name the table after a project, such as [auth.oidc.project_groups.tally]";
    for name in r.names_that("auth.oidc.project_groups", |name| ProjectName::new(name).is_ok(), fix) {
        let Ok(project) = ProjectName::new(&name) else { continue };
        let table = format!("auth.oidc.project_groups.{}", project.as_key());
        rules.project_groups.insert(project, groups(r, &table, &AccessRole::OF_PROJECTS));
    }
    rules
}

/// Reads the groups of each of these roles.
fn groups(r: &mut Reader, table: &str, roles: &[AccessRole]) -> BTreeMap<AccessRole, Vec<String>> {
    let mut all = BTreeMap::new();
    for role in roles {
        let mut groups = Vec::new();
        r.list(&format!("{table}.{}", role.name()), &mut groups, |group| match group.trim().is_empty() {
            true => wrong("one entry is empty", "write names of groups, as the claim has them"),
            false => Ok(()),
        });
        if !groups.is_empty() {
            all.insert(*role, groups);
        }
    }
    all
}

fn claim(name: &str) -> Parsed<String> {
    match name {
        "" => wrong("the name is empty", "write the name of the claim"),
        name if name.len() > 255 || name.chars().any(char::is_control) => {
            wrong("this is not the name of a claim", "write the name as the provider does")
        }
        name => Ok(name.to_owned()),
    }
}
