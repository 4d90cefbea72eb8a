//! Which checks are detected in which repositories.

use skep::adapters::checks::detect::{Detected, detect, wanted};
use skep::domain::check::CheckKind;

fn found(files: &[(&str, &str)]) -> Detected {
    let paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    // Only what is asked for is read.
    let wanted = wanted(&paths);
    let texts = files.iter().filter(|(path, _)| wanted.iter().any(|w| w == path));
    let found = detect(&paths, &texts.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect());
    assert!(found.checks.windows(2).all(|w| w[0].kind <= w[1].kind), "setup checks come first");
    assert!(found.checks.iter().all(|c| c.timeout_secs == 600 && c.kind != CheckKind::Scan));
    let mut names: Vec<_> = found.checks.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), found.checks.len(), "names are unique");
    found
}

fn commands(files: &[(&str, &str)]) -> Vec<String> {
    found(files).checks.into_iter().map(|c| c.command).collect()
}

fn names(files: &[(&str, &str)]) -> Vec<String> {
    found(files).checks.into_iter().map(|c| c.name).collect()
}

#[test]
fn rust() {
    assert_eq!(commands(&[("Cargo.toml", "[package]")]), ["cargo test"]);
    assert_eq!(commands(&[("Cargo.toml", "# [workspace]\n[package]")]), ["cargo test"]);
    for text in ["[workspace] # all\nmembers = []", "workspace.members = []", "\u{feff}[workspace.package]"] {
        assert_eq!(commands(&[("Cargo.toml", text)]), ["cargo test --workspace"], "{text}");
    }
    assert_eq!(commands(&[("Makefile", "test:\n"), ("Cargo.toml", "")]), ["cargo test"]);
}

#[test]
fn go_tests_every_module() {
    assert_eq!(commands(&[("go.mod", "module x")]), ["go test ./..."]);
    let work = "go 1.22\n\nuse (\n\t./a\n\t./b/c // two\n)\nuse ./d\n";
    assert_eq!(commands(&[("go.work", work), ("a/go.mod", "")]), ["go test ./a/... ./b/c/... ./d/..."]);
    assert_eq!(commands(&[("go.work", "use .\n"), ("go.mod", "")]), ["go test ./..."]);
    let nested =
        [("go.mod", ""), ("sdk/go.mod", ""), ("sdk/a_test.go", ""), ("tools/go.mod", ""), ("x/testdata/go.mod", "")];
    assert_eq!(commands(&nested), ["go test ./...", "cd sdk && go test ./..."]);
}

