//! Parses arguments with a syntax of their own: repositories, engines, names of changes.

use crate::config::units;
use crate::http::rest::wire::Role;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Repository: an absolute path, a URL, or its name on a forge: `OWNER/REPO`, on GitLab also `GROUP/SUBGROUP/PROJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

/// Engine for one role, or for its default roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineChoice {
    /// The role, if one was named.
    pub role: Option<Role>,
    /// `KIND[:ARG]`.
    pub spec: String,
}

/// Name of a change: `PROJECT#NUMBER`, or its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeName {
    /// By project and number.
    Numbered {
        /// The project.
        project: String,
        /// The number.
        number: u64,
    },
    /// By its run.
    OfRun(String),
}

const CHANGE_FORM: &str = "write PROJECT#NUMBER, such as tool#1, or the id of a run";
const SCHEMES: [&str; 3] = ["https", "ssh", "file"];
/// Roles with an engine; `ops` has none.
const ENGINE_ROLES: [Role; 4] = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];

/// Parses the name of a table of the configuration.
pub fn table_name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match is_plain && (1..=50).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("use letters, digits, - and _ only, at most 50".to_owned()),
    }
}

/// Parses a repository. A path must name a directory; it becomes absolute, without `.` and `..`.
pub fn origin(text: &str) -> Result<Origin, String> {
    if text.is_empty() {
        return Err("the value is empty; pass a directory or a URL".to_owned());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        if !SCHEMES.contains(&scheme) {
            return Err(format!("unsupported URL scheme {scheme}://; use {}://", SCHEMES.join("://, ")));
        }
        let host = rest.split('/').next().unwrap_or("");
        if host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err("the URL contains a password, which would end up in logs; leave it out".to_owned());
        }
        if rest.contains('?') {
            return Err(
                "the URL has a query, which may contain a token and would end up in logs; leave it out".to_owned()
            );
        }
        if rest.trim_matches('/').is_empty() {
            return Err("the URL has no repository path".to_owned());
        }
        return Ok(Origin(text.to_owned()));
    }
    let path = std::path::absolute(text).map_err(|e| format!("cannot resolve the path: {e}"))?;
    let mut path = lexical(&path);
    match std::fs::metadata(&path) {
        // A folder inside a repository stands for the repository, as it does for git.
        Ok(found) if found.is_dir() => path = repository_around(&path).unwrap_or(path),
        Ok(_) => return Err(format!("{} is not a directory; pass the directory of the repository", path.display())),
        Err(_) if text.split_once('@').is_some_and(|(user, _)| user.contains(':')) => {
            return Err("the address contains a password, which would end up in logs; leave it out".to_owned());
        }
        Err(_) if is_scp_like(text) || may_be_name(text) => return Ok(Origin(text.to_owned())),
        Err(e) if text.starts_with('~') => {
            return Err(format!("{}: {e}; only the shell expands `~`: remove the quotes", path.display()));
        }
        Err(e) => return Err(format!("{}: {e}; pass a directory that exists, or a URL", path.display())),
    }
    utf8(path).map(Origin)
}

fn utf8(path: PathBuf) -> Result<String, String> {
    let unusable =
        |path: OsString| format!("{} is not valid UTF-8; rename it, or pass a symbolic link to it", path.display());
    path.into_os_string().into_string().map_err(unusable)
}

/// Returns the repository around the current directory.
pub fn origin_here() -> Result<Origin, String> {
    let here = std::env::current_dir().map_err(|e| format!("cannot read the current directory: {e}"))?;
    match repository_around(&here) {
        Some(root) => origin(&utf8(root)?),
        None => Err(format!("{} is not inside a git repository", here.display())),
    }
}

/// Returns the repository that a folder belongs to: the nearest folder at or above it that holds `.git` (a folder, or a
/// file in a linked worktree or submodule) or is a bare repository.
fn repository_around(folder: &Path) -> Option<PathBuf> {
    let is_git_dir =
        |dir: &Path| dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir();
    let found = folder.ancestors().find(|dir| dir.join(".git").exists() || is_git_dir(dir))?;
    let inside = found.file_name().is_some_and(|name| name == ".git");
    Some(if inside { found.parent()?.to_owned() } else { found.to_owned() })
}

