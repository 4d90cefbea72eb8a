//! Files that decide what the checks run: a change of one can make every check green, so that a person should see it.

use super::command_files::may_run;
use crate::domain::change::{FileChange, FileKind};
use crate::domain::check::CheckSpec;

/// Names of files, in lower case, that configure a test runner, a linter, a build tool or a package manager with scripts,
/// or list dependencies: their code runs in the tests. Lock files are left out, as honest work changes them every day.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    // tasks
    "makefile", "gnumakefile", "justfile", ".justfile", "rakefile", "dangerfile", "earthfile", "procfile", "magefile.go", "sconstruct", "sconscript",
    "wscript", "build.xml", "pants.toml", "xmake.lua",
    // Python
    "pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "tox.toml", "noxfile.py", "hatch.toml", "pytest.ini", ".pytest.ini",
    "pytest.toml", "conftest.py", "sitecustomize.py", "usercustomize.py", ".coveragerc", "manage.py", "pipfile", "pip.conf", "uv.toml",
    "ruff.toml", ".ruff.toml", ".flake8", "mypy.ini", ".mypy.ini", ".pylintrc", "pylintrc", "pyrightconfig.json",
    // JavaScript
    "package.json", ".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs", "deno.json", "deno.jsonc", "bunfig.toml", "turbo.json", "nx.json",
    "lerna.json", "project.json", "biome.json", "biome.jsonc",
    // Rust and Go
    "cargo.toml", "build.rs", "nextest.toml", "clippy.toml", ".clippy.toml", "rustfmt.toml", ".rustfmt.toml", "deny.toml", "go.mod", "go.work",
    // the JVM
    "pom.xml", "mvnw", "mvnw.cmd", "gradlew", "gradlew.bat", "gradle.properties", "gradle-wrapper.properties", "gradle-wrapper.jar",
    "libs.versions.toml", "build.sbt", "build.sc", "build.mill", "project.clj", "deps.edn", "checkstyle.xml", "detekt.yml",
    // C and C++
    "cmakelists.txt", "cmakepresets.json", "meson.build", "meson_options.txt", "meson.options", "configure", "configure.ac", "makefile.am",
    "makefile.in", "ctesttestfile.cmake", ".clang-tidy",
    // Bazel
    "build", "build.bazel", "module.bazel", "workspace", "workspace.bazel", ".bazelrc",
    // others
    "gemfile", ".rspec", "spec_helper.rb", "rails_helper.rb", ".rubocop.yml", "composer.json", "mix.exs", ".credo.exs", "rebar.config", "global.json",
    "nuget.config", "package.swift", ".swiftlint.yml", "pubspec.yaml", "analysis_options.yaml", "dune-project", "build.zig", "stack.yaml",
    ".shellcheckrc", ".yamllint", ".env",
];

/// Beginnings of names of files, in lower case, whose endings vary.
#[rustfmt::skip]
const BEGINNINGS: &[&str] = &[
    "taskfile.", "jest.config.", "jest.setup.", "vitest.", "vite.config.", "babel.config.", ".babelrc", ".mocharc", "karma.conf.", "playwright.config.",
    "cypress.config.", "ava.config.", ".nycrc", ".yarnrc", ".taprc", "wdio.conf.", "rust-toolchain", ".python-version", ".tool-versions",
    "build.gradle", "settings.gradle", "phpunit.", "phpunit-", ".phpunit", "directory.build.", "directory.packages.", "test_helper.", "mise.", ".mise.",
    "gulpfile.", "gruntfile.", "webpack.config.", "rollup.config.", "eslint.config.", ".eslintrc", ".eslintignore", ".prettierrc", "prettier.config.",
    ".prettierignore", ".stylelintrc", "stylelint.config.", ".golangci.", "phpstan.neon", "phpcs.xml", "psalm.xml",
];

/// Beginnings and endings of names of files, in lower case.
const FRAMES: &[(&str, &str)] = &[
    ("requirements", ".txt"),
    ("requirements", ".in"),
    ("constraints", ".txt"),
    ("constraints", ".in"),
    ("tsconfig", ".json"),
    ("jsconfig", ".json"),
];

/// Endings of names of files, in lower case.
#[rustfmt::skip]
const ENDINGS: &[&str] = &[
    ".mk", ".cmake", ".gradle", ".gradle.kts", ".sbt", ".rake", ".gemspec", ".csproj", ".fsproj", ".vbproj", ".sln", ".slnx", ".props", ".targets",
    ".runsettings", ".bzl", ".pth", ".cabal",
];

/// Folders, in lower case, that hold programs or settings of the tools that checks start.
const FOLDERS: &[&str] =
    &["node_modules", ".cargo", ".mvn", ".yarn", ".bundle", "buildsrc", ".venv", "venv", "site-packages"];

/// Folders, in lower case, with helper scripts, which the scripts of checks and build tools call.
const HELPER_FOLDERS: &[&str] = &["bin", "ci", ".ci", "hack", "script", "scripts", "tools"];
/// Endings of shell scripts.
const SHELL_ENDINGS: &[&str] = &[".sh", ".bash", ".zsh", ".ps1", ".bat", ".cmd"];
/// First words of the names of scripts that check something.
const CHECKING: &[&str] = &["check", "checks", "ci", "lint", "test", "tests", "unit", "verify"];
/// Endings of documents.
const DOCUMENTS: &[&str] = &[".md", ".rst", ".txt", ".adoc"];

