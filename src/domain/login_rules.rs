//! Rules by which people of an identity provider may log in, and the role they get.

use super::access::{AccessRole, PersonName};
use super::project::ProjectName;
use std::collections::BTreeMap;

/// Longest claim that an explanation repeats, in characters.
const MAX_SHOWN_CHARS: usize = 100;
/// Groups that an explanation repeats.
const MAX_SHOWN_GROUPS: usize = 5;

/// What an identity provider says about a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The person's id at the provider, which never changes.
    pub subject: String,
    /// Name of the account.
    pub username: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Whether the provider has verified the address.
    pub is_email_verified: bool,
    /// Groups; `None` if the provider sends no such claim.
    pub groups: Option<Vec<String>>,
}

impl Claims {
    /// Returns the name that the person gets here: the account's name, or the local part of the e-mail address, with
    /// `-` for each character that a name cannot have. `None` if neither makes a name.
    pub fn person_name(&self) -> Option<PersonName> {
        [&self.username, &self.email].into_iter().flatten().find_map(|claim| {
            let local = claim.split('@').next().unwrap_or_default().to_lowercase();
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            let name: String = local.chars().map(|c| if fits(c) { c } else { '-' }).collect();
            PersonName::new(name.trim_start_matches(['-', '_', '.'])).ok()
        })
    }
}

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginRules {
    /// Name of the claim that holds the groups.
    pub groups_claim: String,
    /// Groups whose members have each role.
    pub groups: BTreeMap<AccessRole, Vec<String>>,
    /// Groups whose members have each role in a project.
    pub project_groups: BTreeMap<ProjectName, BTreeMap<AccessRole, Vec<String>>>,
    /// Domains of e-mail addresses; empty or `*`: any.
    pub domains: Vec<String>,
    /// Role of people in none of the groups; `None`: they may not log in.
    pub default_role: Option<AccessRole>,
}

/// Role that a person may log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The role of a group, which counts at each login.
    OfGroup(AccessRole),
    /// The default role, which a person gets at the first login.
    Default(AccessRole),
}

impl Admission {
    /// Returns the role.
    pub fn role(self) -> AccessRole {
        match self {
            Admission::OfGroup(role) | Admission::Default(role) => role,
        }
    }
}

/// Returns the highest role of the groups that the claims name.
fn highest(groups: &BTreeMap<AccessRole, Vec<String>>, claims: &Claims) -> Option<AccessRole> {
    let own = claims.groups.as_deref().unwrap_or_default();
    groups.iter().rev().find(|(_, names)| names.iter().any(|name| own.contains(name))).map(|(role, _)| *role)
}

impl LoginRules {
    /// Returns the role that a person may log in with. Of several groups, the highest role counts.
    ///
    /// # Errors
    /// Which claim was looked at, and why it does not suffice.
    pub fn admit(&self, claims: &Claims) -> Result<Admission, String> {
        self.check_domain(claims)?;
        if let Some(role) = highest(&self.groups, claims) {
            return Ok(Admission::OfGroup(role));
        }
        let of_projects = self.project_roles(claims).values().any(|role| *role != AccessRole::None);
        let default = self.default_role.or(of_projects.then_some(AccessRole::None));
        default.map(Admission::Default).ok_or_else(|| {
            let claim = &self.groups_claim;
            match claims.groups.as_deref() {
                None => {
                    format!("the identity provider sent no claim `{claim}`, and only members of a group may log in")
                }
                Some([]) => format!("the claim `{claim}` is empty, and only members of a group may log in"),
                Some(groups) => {
                    let named: Vec<String> = groups.iter().take(MAX_SHOWN_GROUPS).map(|name| shown(name)).collect();
                    let more = if groups.len() > MAX_SHOWN_GROUPS { " and others" } else { "" };
                    format!("the claim `{claim}` names {}{more}, and none of these groups has a role", named.join(", "))
                }
            }
        })
    }

    /// Returns the role in each project whose groups have roles; [`AccessRole::None`] for those in none of them.
    pub fn project_roles(&self, claims: &Claims) -> BTreeMap<ProjectName, AccessRole> {
        let of = |groups| highest(groups, claims).unwrap_or(AccessRole::None);
        self.project_groups.iter().map(|(project, groups)| (project.clone(), of(groups))).collect()
    }

    fn check_domain(&self, claims: &Claims) -> Result<(), String> {
        if self.domains.is_empty() || self.domains.iter().any(|domain| domain == "*") {
            return Ok(());
        }
        let Some(email) = &claims.email else {
            return Err("the identity provider sent no claim `email`, and only some domains may log in".to_owned());
        };
        let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
        if !self.domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
            return Err(format!("the claim `email` is {}, and its domain may not log in", shown(email)));
        }
        if !claims.is_email_verified {
            return Err(format!("the claim `email_verified` is not true for {}", shown(email)));
        }
        Ok(())
    }
}

fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(groups: Option<&[&str]>, email: Option<&str>) -> Claims {
        Claims {
            subject: "1".to_owned(),
            username: None,
            email: email.map(str::to_owned),
            is_email_verified: true,
            groups: groups.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    fn rules() -> LoginRules {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        LoginRules {
            groups_claim: "groups".to_owned(),
            groups: [(AccessRole::Member, of(&["dev", "qa"])), (AccessRole::Admin, of(&["platform"]))].into(),
            project_groups: BTreeMap::new(),
            domains: of(&["example.org"]),
            default_role: None,
        }
    }

    #[test]
    fn the_highest_role_of_the_groups_counts() {
        let (rules, mail) = (rules(), Some("ann@Example.org"));
        let admitted = |groups: &[&str]| rules.admit(&claims(Some(groups), mail));
        assert_eq!(admitted(&["dev"]), Ok(Admission::OfGroup(AccessRole::Member)));
        assert_eq!(admitted(&["x", "platform", "qa"]), Ok(Admission::OfGroup(AccessRole::Admin)));
        let by_default = LoginRules { default_role: Some(AccessRole::Viewer), ..rules.clone() };
        assert_eq!(by_default.admit(&claims(None, mail)), Ok(Admission::Default(AccessRole::Viewer)));
        assert_eq!(by_default.admit(&claims(Some(&["dev"]), mail)), Ok(Admission::OfGroup(AccessRole::Member)));
    }

    #[test]
    fn groups_of_a_project_let_in_and_give_a_role_there_only() {
        let tally = ProjectName::new("tally").unwrap();
        let of = |role, name: &str| (role, vec![name.to_owned()]);
        let groups = [of(AccessRole::Viewer, "staff"), of(AccessRole::Approver, "leads")];
        let rules = LoginRules { project_groups: [(tally.clone(), groups.into())].into(), ..rules() };
        let told = |names: &[&str]| {
            let claims = claims(Some(names), Some("ann@example.org"));
            (rules.admit(&claims), rules.project_roles(&claims)[&tally])
        };
        assert_eq!(told(&["staff"]), (Ok(Admission::Default(AccessRole::None)), AccessRole::Viewer));
        assert_eq!(
            told(&["leads", "staff", "dev"]),
            (Ok(Admission::OfGroup(AccessRole::Member)), AccessRole::Approver)
        );
        assert!(told(&["other"]).0.is_err() && told(&["other"]).1 == AccessRole::None);
    }

    #[test]
    fn a_refusal_names_the_claim() {
        let rules = rules();
        let refused = |claims: Claims| rules.admit(&claims).unwrap_err();
        let mail = Some("ann@example.org");
        assert!(refused(claims(None, mail)).contains("no claim `groups`"));
        assert!(refused(claims(Some(&[]), mail)).contains("`groups` is empty"));
        assert!(refused(claims(Some(&["Dev", "devs"]), mail)).contains("\"Dev\", \"devs\""));
        assert!(refused(claims(Some(&["dev"]), None)).contains("no claim `email`"));
        for other in ["ann@evil.example", "ann@example.org.evil", "ann", "example.org", "ann@sub.example.org"] {
            assert!(refused(claims(Some(&["dev"]), Some(other))).contains("`email` is"), "{other}");
        }
        let unverified = Claims { is_email_verified: false, ..claims(Some(&["dev"]), mail) };
        assert!(refused(unverified).contains("`email_verified`"));
        let long = refused(claims(Some(&[&"g\n".repeat(1_000)]), mail));
        assert!(long.len() < 300 && !long.contains('\n'), "{long}");
    }

    #[test]
    fn a_name_is_made_from_the_account_or_the_address() {
        let name = |username: Option<&str>, email: Option<&str>| {
            let claims = Claims { username: username.map(str::to_owned), ..claims(None, email) };
            claims.person_name().map(|name| name.to_string())
        };
        assert_eq!(name(Some("Ann.Lee"), None).as_deref(), Some("ann.lee"));
        assert_eq!(name(Some("ann@contoso.example"), None).as_deref(), Some("ann"));
        assert_eq!(name(Some("Ann Lee+x"), None).as_deref(), Some("ann-lee-x"));
        assert_eq!(name(Some("…"), Some("ben@x")).as_deref(), Some("ben"));
        assert_eq!(name(None, Some("_ben@x")).as_deref(), Some("ben"));
        assert_eq!(name(None, None), None);
        assert_eq!(name(Some(&"a".repeat(65)), None), None);
    }
}