/// Returns whether a text is `user@host:path`, git's short form for ssh.
fn is_scp_like(text: &str) -> bool {
    let Some((host, path)) = text.split_once(':') else { return false };
    !path.is_empty() && host.contains('@') && !host.contains('/') && !host.starts_with('-') && !host.starts_with('@')
}

/// Returns whether a text may be the name of a repository on a forge.
fn may_be_name(text: &str) -> bool {
    let is_word = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['-', '.', '~'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text.contains('/') && text.split('/').all(is_word)
}

fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Parses `[ROLE=]KIND[:ARG]`.
pub fn engine(text: &str) -> Result<EngineChoice, String> {
    let kind = text.split(':').next().unwrap_or("");
    let (role, spec) = match kind.split_once('=') {
        None => (None, text),
        Some((name, _)) => {
            let role = ENGINE_ROLES.into_iter().find(|r| r.name() == name.trim());
            let names: Vec<&str> = ENGINE_ROLES.iter().map(|r| r.name()).collect();
            let role = role.ok_or_else(|| format!("unknown role {name:?}; roles are {}", names.join(", ")))?;
            (Some(role), text.split_once('=').map_or("", |(_, spec)| spec))
        }
    };
    let choice = EngineChoice { role, spec: spec.trim().to_owned() };
    if choice.is_name() {
        return Ok(choice);
    }
    for role in choice.roles() {
        match crate::config::engine(&choice.spec, role.into()) {
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err("no engine given; write KIND or KIND:ARG, such as 'command: make fix'".to_owned());
            }
            Err(e) => return Err(format!("{}; {}", e.why, e.fix)),
        }
    }
    Ok(choice)
}

impl EngineChoice {
    /// Returns whether it is one word and no kind of engine: the name of an agent, a provider or a model, which the
    /// configuration explains.
    pub fn is_name(&self) -> bool {
        let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        !self.spec.is_empty() && self.spec.chars().all(word) && !crate::config::is_engine_kind(&self.spec)
    }

    /// Returns its roles: the one named, else every role for a script, else the dev.
    pub fn roles(&self) -> Vec<Role> {
        match self.role {
            Some(role) => vec![role],
            None if self.spec.split(':').next().is_some_and(|kind| kind.trim() == "script") => ENGINE_ROLES.to_vec(),
            None => vec![Role::Dev],
        }
    }
}

/// Maps engines to roles. A choice that names its role wins over one that does not, then the later one wins.
pub fn by_role(choices: &[EngineChoice]) -> BTreeMap<Role, String> {
    let mut engines = BTreeMap::new();
    for named in [false, true] {
        for choice in choices.iter().filter(|c| c.role.is_some() == named) {
            engines.extend(choice.roles().into_iter().map(|role| (role, absolute_script(&choice.spec))));
        }
    }
    engines
}

/// Makes the path of a script absolute, because the process that plays it may have another working directory. Other
/// engines are returned unchanged.
fn absolute_script(spec: &str) -> String {
    let named =
        spec.split_once(':').filter(|(kind, _)| kind.trim() == "script").map(|(_, path)| Path::new(path.trim()));
    match named.filter(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok()) {
        Some(path) => format!("script: {}", lexical(&path).display()),
        None => spec.to_owned(),
    }
}

impl FromStr for ChangeName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('#') {
            None => run(text).map(ChangeName::OfRun).map_err(|_| CHANGE_FORM.to_owned()),
            Some((project, number)) => match number.parse() {
                Ok(number) if number > 0 && !project.is_empty() => {
                    Ok(ChangeName::Numbered { project: project.to_owned(), number })
                }
                _ => Err(CHANGE_FORM.to_owned()),
            },
        }
    }
}

/// Parses the id of a run, checking its syntax only; `@` is the newest run.
pub fn run(text: &str) -> Result<String, String> {
    if text == super::select::NEWEST {
        return Ok(text.to_owned());
    }
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if hex && (4..=36).contains(&text.len()) {
        Ok(text.to_lowercase())
    } else {
        Err("a run is named by 4 to 32 hexadecimal digits of its id, or @ for the newest; `skep runs` lists the runs"
            .to_owned())
    }
}

