//! Installations of programs on PATH: a directory on PATH is only the front door of an installation, whose other parts
//! its programs need. Virtual environments come with their base interpreter, and links with what they lead to.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Files or directories that identify the root of an installation, which is shown as a whole.
const MARKERS: &[&str] = &[
    // Virtual environments of venv, virtualenv, uv, poetry, pdm, hatch, pipx; environments of conda, mamba, pixi.
    VENV,
    "conda-meta",
    // Node.js, a JDK, Go, Rust, Homebrew.
    "lib/node_modules",
    "lib/jvm.cfg",
    "release",
    "pkg/tool",
    "lib/rustlib",
    "Cellar",
];
/// File that identifies a virtual environment of Python and names its base interpreter.
const VENV: &str = "pyvenv.cfg";
/// Parts of any other installation that its programs may need.
const PARTS: &[&str] = &["include", "lib", "lib64", "libexec"];
/// Names of directories with programs.
const BIN: &[&str] = &["bin", "sbin", "shims", "condabin"];

/// Directories of the system, which are visible anyway and whose links lead to each other.
const SYSTEM_BIN: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin"];
/// Maximum number of entries of a directory on PATH whose links are followed.
const ENTRIES_MAX: usize = 5_000;
/// Maximum number of installations that one leads to: an environment, its base, the base's base.
const CHAIN_MAX: usize = 4;
/// Maximum size of a configuration of an environment, in bytes.
const CONFIG_MAX: u64 = 64 * 1024;

/// Returns the paths that the programs in these directories of PATH need, the directories included. The caller decides
/// which of them may be shown.
pub fn of_path(dirs: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found = Found::default();
    for dir in dirs {
        found.add_bin(&dir, CHAIN_MAX);
        if !SYSTEM_BIN.iter().any(|system| dir == Path::new(system)) {
            found.add_links(&dir);
        }
    }
    found.paths
}

/// Returns the paths that a virtual environment needs, if `root` is one.
pub fn of_environment(root: &Path) -> Option<Vec<PathBuf>> {
    if !root.join(VENV).is_file() || !has_python(root) {
        return None;
    }
    let mut found = Found::default();
    found.add_bin(&root.join("bin"), CHAIN_MAX);
    Some(found.paths)
}

/// Returns the directories, relative to `origin`, from which a project was installed into its virtual environment. What
/// the environment has of it is not what is in a checkout, so the checkout's own directories must come first.
pub fn sources(environment: &Path, origin: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let lib = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten().take(ENTRIES_MAX);
    for packages in lib.map(|entry| entry.path().join("site-packages")) {
        for entry in std::fs::read_dir(packages).into_iter().flatten().flatten().take(ENTRIES_MAX) {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let of_origin = |path: PathBuf| path.strip_prefix(origin).ok().map(Path::to_owned);
            match extension {
                // Lines of paths, which an editable installation adds to the search path.
                Some("pth") => found.extend(small_text(&path).iter().flat_map(|text| {
                    text.lines().filter_map(|line| of_origin(line.trim().into())).collect::<Vec<_>>()
                })),
                Some("dist-info") => {
                    let url = small_text(&path.join("direct_url.json")).and_then(|text| installed_from(&text));
                    if let Some(root) = url.and_then(of_origin) {
                        found.insert(root.join("src"));
                        found.insert(root);
                    }
                }
                _ => {}
            }
        }
    }
    found.retain(|path| path.components().all(|part| matches!(part, Component::Normal(_))));
    found.into_iter().rev().collect()
}

/// Returns the directory that a package's record of its origin names.
fn installed_from(record: &str) -> Option<PathBuf> {
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    let path = record.get("url")?.as_str()?.strip_prefix("file://")?;
    Some(PathBuf::from(percent_encoding::percent_decode_str(path).decode_utf8().ok()?.into_owned()))
}

fn small_text(path: &Path) -> Option<String> {
    let is_small = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_MAX);
    if is_small { std::fs::read_to_string(path).ok() } else { None }
}

