//! How projects are recognized, and how they are checked: one line for each way.

use super::tree::{Tree, key};
use crate::domain::CheckKind::{self, Lint, Setup, Test};
use Condition::{Always, Json, JsonLacks, Says, Toml};

/// One way to check a project of one kind.
pub struct Rule {
    /// The kind of project. Of the rules of one family, the first that fits applies.
    pub family: &'static str,
    /// Patterns of files that must all exist; `|` separates alternatives.
    pub files: &'static [&'static str],
    /// What must hold in addition.
    pub condition: Condition,
    /// The checks. `{0}` and `{1}` stand for the first files that match the first and second pattern.
    pub checks: &'static [(&'static str, CheckKind, &'static str)],
}

/// What a file must contain.
pub enum Condition {
    /// Nothing in particular.
    Always,
    /// A file that matches the pattern contains one of the words outside of a comment.
    Says(&'static str, &'static [&'static str]),
    /// The JSON file has a value at this pointer.
    Json(&'static str, &'static str),
    /// The JSON file has no value at this pointer.
    JsonLacks(&'static str, &'static str),
    /// The TOML file has these keys.
    Toml(&'static str, &'static [&'static str]),
}

impl Condition {
    fn holds(&self, tree: Tree<'_>) -> bool {
        match self {
            Always => true,
            Says(pattern, words) => tree.matches(pattern).any(|file| {
                let mut lines = tree.text(file).lines().map(uncommented);
                lines.any(|line| words.iter().any(|word| line.contains(word)))
            }),
            Json(file, pointer) => tree.json(file).pointer(pointer).is_some(),
            JsonLacks(file, pointer) => tree.json(file).pointer(pointer).is_none(),
            Toml(file, keys) => key(&tree.toml(file), keys).is_some(),
        }
    }
}

/// Returns a line without its comment.
pub fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or(line)
}

impl Rule {
    /// Returns whether this rule applies.
    pub fn fits(&self, tree: Tree<'_>) -> bool {
        self.files.iter().all(|patterns| tree.has(patterns)) && self.condition.holds(tree)
    }

    /// Returns the checks, with the names of the files that were found.
    pub fn commands(&self, tree: Tree<'_>) -> Vec<(&'static str, CheckKind, String)> {
        let found = |n: usize| self.files.get(n).and_then(|p| tree.first(p)).map(quoted).unwrap_or_default();
        let filled = |command: &str| match command.contains("{options}") {
            true => command.replace("{options}", &cmake_options(tree)),
            false => command.replace("{0}", &found(0)).replace("{1}", &found(1)),
        };
        self.checks.iter().map(|(name, kind, command)| (*name, *kind, filled(command))).collect()
    }
}

/// Ends of the names of CMake options that build the tests.
const TEST_OPTIONS: &[&str] =
    &["BUILD_TESTS", "BUILD_TESTING", "BUILD_TEST", "BUILD_UNIT_TESTS", "ENABLE_TESTS", "ENABLE_TESTING", "WITH_TESTS"];

/// Files of a CMake project that are searched for options.
const MAX_CMAKE_FILES: usize = 20;

/// Switches on the options of a CMake project that build its tests and are off by default.
fn cmake_options(tree: Tree<'_>) -> String {
    let mut options: Vec<String> = Vec::new();
    let files = tree.matches("**CMakeLists.txt").take(MAX_CMAKE_FILES);
    for line in files.flat_map(|file| tree.text(file).lines().map(uncommented)) {
        let line = line.trim();
        // Commands of CMake have no case.
        let Some(rest) = line.get(..7).filter(|word| word.eq_ignore_ascii_case("option(")).map(|_| &line[7..]) else {
            continue;
        };
        let name = rest.split_whitespace().next().unwrap_or_default();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_off = rest.split(')').next().is_some_and(|r| r.trim_end().ends_with("OFF"));
        let upper = name.to_ascii_uppercase();
        let option = format!(" -D{name}=ON");
        if plain && is_off && TEST_OPTIONS.iter().any(|end| upper.ends_with(end)) && !options.contains(&option) {
            options.push(option);
        }
    }
    options.concat()
}

/// Quotes a path for `sh`, unless it is plain. Repositories choose the names of their files.
pub fn quoted(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./+@".contains(&b);
    if path.bytes().all(plain) && !path.starts_with('-') {
        return path.to_owned();
    }
    format!("'./{}'", path.replace('\'', r"'\''"))
}

const fn rule(
    family: &'static str,
    files: &'static [&'static str],
    condition: Condition,
    checks: &'static [(&'static str, CheckKind, &'static str)],
) -> Rule {
    Rule { family, files, condition, checks }
}

/// Gems that are installed are used, as in a development environment. Others go into the checkout, because the system's
/// folder cannot be written to.
const BUNDLE: (&str, CheckKind, &str) = (
    "bundle-install",
    Setup,
    "bundle check >/dev/null 2>&1 || { bundle config set --local path vendor/bundle && bundle install; }",
);
const COMPOSER: (&str, CheckKind, &str) =
    ("composer-install", Setup, "composer install --no-interaction --no-progress");
const RAKE: (&str, CheckKind, &str) = ("rake-test", Test, "bundle exec rake test");
const RUBY_TESTS: &str =
    "test/**_test.rb|test/test_*.rb|test/**/test_*.rb|test/spec_*.rb|test/**/spec_*.rb|test/**_spec.rb";
const SOLUTION: &str = "*.slnx|*.sln|src/*.slnx|src/*.sln|*.csproj|*.fsproj|*.vbproj";
const CMAKE: &str = "cmake -S . -B build-skep -DBUILD_TESTING=ON{options} && cmake --build build-skep && ctest --test-dir build-skep --no-tests=error --output-on-failure";

/// Rules of languages with one usual tool. JavaScript, Python, Go and tasks have modules of their own.
#[rustfmt::skip]
pub const LANGUAGES: &[Rule] = &[
    rule("rust", &["Cargo.toml"], Toml("Cargo.toml", &["workspace"]), &[("cargo-test", Test, "cargo test --workspace")]),
    rule("rust", &["Cargo.toml"], Always, &[("cargo-test", Test, "cargo test")]),

    rule("jvm", &["gradlew"], Always, &[("gradle-test", Test, "sh ./gradlew test --console=plain")]),
    rule("jvm", &["mvnw", "pom.xml"], Always, &[("maven-test", Test, "sh ./mvnw -B -ntp test")]),
    rule("jvm", &["pom.xml"], Always, &[("maven-test", Test, "mvn -B -ntp test")]),
    rule("jvm", &["settings.gradle.kts|settings.gradle|build.gradle.kts|build.gradle"], Always, &[("gradle-test", Test, "gradle test --console=plain")]),
    rule("jvm", &["build.sbt"], Always, &[("sbt-test", Test, "sbt -batch test")]),
    rule("jvm", &["project.clj"], Always, &[("lein-test", Test, "lein test")]),

    rule("ruby", &["Gemfile", "bin/rails", "test/"], Always, &[BUNDLE, ("rails-test", Test, "bundle exec rails test")]),
    rule("ruby", &["Gemfile", ".rspec|spec/**_spec.rb"], Always, &[BUNDLE, ("rspec", Test, "bundle exec rspec")]),
    rule("ruby", &["Gemfile", RUBY_TESTS], Says("Rakefile", &["TestTask", "testtask", "task :test", "task test:", "task \"test\"", "Minitest"]), &[BUNDLE, RAKE]),
    rule("ruby", &["Gemfile", "Rakefile", RUBY_TESTS], Always, &[BUNDLE, ("rake", Test, "bundle exec rake")]),
    rule("ruby", &["Gemfile", RUBY_TESTS], Always, &[BUNDLE, ("minitest", Test, "bundle exec ruby -Ilib -Itest -e 'Dir[\"test/**/{*_test,test_*}.rb\"].each { |f| require \"./#{f}\" }'")]),
    rule("ruby", &[".rspec|spec/**_spec.rb", "*.gemspec|Rakefile|.rspec"], Always, &[("rspec", Test, "rspec")]),
    rule("ruby", &["Rakefile", RUBY_TESTS], Says("Rakefile", &["test"]), &[("rake-test", Test, "rake test")]),

    rule("php", &["composer.json"], Json("composer.json", "/scripts/test"), &[COMPOSER, ("composer-test", Test, "composer test")]),
    rule("php", &["composer.json"], Json("composer.json", "/require-dev/pestphp~1pest"), &[COMPOSER, ("pest", Test, "vendor/bin/pest")]),
    // Without development dependencies, PHPUnit is expected on the machine.
    rule("php", &["composer.json", "phpunit.xml|phpunit.xml.dist|phpunit.dist.xml"], JsonLacks("composer.json", "/require-dev"), &[COMPOSER, ("phpunit", Test, "phpunit")]),
    rule("php", &["composer.json", "phpunit.xml|phpunit.xml.dist|phpunit.dist.xml"], Always, &[COMPOSER, ("phpunit", Test, "vendor/bin/phpunit")]),
    rule("php", &["composer.json", "tests/|test/"], Json("composer.json", "/require-dev/phpunit~1phpunit"), &[COMPOSER, ("phpunit", Test, "vendor/bin/phpunit {1}")]),
    rule("php", &["phpunit.xml|phpunit.xml.dist|phpunit.dist.xml"], Always, &[("phpunit", Test, "phpunit")]),

    rule("elixir", &["mix.exs", "mix.lock"], Always, &[("mix-deps", Setup, "mix deps.get --only test"), ("mix-test", Test, "mix test")]),
    rule("elixir", &["mix.exs"], Always, &[("mix-test", Test, "mix test")]),
    rule("erlang", &["rebar.config"], Always, &[("rebar3-eunit", Test, "rebar3 eunit")]),

    rule("dotnet", &[SOLUTION], Always, &[("dotnet-restore", Setup, "dotnet restore {0}"), ("dotnet-test", Test, "dotnet test {0} --no-restore")]),

    rule("swift", &["Package.swift"], Always, &[("swift-test", Test, "swift test")]),
    rule("zig", &["build.zig"], Says("build.zig", &["\"test\""]), &[("zig-test", Test, "zig build test")]),
    rule("haskell", &["stack.yaml"], Always, &[("stack-test", Test, "stack test")]),
    rule("haskell", &["*.cabal|cabal.project"], Always, &[("cabal-test", Test, "cabal test all")]),
    rule("ocaml", &["dune-project"], Always, &[("dune-test", Test, "dune runtest")]),
    rule("dart", &["pubspec.yaml", "test/**_test.dart"], Says("pubspec.yaml", &["sdk: flutter"]), &[("pub-get", Setup, "flutter pub get"), ("flutter-test", Test, "flutter test")]),
    rule("dart", &["pubspec.yaml", "test/**_test.dart"], Always, &[("pub-get", Setup, "dart pub get"), ("dart-test", Test, "dart test")]),
    rule("julia", &["Project.toml", "test/runtests.jl"], Always, &[("julia-test", Test, "julia --project=. -e 'using Pkg; Pkg.test()'")]),
    rule("crystal", &["shard.yml", "spec/"], Always, &[("shards-install", Setup, "shards install"), ("crystal-spec", Test, "crystal spec")]),
    rule("r", &["DESCRIPTION", "tests/testthat/"], Always, &[("testthat", Test, "Rscript -e 'testthat::test_local()'")]),

    rule("c", &["CMakeLists.txt"], Says("**CMakeLists.txt", &["enable_testing", "add_test", "include(CTest)", "include (CTest)", "_discover_tests("]), &[("ctest", Test, CMAKE)]),
    rule("c", &["meson.build"], Says("**meson.build", &["test("]), &[("meson-test", Test, "meson setup build-skep && meson test -C build-skep --print-errorlogs")]),
];

/// Rules for repositories in which nothing else was recognized.
#[rustfmt::skip]
pub const FALLBACKS: &[Rule] = &[
    rule("bazel", &["MODULE.bazel|WORKSPACE.bazel|WORKSPACE"], Always, &[("bazel-test", Test, "bazel test //...")]),
    rule("autotools", &["configure", "Makefile.in"], Always, &[("make-check", Test, "./configure && make check")]),
    rule("autotools", &["configure.ac|configure.in", "Makefile.am"], Always, &[("make-check", Test, "autoreconf -fi && ./configure && make check")]),
    rule("perl", &["Makefile.PL|Build.PL|cpanfile|dist.ini", "t/**.t"], Always, &[("prove", Test, "prove -lr t")]),
    rule("shell", &["test/**.bats|tests/**.bats"], Always, &[("bats", Test, "bats -r \"$(dirname {0})\"")]),
    rule("pre-commit", &[".pre-commit-config.yaml"], Always, &[("pre-commit", Lint, "pre-commit run --all-files")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_a_family_can_apply() {
        for (n, rule) in LANGUAGES.iter().enumerate() {
            // A later rule of a family is reachable only if each earlier one asks for something more.
            let hidden = LANGUAGES[..n].iter().any(|earlier| {
                earlier.family == rule.family
                    && matches!(earlier.condition, Always)
                    && earlier.files.iter().all(|f| rule.files.contains(f))
            });
            assert!(!hidden, "{:?}", rule.checks);
        }
    }

    #[test]
    fn names_of_files_cannot_become_commands() {
        assert_eq!(quoted("src/a-b.sln"), "src/a-b.sln");
        assert_eq!(quoted("a; rm -rf x.sln"), "'./a; rm -rf x.sln'");
        assert_eq!(quoted("it's.sln"), r"'./it'\''s.sln'");
        assert_eq!(quoted("-x.sln"), "'./-x.sln'");
    }
}
