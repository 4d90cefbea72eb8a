//! Package caches of the host for commands without network access: what a package manager has downloaded outside, a
//! command can install. Downloaded parts of build tools are there for every command.
//!
//! A package manager expects to be able to write to its cache. Each command's cache therefore gets real directories with
//! links to the host's files, which are visible and read-only.

use super::Job;
use super::toolchain_cache::{Linked, link};
use super::tree;
use crate::platform::rooted_fs::RootedDir;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Markers in the command's cache, outside what commands can write to: all links were made, those to build tools were.
const MADE: &str = "packages-linked";
const TOOLS_MADE: &str = "build-tools-linked";
/// Maximum number of links of all caches together.
const LINKS_MAX: usize = 200_000;
/// Upper bounds on the directories that are searched for a project file, and on the entries of each.
const FOLDERS_MAX: usize = 1_000;
const ENTRIES_MAX: usize = 10_000;
/// Directories that hold no project of the repository.
const LEFT_OUT: &[&str] = &[".git", "node_modules"];

/// Cache of one package manager.
struct PackageCache {
    /// Host variable with its location, if there is one.
    variable: Option<&'static str>,
    /// Location in the real home.
    beneath_home: &'static str,
    /// Location in the cache of the command's purpose.
    target: &'static str,
    /// Linked parts, each with the depth down to which directories are real. "" = all of it.
    parts: &'static [(&'static str, usize)],
    /// Beginnings of names of the files by which a project is recognized that uses it.
    projects: &'static [&'static str],
}

const JAVASCRIPT: &[&str] = &["package.json"];
const PYTHON: &[&str] = &["pyproject.toml", "requirements", "setup.py", "setup.cfg", "uv.lock"];