#[test]
fn the_lock_file_decides_which_javascript_manager_is_used() {
    let deps = r#"{"scripts":{"test":"jest"},"devDependencies":{"jest":"1"}}"#;
    for (lock, text, setup, test) in [
        ("package-lock.json", "{}", "npm ci --no-audit --no-fund", "npm test"),
        ("npm-shrinkwrap.json", "{}", "npm ci --no-audit --no-fund", "npm test"),
        ("pnpm-lock.yaml", "", "pnpm install --frozen-lockfile", "pnpm test"),
        ("pnpm-workspace.yaml", "", "pnpm install --no-lockfile", "pnpm test"),
        ("yarn.lock", "# yarn lockfile v1\n", "yarn install --frozen-lockfile --non-interactive", "yarn run test"),
        ("yarn.lock", "__metadata:\n  version: 8\n", "yarn install --immutable", "yarn run test"),
        ("bun.lock", "{}", "bun install --frozen-lockfile", "bun run test"),
        ("bun.lockb", "", "bun install --frozen-lockfile", "bun run test"),
        ("README.md", "", "npm install --no-audit --no-fund --no-package-lock", "npm test"),
    ] {
        assert_eq!(commands(&[("package.json", deps), (lock, text)]), [setup, test], "{lock} {text}");
        assert_eq!(commands(&[("package.json", &format!("\u{feff}{deps}")), (lock, text)]), [setup, test], "{lock}");
    }
    let named =
        |name: &str| format!(r#"{{"packageManager":"{name}","scripts":{{"test":"x"}},"dependencies":{{"a":"1"}}}}"#);
    for (name, test) in [("pnpm@9.1.0", "pnpm test"), ("yarn@1.22.0", "yarn run test"), ("bun@1.2.0", "bun run test")] {
        let found = commands(&[("package.json", &named(name)), ("package-lock.json", "")]);
        assert_eq!(found[1], test, "packageManager decides: {name}");
    }
    let berry = [("package.json", &*named("yarn@4.5.0")), ("yarn.lock", ""), (".yarn/releases/yarn-4.5.0.cjs", "")];
    assert_eq!(
        commands(&berry),
        ["node .yarn/releases/yarn-4.5.0.cjs install --immutable", "node .yarn/releases/yarn-4.5.0.cjs run test"]
    );
}

#[test]
fn what_npm_refuses_is_installed_by_another_manager() {
    let with = |more: &str| format!(r#"{{"scripts":{{"test":"x"}},"dependencies":{{"a":"1"}},{more}}}"#);
    for (more, test) in [
        (r#""devDependencies":{"b":"workspace:*"}"#, "pnpm test"),
        (r#""devDependencies":{"b":"catalog:"}"#, "pnpm test"),
        (r#""optionalDependencies":{"b":"link:../b"}"#, "pnpm test"),
        (r#""peerDependencies":{"b":"portal:../b"}"#, "yarn run test"),
        (r#""engines":{"node":">=20","pnpm":">=9"}"#, "pnpm test"),
        (r#""engines":{"yarn":">=1.22"}"#, "yarn run test"),
        (r#""engines":{"node":">=20","npm":">=10"}"#, "npm test"),
        (r#""scripts":{"test":"x","preinstall":"npx only-allow pnpm"}"#, "pnpm test"),
        (r#""devEngines":{"packageManager":[{"name":"pnpm"}]}"#, "pnpm test"),
    ] {
        assert_eq!(commands(&[("package.json", &with(more))])[1], test, "{more}");
    }
    let yarn = |version: &str| commands(&[("package.json", &with(&format!(r#""engines":{{"yarn":"{version}"}}"#)))]);
    assert_eq!(yarn(">=1.22")[0], "yarn install --no-lockfile --non-interactive");
    assert_eq!(yarn(">= 4")[0], "yarn install --no-immutable");
    let unknown = with(r#""packageManager":"vlt@1""#);
    assert_eq!(commands(&[("package.json", &unknown)]), [""; 0]);
    assert!(found(&[("package.json", &unknown)]).missing[0].contains("package manager \"vlt\""));
}

#[test]
fn pytest_is_not_installed_for_a_word_in_a_docstring_or_a_plugin_of_the_documentation() {
    let test = "\"\"\"Example::\n\n    import pytest\n\"\"\"\nimport unittest\n";
    let project = "[project]\nname = \"a\"\n[project.optional-dependencies]\n";
    for more in ["", "docs = [\"pytest-examples\"]\n"] {
        let found = commands(&[("pyproject.toml", &format!("{project}{more}")), ("test_a.py", test)]);
        assert!(found.iter().all(|c| !c.contains("pytest")), "{found:?}");
    }
    for more in ["docs = [\"pytest\"]\n", "test = [\"pytest-cov\"]\n"] {
        let found = commands(&[("pyproject.toml", &format!("{project}{more}")), ("test_a.py", test)]);
        assert!(found.iter().any(|c| c.contains("-m pytest")), "{found:?}");
    }
    let real = "'''A'''\nimport pytest\n";
    assert!(commands(&[("setup.py", ""), ("test_a.py", real)]).iter().any(|c| c.contains("-m pytest")));
}

#[test]
fn javascript_without_a_usable_script() {
    let init = r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#;
    for text in [init, "{ broken", r#"["not", "an object"]"#, "{}"] {
        assert_eq!(commands(&[("package.json", text)]), [""; 0], "{text}");
        assert_eq!(found(&[("package.json", text)]).missing.len(), 1, "{text}");
    }
    let member = r#"{"name":"a","scripts":{"test":"vitest"}}"#;
    let workspace = [("package.json", r#"{"workspaces":["packages/*"]}"#), ("packages/a/package.json", member)];
    assert_eq!(commands(&workspace)[1], "npm test --workspaces --if-present");
    let pnpm = [
        ("package.json", "{}"),
        ("pnpm-workspace.yaml", ""),
        ("pnpm-lock.yaml", ""),
        ("packages/a/package.json", member),
    ];
    assert_eq!(commands(&pnpm), ["pnpm install --frozen-lockfile", "pnpm -r --if-present run test"]);
    assert_eq!(commands(&[("package.json", "{}"), ("test/a.test.js", "")]), ["node --test"]);
    assert_eq!(commands(&[("deno.json", r#"{"tasks":{"test":"deno test"}}"#)]), ["deno task test"]);
    assert_eq!(commands(&[("deno.json", "{ // none\n}")]), ["deno test --allow-all"]);
}

#[test]
fn python_uses_the_runner_that_the_repository_uses() {
    for (files, name) in [
        (&[("pytest.ini", ""), ("setup.py", "")][..], "pytest"),
        (&[("pyproject.toml", "[tool.pytest.ini_options]")], "pytest"),
        (&[("setup.cfg", "[tool:pytest]")], "pytest"),
        (&[("tox.ini", "[testenv]\ndeps = pytest")], "pytest"),
        (&[("pyproject.toml", "[project]\nname='a'\n[dependency-groups]\ndev = ['pytest>=8']")], "pytest"),
        (&[("pyproject.toml", "[project]\nname='a'\noptional-dependencies.test = ['pytest-cov']")], "pytest"),
        (&[("setup.py", ""), ("tests/test_a.py", "import pytest\n")], "pytest"),
        (&[("setup.py", ""), ("tests/test_a.py", "def test_a():\n    pass\n")], "pytest"),
        (&[("setup.py", ""), ("tests/test_a.py", "from unittest import TestCase\n")], "unittest"),
        (&[("test_x.py", "import unittest"), ("x.py", "")], "unittest"),
        (&[("manage.py", "import django\n"), ("app/tests.py", "from django.test import TestCase\n")], "django-test"),
        (&[("tox.ini", "[testenv]\ncommands = nose")], "tox"),
        (&[("noxfile.py", "@nox.session\ndef tests(session): pass")], "nox"),
    ] {
        assert_eq!(names(files).last().map(String::as_str), Some(name), "{files:?}");
    }
    // A linter's rules, a comment, or settings of flake8 do not make a project use pytest or tox.
    let ruff = "[project]\nname='a'\n[tool.ruff.lint]\nselect = ['PT'] # flake8-pytest-style\n";
    let files = [("pyproject.toml", ruff), ("tests/test_x.py", "import unittest\n"), ("tests/__init__.py", "")];
    assert_eq!(commands(&files), ["python3 -m unittest discover"]);
    let files =
        [("requirements-dev.txt", "flake8-pytest-style\n"), ("setup.py", ""), ("tests/test_x.py", "import unittest\n")];
    assert_eq!(names(&files).last().unwrap(), "unittest");
    assert_eq!(commands(&[("tox.ini", "[flake8]\nignore = E1"), ("setup.py", "")]), [""; 0]);
    assert_eq!(found(&[("pyproject.toml", "[project]\nname='a'")]).missing.len(), 1);
    // Scripts of another language's repository.
    let rust = [("Cargo.toml", ""), ("tests/test_all.py", "import unittest\n")];
    assert_eq!(commands(&rust), ["cargo test"]);
}

#[test]
fn the_lock_file_decides_which_python_manager_is_used() {
    let project = "[project]\nname='a'\n[dependency-groups]\ntests = ['pytest']\n";
    for (lock, setup, test) in [
        ("uv.lock", "uv sync --locked --group tests", "uv run --no-sync python -m pytest -q"),
        ("poetry.lock", "poetry install --no-interaction --with tests", "poetry run python -m pytest -q"),
        ("pdm.lock", "pdm install --frozen-lockfile -G tests", "pdm run python -m pytest -q"),
        ("Pipfile.lock", "pipenv sync --dev", "pipenv run python -m pytest -q"),
    ] {
        assert_eq!(commands(&[("pyproject.toml", project), (lock, "")]), [setup, test], "{lock}");
    }
    let dev = "[dependency-groups]\ndev = ['pytest']\n[tool.uv.workspace]\nmembers = ['a']";
    assert_eq!(commands(&[("pyproject.toml", dev), ("uv.lock", "")])[0], "uv sync --locked --all-packages");
    assert_eq!(
        names(&[("pyproject.toml", "[tool.poetry.dev-dependencies]\npytest='*'")]),
        ["poetry-install", "pytest"]
    );
}

#[test]
fn pip_installs_only_what_is_not_there() {
    let files = [
        (
            "pyproject.toml",
            "[project]\nname='a'\ndependencies=['x>1', 'w; os_name == \"nt\"']\noptional-dependencies.test=['pytest']",
        ),
        ("src/a/__init__.py", ""),
        ("tests/test_a.py", "import pytest"),
    ];
    let found = commands(&files);
    assert!(found[0].contains("sys.argv[1:]]' x a pytest 2>") && found[0].contains("-e '.[test]'"), "{found:?}");
    assert_eq!(found[1], "PATH=\"$PWD/.venv/bin:$PATH\" PYTHONPATH=src python3 -m pytest -q");
    let hostile = [("requirements.txt", "x'; touch /tmp/a #\n$(id)\n"), ("test_a.py", "import unittest")];
    assert!(
        commands(&hostile).iter().all(|c| !c.contains("touch") && !c.contains("$(id)")),
        "{:?}",
        commands(&hostile)
    );
}

#[test]
fn other_languages() {
    for (files, last) in [
        (&[("gradlew", ""), ("settings.gradle", "")][..], "sh ./gradlew test --console=plain"),
        (&[("pom.xml", "")], "mvn -B -ntp test"),
        (&[("mvnw", ""), ("pom.xml", "")], "sh ./mvnw -B -ntp test"),
        (&[("build.gradle.kts", "")], "gradle test --console=plain"),
        (&[("Gemfile", ""), ("spec/a_spec.rb", "")], "bundle exec rspec"),
        (&[("Gemfile", ""), ("Rakefile", "Rake::TestTask.new"), ("test/a_test.rb", "")], "bundle exec rake test"),
        (&[("Gemfile", ""), ("Rakefile", "require 'rake/testtask'"), ("test/spec_a.rb", "")], "bundle exec rake test"),
        (&[("composer.json", r#"{"scripts":{"test":"phpunit"}}"#)], "composer test"),
        (&[("composer.json", r#"{"require-dev":{"a/b":"1"}}"#), ("phpunit.xml.dist", "")], "vendor/bin/phpunit"),
        (&[("composer.json", "{}"), ("phpunit.xml.dist", "")], "phpunit"),
        (&[("mix.exs", ""), ("mix.lock", "")], "mix test"),
        (&[("a b.sln", ""), ("src/a.csproj", "")], "dotnet test './a b.sln' --no-restore"),
        (&[("Package.swift", "")], "swift test"),
        (&[("WORKSPACE", "")], "bazel test //..."),
        (
            &[("meson.build", "subdir('t')"), ("t/meson.build", "test('a', exe)")],
            "meson setup build-skep && meson test -C build-skep --print-errorlogs",
        ),
        (&[("configure.ac", ""), ("Makefile.am", "")], "autoreconf -fi && ./configure && make check"),
        (&[(".pre-commit-config.yaml", "")], "pre-commit run --all-files"),
    ] {
        assert_eq!(commands(files).last().map(String::as_str), Some(last), "{files:?}");
    }
    // Gems that are installed need no network, and documentation tools are not dependencies of a test.
    assert!(commands(&[("Gemfile", ""), ("spec/a_spec.rb", "")])[0].starts_with("bundle check >/dev/null 2>&1 || {"));
    assert_eq!(commands(&[("mix.exs", ""), ("mix.lock", "")])[0], "mix deps.get --only test");
    let cmake =
        [("CMakeLists.txt", "option(A_BUILD_TESTS \"x\" OFF)\noption(A_CUDA_TEST \"x\" OFF)\nenable_testing()")];
    let command = &commands(&cmake)[0];
    assert!(
        command.contains("-DBUILD_TESTING=ON -DA_BUILD_TESTS=ON &&") && command.contains("--no-tests=error"),
        "{command}"
    );
    assert_eq!(commands(&[("CMakeLists.txt", "add_library(a)"), ("Makefile", "check:\n")]), ["make check"]);
}

#[test]
fn task_runners_are_used_where_nothing_else_is_known() {
    assert_eq!(commands(&[("Makefile", "all: x\n\ntest: all\n\t./run\n")]), ["make test"]);
    assert_eq!(commands(&[("Makefile", "lint check: all\n")]), ["make check"]);
    assert_eq!(commands(&[("Makefile", "test := x\n# test: y\n\techo test:\n")]), [""; 0]);
    assert_eq!(commands(&[("justfile", "build:\n  x\ntest *args: build\n  y\n")]), ["just test"]);
    assert_eq!(commands(&[("justfile", "test name:\n  y\n")]), [""; 0]);
    assert_eq!(commands(&[("Taskfile.yml", "version: '3'\ntasks:\n  test:\n    cmds: [x]\n")]), ["task test"]);
}

#[test]
fn projects_in_folders_are_found_where_the_root_has_none() {
    let files = [
        ("README.md", ""),
        ("web/package.json", r#"{"scripts":{"test":"x"}}"#),
        ("web/package-lock.json", "{}"),
        ("api/go.mod", ""),
        ("api/inner/go.mod", ""),
        ("docs/package.json", r#"{"scripts":{"test":"x"}}"#),
    ];
    assert_eq!(
        commands(&files),
        ["cd web && { npm ci --no-audit --no-fund; }", "cd api && { go test ./...; }", "cd web && { npm test; }"]
    );
}

#[test]
fn every_project_in_a_folder_is_checked_or_named() {
    let web = r#"{"scripts":{"test":"x"}}"#;
    // A module of Go does not hide what lies beside it.
    let both = [("services/api/go.mod", ""), ("services/api/a_test.go", ""), ("services/web/package.json", web)];
    let expected = ["cd services/api && { go test ./...; }", "cd services/web && { npm test; }"];
    assert_eq!(commands(&both), expected);
    assert_eq!(found(&both).missing, [""; 0]);
    // Neither does a package without a test, around it or in the root folder, and tests of Python need no project.
    let python = ("backend/test_a.py", "import unittest\n");
    for outer in ["package.json", "frontend/package.json"] {
        let files = [(outer, "{}"), ("frontend/app/package.json", web), python];
        let expected = ["cd frontend/app && { npm test; }", "python3 -m unittest discover -s backend"];
        assert_eq!(commands(&files), expected, "{outer}");
    }
    let pytest = [("web/package.json", web), ("web/test_b.py", ""), ("backend/test_a.py", "import pytest\n")];
    assert_eq!(commands(&pytest).last().unwrap(), "PATH=\"$PWD/.venv/bin:$PATH\" python3 -m pytest -q backend");
    // What is not checked is named.
    let deep = [("api/go.mod", ""), ("a/b/c/package.json", web), ("tools/Gemfile", "")];
    assert_eq!(found(&deep).missing, ["no check covers tools/Gemfile, a/b/c/package.json"]);
    let beside = [("Cargo.toml", ""), ("web/package.json", web), ("crates/a/Cargo.toml", ""), ("x/package.json", "{}")];
    assert_eq!(
        (commands(&beside), found(&beside).missing),
        (vec!["cargo test".to_owned()], vec!["no check covers web/package.json".to_owned()])
    );
    let many: Vec<(String, &str)> = (0..20).map(|n| (format!("p{n:02}/package.json"), web)).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert_eq!(commands(&many).len(), 16);
    assert!(
        found(&many).missing[0].starts_with("no check covers p16/package.json, p17/"),
        "{:?}",
        found(&many).missing
    );
    // Names stay unique.
    assert_eq!(names(&[("a-b/package.json", web), ("a/b/package.json", web)]), ["a-b-npm-test", "a-b-npm-test-2"]);
}

#[test]
fn unittest_starts_in_every_folder_that_it_would_not_enter_by_itself() {
    let test = "import unittest\n";
    for (files, expected) in [
        (&[("libs/deep/er/test_a.py", test)][..], "python3 -m unittest discover -s libs/deep/er"),
        (
            &[("app/__init__.py", ""), ("app/tests/__init__.py", ""), ("app/tests/test_a.py", test)],
            "python3 -m unittest discover",
        ),
        (&[("src/app/__init__.py", ""), ("src/app/test_a.py", test)], "python3 -m unittest discover -s src"),
        (
            &[("a_test.py", test), ("sub/test_b.py", test)],
            "python3 -m unittest discover -p '*_test.py' && python3 -m unittest discover -s sub",
        ),
        (&[("vendor/x/test_a.py", test), ("tests/test_b.py", test)], "python3 -m unittest discover -s tests"),
    ] {
        assert_eq!(commands(files), [expected], "{files:?}");
    }
    let locked = [("uv.lock", ""), ("pyproject.toml", ""), ("x/test_a.py", test), ("y/test_a.py", test)];
    let command = commands(&locked).pop().unwrap();
    assert_eq!(command.matches("uv run --no-sync python -m unittest").count(), 2, "{command}");
}

#[test]
fn several_languages_and_none() {
    let both = [("Cargo.toml", ""), ("package.json", r#"{"scripts":{"test":"x"}}"#), ("package-lock.json", "")];
    assert_eq!(names(&both), ["npm-install", "cargo-test", "npm-test"]);
    assert_eq!(found(&[("README.md", ""), ("tests/a.txt", ""), ("src/a.txt", "")]), Detected::default());
    assert_eq!(found(&[]), Detected::default());
}

#[test]
fn commands_of_ci_are_only_proposed() {
    let ci = "jobs:\n  t:\n    steps:\n      - uses: actions/checkout@v4\n      - run: npm run lint\n      - name: b\n        run: |\n          # all\n          make test-all  # slow\n          echo test done\n        env:\n          TEST: test\n      - run: ./x ${{ matrix.test }}\n";
    let found = found(&[(".github/workflows/ci.yml", ci)]);
    assert!(found.checks.is_empty());
    let proposals: Vec<_> = found.proposals.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(proposals, ["make test-all", "npm run lint"], "tests come first");
    let travis = "script:\n  - luacheck lua spec --std=min\n  - busted --verbose\n  - make install\n";
    let found = self::found(&[(".travis.yml", travis)]);
    let proposals: Vec<_> = found.proposals.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(proposals, ["busted --verbose", "luacheck lua spec --std=min"]);
}