#[derive(Default)]
struct Found {
    paths: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Found {
    fn add(&mut self, path: PathBuf) {
        if self.seen.insert(path.clone()) {
            self.paths.push(path);
        }
    }

    /// Adds a directory with programs and the installation around it.
    fn add_bin(&mut self, bin: &Path, chain: usize) {
        let Some(left) = chain.checked_sub(1) else { return };
        let root = bin.parent().filter(|_| bin.file_name().is_some_and(|name| BIN.iter().any(|b| name == *b)));
        let whole = root.and_then(whole_package).or_else(|| whole_package(bin));
        match (whole, root) {
            (Some(whole), _) => self.add(whole),
            (None, Some(root)) if MARKERS.iter().any(|marker| root.join(marker).exists()) => self.add(root.to_owned()),
            (None, root) => {
                self.add(bin.to_owned());
                for part in root.into_iter().flat_map(|root| PARTS.iter().map(move |part| root.join(part))) {
                    if part.is_dir() {
                        self.add(part);
                    }
                }
            }
        }
        // The directory may itself be a link into an installation (`current`), which programs find by its real path.
        if let Some(real) = bin.canonicalize().ok().filter(|real| real != bin) {
            self.add_bin(&real, left);
        }
        if let Some(base) = root.and_then(base_interpreter) {
            self.add_bin(&base, left);
        }
    }

    /// Adds what the links in a directory on PATH lead to: tools that an installer keeps elsewhere.
    fn add_links(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES_MAX) {
            if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            let Ok(target) = entry.path().canonicalize() else { continue };
            let Some(parent) = target.parent().filter(|parent| *parent != dir && target.is_file()) else { continue };
            if self.seen.iter().any(|seen| target.starts_with(seen)) {
                continue;
            }
            let root = parent.parent().filter(|_| parent.file_name().is_some_and(|name| name == "bin"));
            match root.filter(|root| MARKERS.iter().any(|marker| root.join(marker).exists())) {
                Some(_) => self.add_bin(parent, CHAIN_MAX),
                None => match whole_package(&target) {
                    Some(package) => self.add(package),
                    // A single program; what else lies beside it is not its concern.
                    None => self.add(target),
                },
            }
        }
    }
}

/// Returns the directory that a path belongs to and that is shown as a whole: of a package in `/opt`, or of packages of
/// Node.js, which load each other's files.
fn whole_package(path: &Path) -> Option<PathBuf> {
    if let Some(packages) = path.ancestors().filter(|dir| dir.file_name().is_some_and(|n| n == "node_modules")).last() {
        return Some(packages.to_owned());
    }
    match path.strip_prefix("/opt").ok()?.components().next() {
        Some(Component::Normal(package)) => Some(Path::new("/opt").join(package)),
        _ => None,
    }
}

/// Returns the `bin` directory of a virtual environment's base interpreter. A directory without an interpreter is not
/// one, whatever the configuration says.
fn base_interpreter(root: &Path) -> Option<PathBuf> {
    let text = small_text(&root.join(VENV))?;
    let home = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| PathBuf::from(value.trim()))
    })?;
    let has_library = home.parent().is_some_and(has_library);
    (home.is_absolute() && has_library && home.parent().is_some_and(has_python)).then_some(home)
}

fn has_python(root: &Path) -> bool {
    ["python3", "python"].iter().any(|name| root.join("bin").join(name).is_file())
}