/// Modules of Python that test runners load. A new file of this name beside the tests is loaded instead.
#[rustfmt::skip]
const PYTHON_MODULES: &[&str] = &[
    "abc", "argparse", "ast", "asyncio", "bdb", "builtins", "code", "codecs", "collections", "configparser", "contextlib", "copy", "coverage", "dataclasses",
    "datetime", "difflib", "doctest", "enum", "faulthandler", "fnmatch", "functools", "gc", "genericpath", "getopt", "glob", "hashlib", "heapq", "importlib",
    "inspect", "io", "iniconfig", "itertools", "json", "keyword", "linecache", "locale", "logging", "math", "numbers", "operator", "optparse", "os",
    "packaging", "pathlib", "pdb", "pickle", "pkgutil", "platform", "pluggy", "posixpath", "pprint", "pytest", "queue", "random", "re", "reprlib", "runpy",
    "shlex", "shutil", "signal", "site", "socket", "stat", "string", "struct", "subprocess", "sysconfig", "tempfile", "textwrap", "threading", "time",
    "token", "tokenize", "traceback", "types", "typing", "unittest", "uuid", "warnings", "weakref", "xml", "zipfile", "zipimport",
];

/// Returns whether a changed file decides what the checks run: by its name, because a check's command runs it, or
/// because it is loaded instead of a module of the test runner.
pub fn decides_checks(file: &FileChange, checks: &[CheckSpec]) -> bool {
    // Some file systems ignore case.
    let path = file.path.to_lowercase();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    NAMES.contains(&name)
        || BEGINNINGS.iter().any(|b| name.starts_with(b))
        || ENDINGS.iter().any(|e| name.ends_with(e))
        || FRAMES.iter().any(|(b, e)| name.starts_with(b) && name.ends_with(e))
        || folder.ends_with("requirements") && name.ends_with(".txt")
        || is_helper(folder, name)
        || folder.split('/').any(|part| FOLDERS.contains(&part))
        || shadows_module(file, &path, checks)
        || checks.iter().any(|check| may_run(&check.command, &file.path))
}

/// Returns whether a script may be called by the one that a check runs. The domain sees no contents, so the folder and
/// the name decide.
fn is_helper(folder: &str, name: &str) -> bool {
    let first = name.split(['.', '-', '_']).next().unwrap_or(name);
    let checks = CHECKING.contains(&first) && !DOCUMENTS.iter().any(|e| name.ends_with(e));
    folder.split('/').any(|part| HELPER_FOLDERS.contains(&part))
        && (checks || SHELL_ENDINGS.iter().any(|e| name.ends_with(e)))
}

/// Returns whether a new file is a module that a Python program would load instead of its own.
fn shadows_module(file: &FileChange, path: &str, checks: &[CheckSpec]) -> bool {
    if file.kind != FileKind::Added {
        return false;
    }
    let module = |path: &str| path.strip_suffix("/__init__.py").or_else(|| path.strip_suffix(".py")).map(str::to_owned);
    let Some(module) = module(path) else { return false };
    // Programs search the folder they are started in, that of the tests, and the one of sources.
    let stem = ["tests/", "test/", "src/"].iter().find_map(|f| module.strip_prefix(f)).unwrap_or(&module);
    let run_as_module = |check: &CheckSpec| {
        let mut words = check.command.split_whitespace();
        words.any(|word| word == "-m") && words.next().is_some_and(|m| m == stem)
    };
    PYTHON_MODULES.contains(&stem) || checks.iter().any(run_as_module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::CheckKind;

    fn decides(path: &str, kind: FileKind) -> bool {
        let checks = ["python3 -m mylib.testing", "./scripts/ci.sh --fast"].map(|command| CheckSpec {
            name: "a".to_owned(),
            kind: CheckKind::Test,
            command: command.to_owned(),
            timeout_secs: 1,
            junit: None,
            runner: None,
            detected: false,
        });
        let file = FileChange { path: path.to_owned(), kind, added: 1, removed: 1, binary: false, blob: None };
        decides_checks(&file, &checks)
    }

    #[test]
    fn configuration_of_runners_scripts_of_checks_and_shadowed_modules_decide() {
        for path in [
            "package.json",
            "web/Package.JSON",
            "Makefile",
            "tests/conftest.py",
            "jest.config.ts",
            "app/build.gradle.kts",
            "a.csproj",
            ".cargo/config.toml",
            "node_modules/jest/index.js",
            "scripts/ci.sh",
            "a.pth",
            "scripts/unit.sh",
            "bin/test",
            "tools/check-all.py",
            ".ci/lint.js",
            "mylib/testing.py",
            "gradle/wrapper/gradle-wrapper.properties",
            "go.mod",
            "requirements-dev.txt",
            "requirements/base.txt",
            "constraints.txt",
            "eslint.config.mjs",
            "web/.eslintrc.json",
            "ruff.toml",
            ".flake8",
            "mypy.ini",
            ".golangci.yml",
            ".rubocop.yml",
            "phpstan.neon.dist",
            "biome.json",
            "tsconfig.base.json",
            ".clang-tidy",
            "gulpfile.js",
            "Gruntfile.js",
            "SConstruct",
            "wscript",
            "magefile.go",
            "Taskfile.yaml",
        ] {
            assert!(decides(path, FileKind::Modified), "{path}");
        }
        for path in ["unittest.py", "tests/json.py", "pytest/__init__.py", "src/typing.py"] {
            assert!(decides(path, FileKind::Added), "{path}");
        }
        for path in [
            "src/lib.rs",
            "README.md",
            "src/app/types.py",
            "scripts/ci.sh.md",
            "docs/makefile.md",
            "requirements.rs",
            "src/bin/checkout.rs",
            "bin/tool",
            "docs/tsconfig.md",
            "install.sh",
            "Cargo.lock",
        ] {
            assert!(!decides(path, FileKind::Added), "{path}");
        }
        assert!(!decides("types.py", FileKind::Modified), "a module that was there before is the project's own");
    }
}
