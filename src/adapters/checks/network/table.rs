//! Package managers: where each of them reads the addresses of its packages.
//!
//! Invariant: no host of packages is listed here. Every one is read from a lock file, from a configuration, or from the
//! manager itself; only what a short form of an address stands for, and where a forge redirects downloads to, is known.

/// A file, and the texts that precede an address in it.
pub struct Source {
    /// The path: of a repository's file, or beneath the home directory.
    pub file: &'static str,
    /// The texts.
    pub before: &'static [&'static str],
}

/// A package manager.
pub struct Manager {
    /// Its name.
    pub name: &'static str,
    /// Programs of a check's command that start it.
    pub programs: &'static [&'static str],
    /// Words of a command that installs something; empty = every command may.
    pub installs: &'static [&'static str],
    /// Its lock files that list the addresses of all packages.
    pub locks: &'static [Source],
    /// Other lock files, whose presence says that there are dependencies.
    pub plain_locks: &'static [&'static str],
    /// The folder of a repository with its packages; empty = it reads none.
    pub vendored: &'static str,
    /// Its configuration in a repository.
    pub repo: &'static [Source],
    /// Files of a repository that name single packages elsewhere, beside those from the usual addresses.
    pub also: &'static [Source],
    /// Its configuration beneath the home directory.
    pub home: &'static [Source],
    /// Variables that hold addresses.
    pub variables: &'static [&'static str],
    /// Commands that print the addresses it uses by default; `||` separates them, and the first that prints one counts.
    pub ask: &'static str,
}