/// Parses `t1`; an empty text means the whole run.
pub fn task(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        _ => counted(text, 't').map(|n| format!("t{n}")).ok_or_else(|| "write a task as t1, t2, …".to_owned()),
    }
}

/// Parses `b1`, also as `#b1`.
pub fn block(text: &str) -> Result<String, String> {
    let number = counted(text.trim_start_matches('#'), 'b');
    number.map(|n| format!("b{n}")).ok_or_else(|| "write a question as b1, b2, …".to_owned())
}

/// Parses `a2`.
pub fn attempt(text: &str) -> Result<u32, String> {
    counted(text, 'a').ok_or_else(|| "write an attempt as a1, a2, …".to_owned())
}

fn counted(text: &str, prefix: char) -> Option<u32> {
    text.strip_prefix(prefix)?.parse().ok().filter(|n| *n > 0)
}

/// Parses money above zero, into micro-dollars.
pub fn money(text: &str) -> Result<u64, String> {
    match units::money(text) {
        Ok(0) => Err("the amount is zero; write one above zero, such as \"5 USD\"".to_owned()),
        Ok(micros) => Ok(micros),
        Err(e) => Err(format!("{}; {}", e.why, e.fix)),
    }
}

/// Accepts any text that is not blank.
pub fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("the value is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_made_absolute_or_refused() {
        for url in ["https://example.org/a.git", "ssh://git@host/a", "file:///srv/a.git", "git@host:team/a.git"] {
            assert_eq!(origin(url), Ok(Origin(url.to_owned())));
        }
        assert_eq!(origin("/usr/./lib/../bin"), Ok(Origin("/usr/bin".to_owned())));
        for name in ["my-org/calc", "my-org/team/calc"] {
            assert_eq!(origin(name), Ok(Origin(name.to_owned())));
        }
        let here = std::env::current_dir().unwrap().to_str().unwrap().to_owned();
        assert_eq!(origin("."), Ok(Origin(here)));
        for (bad, why) in [
            ("", "empty"),
            ("http://example.org/a", "https"),
            ("git://example.org/a", "https"),
            ("https://me:secret@example.org/a", "password"),
            ("me:secret@example.org:a", "password"),
            ("//me:secret@example.org/a", "password"),
            ("https://example.org/a?token=secret", "query"),
            ("https://", "no repository path"),
            ("/no/such/place", "exists"),
            ("~/no such", "quotes"),
            ("-x@host:a/b", "exists"),
            ("/dev/null", "not a directory"),
        ] {
            let error = origin(bad).expect_err(bad);
            assert!(error.contains(why) && !error.contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn engines_go_to_their_roles() {
        let read = |texts: &[&str]| by_role(&texts.iter().map(|t| engine(t).unwrap()).collect::<Vec<_>>());
        let command = "command: X=1 make fix";
        assert_eq!(read(&[command]), BTreeMap::from([(Role::Dev, command.to_owned())]));
        let all = read(&["reviewer=direct", "script:demo"]);
        assert_eq!(all.len(), 4);
        assert_eq!(all[&Role::Reviewer], "direct");
        assert_eq!(all[&Role::Dev], "script:demo");
        let here = std::path::absolute("Cargo.toml").unwrap();
        assert_eq!(read(&["dev=script:./Cargo.toml"])[&Role::Dev], format!("script: {}", here.display()));
        for bad in ["", "direct", "dev=direct", "ops=command:x", "boss=direct", "command:", "manager="] {
            assert!(engine(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn changes_are_named_by_number_or_run() {
        let numbered = ChangeName::Numbered { project: "a.b".into(), number: 7 };
        assert_eq!("a.b#7".parse(), Ok(numbered));
        assert_eq!("3F9A12BC".parse(), Ok(ChangeName::OfRun("3f9a12bc".into())));
        for bad in ["a#", "#1", "a#0", "a#x", "abc", "xyzw"] {
            assert!(bad.parse::<ChangeName>().is_err(), "{bad}");
        }
        assert_eq!((block("#b2"), attempt("a3"), task("")), (Ok("b2".into()), Ok(3), Ok(String::new())));
        assert!(block("b0").is_err() && block("2").is_err() && attempt("b1").is_err() && task("t").is_err());
    }
}