/// The package caches that commands without network access may use.
const PACKAGE_CACHES: &[PackageCache] = &[
    PackageCache {
        variable: Some("npm_config_cache"),
        beneath_home: ".npm",
        target: "npm",
        parts: &[("_cacache/content-v2", 0), ("_cacache/index-v5", 0)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: None,
        beneath_home: ".local/share/pnpm/store",
        target: "home/.local/share/pnpm/store",
        parts: &[("", 3)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: None,
        beneath_home: ".cache/pnpm",
        target: "home/.cache/pnpm",
        parts: &[("", 3)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: Some("YARN_CACHE_FOLDER"),
        beneath_home: ".cache/yarn",
        target: "home/.cache/yarn",
        parts: &[("", 2)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: None,
        beneath_home: ".yarn/berry",
        target: "home/.yarn/berry",
        parts: &[("cache", 1), ("index", 1)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: Some("BUN_INSTALL_CACHE_DIR"),
        beneath_home: ".bun/install/cache",
        target: "home/.bun/install/cache",
        parts: &[("", 1)],
        projects: JAVASCRIPT,
    },
    PackageCache {
        variable: Some("UV_CACHE_DIR"),
        beneath_home: ".cache/uv",
        target: "uv",
        parts: &[("", 2)],
        projects: PYTHON,
    },
    PackageCache {
        variable: Some("PIP_CACHE_DIR"),
        beneath_home: ".cache/pip",
        target: "pip",
        parts: &[("wheels", 0), ("http", 0), ("http-v2", 0)],
        projects: PYTHON,
    },
    PackageCache {
        variable: Some("POETRY_CACHE_DIR"),
        beneath_home: ".cache/pypoetry",
        target: "home/.cache/pypoetry",
        parts: &[("cache", 2), ("artifacts", 1)],
        projects: PYTHON,
    },
    PackageCache {
        variable: Some("COMPOSER_CACHE_DIR"),
        beneath_home: ".cache/composer",
        target: "home/.cache/composer",
        parts: &[("files", 2), ("repo", 1)],
        projects: &["composer.json"],
    },
    PackageCache {
        variable: None,
        beneath_home: ".m2/repository",
        target: "home/.m2/repository",
        parts: &[("", 16)],
        projects: &["pom.xml"],
    },
];

/// Parts of build tools that every command may use, also one that may download: a second download would take minutes.
const BUILD_TOOLS: &[PackageCache] = &[PackageCache {
    variable: Some("GRADLE_USER_HOME"),
    beneath_home: ".gradle",
    target: "gradle",
    parts: &[("wrapper/dists", 3)],
    projects: &["build.gradle", "settings.gradle", "gradlew"],
}];

/// All caches, in the order of [`HostCaches::found`].
fn all() -> impl Iterator<Item = &'static PackageCache> {
    PACKAGE_CACHES.iter().chain(BUILD_TOOLS)
}

/// Where Gradle keeps downloaded packages, below its home. Gradle reads a second, read-only cache by itself.
const GRADLE_CACHES: &str = "caches";
const GRADLE_HOME: &str = ".gradle";

impl PackageCache {
    /// Returns its directory on the host.
    fn on_host(&self, from: &BTreeMap<OsString, OsString>, home: Option<&Path>) -> Option<PathBuf> {
        let named = self.variable.and_then(|name| from.get(OsStr::new(name))).map(PathBuf::from);
        named.or_else(|| Some(home?.join(self.beneath_home))).filter(|dir| dir.is_absolute() && dir.is_dir())
    }
}

/// The package caches of this host.
#[derive(Clone, Default)]
pub struct HostCaches {
    /// Directory on the host of each cache of [`all`].
    found: Vec<Option<PathBuf>>,
    /// Packages that Gradle has downloaded.
    gradle: Option<PathBuf>,
}

impl HostCaches {
    /// Finds the caches in an environment.
    pub fn find(from: &BTreeMap<OsString, OsString>, home: Option<&Path>) -> HostCaches {
        let gradle = from.get(OsStr::new("GRADLE_USER_HOME")).map(PathBuf::from);
        let gradle = gradle.or_else(|| Some(home?.join(GRADLE_HOME))).map(|dir| dir.join(GRADLE_CACHES));
        HostCaches {
            found: all().map(|cache| cache.on_host(from, home)).collect(),
            gradle: gradle.filter(|dir| dir.join("modules-2").is_dir()),
        }
    }

    /// Lists the paths that commands must be able to read.
    pub fn paths(&self) -> Vec<PathBuf> {
        let parts = all().zip(&self.found).filter_map(|(cache, found)| Some((cache, found.as_ref()?)));
        let part = |(cache, dir): (&PackageCache, &PathBuf)| -> Vec<PathBuf> {
            cache.parts.iter().map(|(part, _)| if part.is_empty() { dir.clone() } else { dir.join(part) }).collect()
        };
        let mut paths: Vec<PathBuf> = parts.flat_map(part).collect();
        paths.extend(self.gradle.clone());
        paths
    }

    /// Returns the variables by which package managers find a read-only cache.
    pub fn environment(&self) -> Option<(&'static str, OsString)> {
        Some(("GRADLE_RO_DEP_CACHE", self.gradle.clone()?.into()))
    }

    /// Links the caches that the project in the job's directory may use, once for each command's cache.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn make(&self, job: &Job<'_>, user: Option<(u32, u32)>) -> io::Result<()> {
        let may_download = job.proxy.is_some();
        let marker = job.cache.join(if may_download { TOOLS_MADE } else { MADE });
        if marker.exists() || job.cache.join(MADE).exists() {
            return Ok(());
        }
        let names = project_files(job.dir);
        let cache = RootedDir::open(job.cache)?;
        let mut left = LINKS_MAX;
        let skipped = if may_download { PACKAGE_CACHES.len() } else { 0 };
        for (package_cache, found) in all().zip(&self.found).skip(skipped) {
            let Some(from) = found else { continue };
            if !uses(&names, package_cache.projects) {
                continue;
            }
            // Created where no command can put a link in the way, then moved without following one.
            let staging = tempfile::Builder::new().prefix("packages-").tempdir_in(job.cache)?;
            let made = staging.path().join("made");
            std::fs::create_dir(&made)?;
            for (part, depth) in package_cache.parts {
                let linked = Linked { depth: *depth, other_user: user.is_some() };
                link(&from.join(part), &made.join(part), linked, &mut left)?;
            }
            if let Some(user) = user {
                tree::give(&made, user)?;
            }
            move_in(&cache, job, &staging, package_cache.target);
        }
        std::fs::write(marker, "")
    }
}

/// Moves a staged cache to its place. What base commits left there stays.
fn move_in(cache: &RootedDir, job: &Job<'_>, staging: &tempfile::TempDir, target: &str) {
    let Some(staged) = staging.path().file_name().and_then(OsStr::to_str) else { return };
    let target = format!("{}/{target}", job.purpose.dir_name());
    let moved = cache.move_dir(&format!("{staged}/made"), &target);
    if let Err(why) = moved {
        tracing::debug!(%why, "a package cache of the host is not linked");
    }
}

/// Returns the names of the files in a directory and in those below it, the nearest ones first.
pub fn project_files(dir: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX) {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match entry.file_name().into_string() {
                Ok(name) if !is_dir => names.push(name),
                Ok(name) if !LEFT_OUT.contains(&name.as_str()) && folders.len() < FOLDERS_MAX => {
                    folders.push(entry.path());
                }
                _ => {}
            }
        }
    }
    names
}

/// Returns whether a project with these files uses what projects with such files use; an empty list fits every project.
pub fn uses(names: &[String], projects: &[&str]) -> bool {
    projects.is_empty() || projects.iter().any(|project| names.iter().any(|name| name.starts_with(project)))
}

/// Variables that make package managers fail at once instead of trying to reach a host again and again, and use what
/// they have.
#[rustfmt::skip]
pub const OFFLINE: &[(&str, &str)] = &[
    ("BUNDLE_RETRY", "0"),
    ("CARGO_NET_OFFLINE", "true"),
    ("COMPOSER_DISABLE_NETWORK", "1"),
    ("COREPACK_ENABLE_NETWORK", "0"),
    ("GOPROXY", "off"),
    ("HEX_OFFLINE", "1"),
    ("MAVEN_ARGS", "--offline"),
    ("MISE_OFFLINE", "1"),
    ("PIP_RETRIES", "0"),
    ("POETRY_REQUESTS_MAX_RETRIES", "0"),
    ("RUSTUP_AUTO_INSTALL", "0"),
    ("UV_OFFLINE", "1"),
    ("YARN_ENABLE_NETWORK", "0"),
    ("npm_config_offline", "true"),
];

/// Keeps pnpm from downloading the version of itself that a project asks for. Only for projects of pnpm: npm prints a
/// warning about a setting it does not know.
pub const PNPM_OFFLINE: (&str, &str) = ("npm_config_manage_package_manager_versions", "false");

/// Returns whether pnpm installs the packages of the project in `dir`.
pub fn is_pnpm_project(dir: &Path) -> bool {
    ["pnpm-lock.yaml", "pnpm-workspace.yaml"].iter().any(|file| dir.join(file).exists())
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_project_is_recognized_by_files_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a/b/c/d", "node_modules/x", ".git"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["a/b/c/d/Cargo.toml", "node_modules/x/package.json", ".git/setup.py"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let names = project_files(dir.path());
        assert!(uses(&names, &["Cargo.toml"]) && uses(&names, &[]));
        assert!(!uses(&names, JAVASCRIPT) && !uses(&names, PYTHON));
    }

    #[test]
    fn a_setting_of_pnpm_is_only_for_its_projects() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("package-lock.json"), "").unwrap();
        assert!(!is_pnpm_project(dir.path()));
        assert!(OFFLINE.iter().all(|(name, _)| *name != PNPM_OFFLINE.0));
        fs::write(dir.path().join("pnpm-lock.yaml"), "").unwrap();
        assert!(is_pnpm_project(dir.path()));
    }

    #[test]
    fn only_the_caches_a_project_may_use_are_linked_and_never_through_a_planted_link() {
        let root = tempfile::tempdir().unwrap();
        let (home, dir, outside) = (root.path().join("home"), root.path().join("tree"), root.path().join("outside"));
        for folder in
            [".npm/_cacache/content-v2/x", ".npm/_cacache/tmp", ".m2/repository/org/a", ".cache/uv/archive-v0/y"]
        {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        fs::write(home.join(".m2/repository/org/a/a.jar"), "jar").unwrap();
        fs::write(home.join(".m2/repository/org/a/a.jar.lock"), "").unwrap();
        fs::create_dir_all(dir.join("web")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(dir.join("web/package.json"), "{}").unwrap();
        fs::write(dir.join("pom.xml"), "").unwrap();
        let caches = HostCaches::find(&BTreeMap::new(), Some(&home));
        let make = |cache: &Path| {
            fs::create_dir_all(cache.join("check/home")).unwrap();
            let job = Job {
                command: "",
                purpose: Purpose::Check,
                origin: None,
                dir: &dir,
                cache,
                scratch: cache,
                env: &[],
                timeout: Duration::ZERO,
                max_output: 0,
                proxy: None,
            };
            caches.make(&job, None).unwrap();
        };
        let first = root.path().join("first");
        make(&first);
        let is_link = |path: &str| fs::symlink_metadata(first.join("check").join(path)).unwrap().is_symlink();
        assert!(is_link("npm/_cacache/content-v2") && !is_link("npm/_cacache"));
        assert!(is_link("home/.m2/repository/org/a/a.jar") && !is_link("home/.m2/repository/org/a"));
        assert!(!first.join("check/home/.m2/repository/org/a/a.jar.lock").exists());
        assert!(!first.join("check/uv").exists(), "not a Python project");
        assert!(caches.paths().contains(&home.join(".npm/_cacache/content-v2")));
        // What is in a copied cache may be a link that a command has made.
        let second = root.path().join("second");
        fs::create_dir_all(second.join("check/home")).unwrap();
        std::os::unix::fs::symlink(&outside, second.join("check/home/.m2")).unwrap();
        make(&second);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(second.join("check/npm/_cacache").exists());
    }
}