const fn source(file: &'static str, before: &'static [&'static str]) -> Source {
    Source { file, before }
}

/// Prints the address of pip's index, which other tools use as well.
const PIP_ASK: &str =
    "python3 -c \"from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)\"";
/// Prints the repository that Maven's own parent of all projects names.
const MAVEN_ASK: &str = "m=$(readlink -f \"$(command -v mvn)\") && ${JAVA_HOME:+\"$JAVA_HOME\"/bin/}jar -xf \"${m%/*}\"/../lib/maven-model-builder-*.jar org/apache/maven/model/pom-4.0.0.xml && grep '<url>' org/apache/maven/model/pom-4.0.0.xml";
const PIP_HOME: &[Source] = &[source(".config/pip/pip.conf", &["index-url"]), source(".pip/pip.conf", &["index-url"])];
const PYPROJECT: Source = source("pyproject.toml", &["url = \""]);
/// Before version 2, a lock file of npm names git repositories as versions.
const NPM_LOCK: &[&str] = &[
    "\"resolved\": \"",
    "\"version\": \"git+",
    "\"version\": \"github:",
    "\"version\": \"gitlab:",
    "\"version\": \"bitbucket:",
];
/// Short forms of addresses in lock files, and the hosts they stand for.
pub const SHORT_FORMS: &[(&str, &str)] =
    &[("github:", "github.com"), ("gitlab:", "gitlab.com"), ("bitbucket:", "bitbucket.org")];
/// Managers that download a commit as an archive, and where forges redirect such a download to.
pub const OF_ARCHIVES: &[&str] = &["npm", "pnpm", "yarn", "composer"];
pub const REDIRECTS: &[(&str, &str)] =
    &[("github.com", "codeload.github.com"), ("api.github.com", "codeload.github.com")];
const NPM_RC: Source = source(".npmrc", &["registry=", "registry = "]);
const GRADLE: &[Source] = &[
    source("gradle/wrapper/gradle-wrapper.properties", &["distributionUrl="]),
    source("settings.gradle", &["url ", "url = ", "uri("]),
    source("settings.gradle.kts", &["url = ", "uri(", "maven("]),
    source("build.gradle", &["url ", "url = ", "uri("]),
    source("build.gradle.kts", &["url = ", "uri(", "maven("]),
];
const MAVEN: &[Source] = &[
    source(".mvn/wrapper/maven-wrapper.properties", &["distributionUrl=", "wrapperUrl="]),
    source(".mvn/settings.xml", &["<url>"]),
];

/// The managers.
#[rustfmt::skip]
pub const MANAGERS: &[Manager] = &[
    Manager { name: "npm", programs: &["npm", "npx"], installs: &["ci", "install", "i", "exec", "npx"], locks: &[source("package-lock.json", NPM_LOCK), source("npm-shrinkwrap.json", NPM_LOCK)], plain_locks: &[], vendored: "node_modules/", repo: &[NPM_RC], also: &[], home: &[NPM_RC], variables: &["npm_config_registry", "NPM_CONFIG_REGISTRY"], ask: "npm config get registry" },
    Manager { name: "pnpm", programs: &["pnpm"], installs: &["install", "i", "dlx"], locks: &[], plain_locks: &["pnpm-lock.yaml"], vendored: "node_modules/", repo: &[NPM_RC], also: &[source("pnpm-lock.yaml", &["tarball: ", "repo: "])], home: &[NPM_RC, source(".config/pnpm/rc", &["registry="])], variables: &["npm_config_registry", "NPM_CONFIG_REGISTRY"], ask: "npm config get registry || pnpm config get registry" },
    Manager { name: "yarn", programs: &["yarn", ".yarn/releases"], installs: &["install", "dlx"], locks: &[source("yarn.lock", &["resolved \""])], plain_locks: &["yarn.lock"], vendored: "node_modules/", repo: &[NPM_RC, source(".yarnrc.yml", &["npmRegistryServer: "]), source(".yarnrc", &["registry "])], also: &[source("yarn.lock", &["@https:"])], home: &[NPM_RC, source(".yarnrc.yml", &["npmRegistryServer: "])], variables: &["YARN_NPM_REGISTRY_SERVER", "npm_config_registry"], ask: "yarn config get npmRegistryServer || yarn config get registry || npm config get registry" },
    Manager { name: "bun", programs: &["bun"], installs: &["install", "x"], locks: &[], plain_locks: &["bun.lock", "bun.lockb"], vendored: "node_modules/", repo: &[NPM_RC, source("bunfig.toml", &["registry = \""])], also: &[], home: &[NPM_RC, source(".bunfig.toml", &["registry = \""])], variables: &["npm_config_registry", "BUN_CONFIG_REGISTRY"], ask: "npm config get registry" },
    Manager { name: "uv", programs: &["uv"], installs: &["sync", "run", "pip", "x"], locks: &[source("uv.lock", &["url = \"", "registry = \"", "git = \""])], plain_locks: &[], vendored: "", repo: &[source("uv.toml", &["url = \""]), PYPROJECT], also: &[], home: &[source(".config/uv/uv.toml", &["url = \""])], variables: &["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"], ask: PIP_ASK },
    Manager { name: "poetry", programs: &["poetry"], installs: &["install", "sync"], locks: &[], plain_locks: &["poetry.lock"], vendored: "", repo: &[], also: &[source("poetry.lock", &["url = \""])], home: &[], variables: &[], ask: PIP_ASK },
    Manager { name: "pdm", programs: &["pdm"], installs: &["install", "sync"], locks: &[], plain_locks: &["pdm.lock"], vendored: "", repo: &[source("pdm.lock", &["url = \""])], also: &[source("pdm.lock", &["git = \""])], home: &[], variables: &["PDM_PYPI_URL"], ask: PIP_ASK },
    Manager { name: "pipenv", programs: &["pipenv"], installs: &["install", "sync"], locks: &[], plain_locks: &["Pipfile.lock"], vendored: "", repo: &[source("Pipfile.lock", &["\"url\": \""])], also: &[source("Pipfile.lock", &["\"git\": \""])], home: PIP_HOME, variables: &["PIP_INDEX_URL"], ask: PIP_ASK },
    Manager { name: "pip", programs: &["pip", "pip3", "tox", "nox", "hatch"], installs: &["install", "tox", "nox", "hatch"], locks: &[], plain_locks: &[], vendored: "", repo: &[source("requirements.txt", &["index-url ", "index-url=", "find-links "]), source("pip.conf", &["index-url"])], also: &[source("requirements.txt", &["git+"]), source("pyproject.toml", &["git+"])], home: PIP_HOME, variables: &["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"], ask: PIP_ASK },
    Manager { name: "cargo", programs: &["cargo"], installs: &[], locks: &[source("Cargo.lock", &["source = \"registry+", "source = \"sparse+", "source = \"git+"])], plain_locks: &[], vendored: "vendor/", repo: &[source(".cargo/config.toml", &["registry = \"", "index = \""])], also: &[], home: &[source(".cargo/config.toml", &["registry = \"", "index = \""])], variables: &["CARGO_REGISTRIES_CRATES_IO_INDEX"], ask: "" },
    Manager { name: "go", programs: &["go"], installs: &[], locks: &[], plain_locks: &["go.sum"], vendored: "vendor/", repo: &[], also: &[], home: &[], variables: &["GOPROXY"], ask: "go env GOPROXY GOSUMDB" },
    Manager { name: "bundler", programs: &["bundle"], installs: &["install"], locks: &[source("Gemfile.lock", &["remote: "])], plain_locks: &["Gemfile.lock", "Gemfile"], vendored: "", repo: &[source("Gemfile", &["source \"", "source '"]), source(".bundle/config", &["BUNDLE_MIRROR__ALL: \""])], also: &[], home: &[source(".bundle/config", &["BUNDLE_MIRROR__ALL: \""])], variables: &[], ask: "gem sources --list" },
    Manager { name: "composer", programs: &["composer"], installs: &["install", "update"], locks: &[source("composer.lock", &["\"type\": \"zip\",\n                \"url\": \""])], plain_locks: &["composer.lock"], vendored: "vendor/", repo: &[], also: &[], home: &[], variables: &[], ask: "COMPOSER_ALLOW_SUPERUSER=1 composer config --global --list | grep repositories" },
    Manager { name: "nuget", programs: &["dotnet"], installs: &[], locks: &[], plain_locks: &[], vendored: "", repo: &[source("NuGet.config", &["value=\""]), source("nuget.config", &["value=\""])], also: &[], home: &[source(".nuget/NuGet/NuGet.Config", &["value=\""])], variables: &[], ask: "dotnet nuget list source" },
    Manager { name: "gradle", programs: &["gradle", "gradlew"], installs: &[], locks: &[], plain_locks: &[], vendored: "", repo: GRADLE, also: &[], home: &[], variables: &[], ask: "" },
    Manager { name: "maven", programs: &["mvn", "mvnw"], installs: &[], locks: &[], plain_locks: &[], vendored: "", repo: MAVEN, also: &[], home: &[source(".m2/settings.xml", &["<url>"])], variables: &[], ask: MAVEN_ASK },
    Manager { name: "mix", programs: &["mix"], installs: &["deps.get"], locks: &[], plain_locks: &["mix.lock"], vendored: "", repo: &[], also: &[source("mix.lock", &["{:git, \""])], home: &[], variables: &["HEX_MIRROR"], ask: "mix hex.config mirror_url" },
    Manager { name: "deno", programs: &["deno"], installs: &[], locks: &[source("deno.lock", &["\"https:"])], plain_locks: &["deno.lock"], vendored: "", repo: &[], also: &[], home: &[], variables: &["NPM_CONFIG_REGISTRY", "JSR_URL"], ask: "" },
    Manager { name: "swift", programs: &["swift"], installs: &[], locks: &[source("Package.resolved", &["\"location\" : \""])], plain_locks: &[], vendored: "", repo: &[], also: &[], home: &[], variables: &[], ask: "" },
    Manager { name: "pub", programs: &["dart", "flutter"], installs: &[], locks: &[source("pubspec.lock", &["url: \""])], plain_locks: &[], vendored: "", repo: &[], also: &[], home: &[], variables: &["PUB_HOSTED_URL"], ask: "" },
    Manager { name: "pre-commit", programs: &["pre-commit"], installs: &[], locks: &[source(".pre-commit-config.yaml", &["repo: "])], plain_locks: &[], vendored: "", repo: &[], also: &[], home: &[], variables: &[], ask: "" },
];