/// Returns whether a directory contains Python's standard library.
fn has_library(root: &Path) -> bool {
    let lib = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    lib.take(ENTRIES_MAX)
        .any(|e| e.file_name().to_string_lossy().starts_with("python") && e.path().join("os.py").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn file(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn python(root: &Path) {
        file(root.join("bin/python3"));
        file(root.join("lib/python3.12/os.py"));
    }

    fn environment(root: &Path, home: &Path) {
        file(root.join("bin/pytest"));
        symlink(home.join("python3"), root.join("bin/python3")).unwrap();
        fs::write(root.join(VENV), format!("home = {}\nversion = 3.12.1\n", home.display())).unwrap();
    }

    #[test]
    fn a_virtual_environment_comes_whole_and_with_its_base() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (base, venv) = (root.join("pythons/3.12"), root.join("project/.venv"));
        python(&base);
        environment(&venv, &base.join("bin"));
        let expected = [venv.clone(), base.join("bin"), base.join("lib")];
        assert_eq!(of_environment(&venv).unwrap(), expected);
        assert!(of_path([venv.join("bin")].into_iter()).starts_with(&expected));
        // An environment made in another one leads to that one's base.
        let second = root.join("second");
        environment(&second, &venv.join("bin"));
        assert!(!of_path([second.join("bin")].into_iter()).contains(&venv), "{venv:?} has no library of its own");
        assert_eq!(of_environment(&root.join("project")), None);
    }

    #[test]
    fn a_configuration_cannot_name_any_directory_as_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let (venv, secret) = (dir.path().join("venv"), dir.path().join("secret"));
        file(secret.join("bin/key"));
        for home in [secret.join("bin"), secret.clone(), "relative".into()] {
            environment(&venv, &home);
            let shown = of_path([venv.join("bin")].into_iter());
            assert!(shown.iter().all(|path| path.starts_with(&venv)), "{shown:?}");
            fs::remove_dir_all(&venv).unwrap();
        }
    }

    #[test]
    fn the_sources_of_an_installed_project_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (origin, venv) = (dir.path().join("my project"), dir.path().join("my project/.venv"));
        let packages = venv.join("lib/python3.12/site-packages");
        file(packages.join("other/x"));
        assert_eq!(sources(&venv, &origin), Vec::<PathBuf>::new());
        fs::write(packages.join("_editable.pth"), format!("import x\n{}/lib\n/elsewhere\n", origin.display())).unwrap();
        file(packages.join("one-1.0.dist-info/direct_url.json"));
        let url = format!("file://{}/packages/one", origin.display().to_string().replace(' ', "%20"));
        let record = serde_json::json!({"dir_info": {"editable": true}, "url": url}).to_string();
        fs::write(packages.join("one-1.0.dist-info/direct_url.json"), record).unwrap();
        assert_eq!(sources(&venv, &origin), ["packages/one/src", "packages/one", "lib"].map(PathBuf::from));
        fs::write(packages.join("up.pth"), format!("{}/../../etc\n", origin.display())).unwrap();
        assert_eq!(sources(&venv, &origin).len(), 3, "nothing leads out of the project");
    }

    #[test]
    fn installations_are_recognized() {
        for marker in
            ["conda-meta/history", "lib/node_modules/npm/x", "release", "pkg/tool/x", "lib/rustlib/x", "Cellar/x"]
        {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            file(root.join("tool/bin/program"));
            file(root.join("tool").join(marker));
            assert_eq!(of_path([root.join("tool/bin")].into_iter()), [root.join("tool")], "{marker}");
            // As version managers do it: a link to the version in use.
            symlink(root.join("tool"), root.join("current")).unwrap();
            let linked = of_path([root.join("current/bin")].into_iter());
            assert_eq!(linked, [root.join("current"), root.join("tool")], "{marker}");
        }
    }

    #[test]
    fn of_anything_else_only_programs_and_libraries_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["bin/program", "lib/library", "share/secret", "secret"] {
            file(root.join(path));
        }
        assert_eq!(of_path([root.join("bin")].into_iter()), [root.join("bin"), root.join("lib")]);
        assert_eq!(of_path([root.join("lib")].into_iter()), [root.join("lib")]);
    }

    #[test]
    fn a_program_of_node_comes_with_all_packages_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["node_modules/pnpm/bin/pnpm.cjs", "node_modules/pnpm/dist/pnpm.cjs", "secret"] {
            file(root.join(path));
        }
        for bin in ["node_modules/.bin", "local"] {
            fs::create_dir_all(root.join(bin)).unwrap();
            symlink(root.join("node_modules/pnpm/bin/pnpm.cjs"), root.join(bin).join("pnpm")).unwrap();
        }
        let packages = root.join("node_modules");
        assert_eq!(of_path([root.join("local")].into_iter()), [root.join("local"), packages.clone()]);
        assert_eq!(of_path([root.join("node_modules/.bin")].into_iter()), [packages]);
    }

    #[test]
    fn links_lead_to_tools_kept_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let base = root.join("python");
        python(&base);
        environment(&root.join("tools/black"), &base.join("bin"));
        file(root.join("versions/1.0/agent"));
        file(root.join("versions/1.0/secret"));
        fs::create_dir_all(root.join("local/bin")).unwrap();
        symlink(root.join("tools/black/bin/pytest"), root.join("local/bin/black")).unwrap();
        symlink(root.join("versions/1.0/agent"), root.join("local/bin/agent")).unwrap();
        symlink(root.join("nowhere"), root.join("local/bin/broken")).unwrap();
        let mut shown = of_path([root.join("local/bin")].into_iter());
        shown.sort();
        let expected = ["local/bin", "python/bin", "python/lib", "tools/black", "versions/1.0/agent"];
        assert_eq!(shown, expected.map(|path| root.join(path)));
    }
}
