//! Tests of the search for hosts.

use super::*;

/// Returns the hosts that a command needs in a repository with these files, without asking a manager.
fn hosts_of(command: &str, files: &[(&str, &str)], user: &UserFiles) -> Option<Vec<String>> {
    let manager = MANAGERS.iter().find(|m| starts(m, command)).unwrap();
    let paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let texts = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    match hosts(manager, &paths, &texts, user) {
        Hosts::Found(hosts) => Some(hosts.into_iter().collect()),
        Hosts::Ask(_) => None,
    }
}

#[test]
fn hosts_come_from_lock_files_and_configuration() {
    let user = UserFiles::default();
    let lock = |text: &str| Some(text.split(' ').filter(|t| !t.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    for (command, file, text, hosts) in [
        ("npm ci", "package-lock.json", r#""resolved": "https://npm.example/a.tgz","#, lock("npm.example")),
        ("npm ci", "package-lock.json", r#""version": "git+https://git.example/a.git#1","#, lock("git.example")),
        ("npm ci", "package-lock.json", r#""version": "2.0.0-rc.beta","#, lock("")),
        (
            "npm ci",
            "package-lock.json",
            r#""version": "github:some.one/tool#1a2b","#,
            lock("codeload.github.com github.com"),
        ),
        ("npm ci", "package-lock.json", r#""version": "gitlab:a/b#1","#, lock("gitlab.com")),
        (
            "composer install",
            "composer.lock",
            "\"type\": \"zip\",\n                \"url\": \"https://api.github.com/repos/a/b/zipball/1\",",
            lock("api.github.com codeload.github.com"),
        ),
        ("npm ci", "package-lock.json", r#"{"funding": {"url": "https://give.example"}}"#, lock("")),
        ("pnpm install", "pnpm-lock.yaml", "lockfileVersion: 9", None),
        ("yarn install", "yarn.lock", "  resolved \"https://yarn.example/a#1\"", lock("yarn.example")),
        ("uv sync", "uv.lock", "url = \"https://files.example/a.whl\"", lock("files.example")),
        ("uv sync", "uv.lock", "source = { git = \"https://git.example/a?rev=1#2\" }", lock("git.example")),
        (
            "bundle install",
            "Gemfile.lock",
            "GEM\n  remote: https://gems.example/\nPATH\n  remote: .\n",
            lock("gems.example"),
        ),
        ("cargo test", "Cargo.lock", "source = \"git+https://git.example/a?rev=1#2\"", lock("git.example")),
        ("cargo test", "Cargo.lock", "name = \"a\"", lock("")),
        ("cargo test", "Cargo.lock", "source = \"registry+https://x.example/crates.io-index\"", None),
        (
            "cargo test",
            "Cargo.toml",
            "[package]\nfoo = { git = \"https://git.example/foo\", rev = \"1\" }\n",
            lock("git.example"),
        ),
        ("deno test", "deno.lock", "\"remote\": {\"https://mods.example/a.ts\": \"1a\"}", lock("mods.example")),
        ("deno test", "deno.lock", "\"specifiers\": {\"jsr:@std/assert@1\": \"1.0.0\"}", None),
        ("go test ./...", "go.mod", "module a", lock("")),
        ("go test ./...", "go.sum", "", lock("")),
        ("go test ./...", "go.sum", "a v1 h1:x", None),
        (
            "./gradlew test",
            "gradle/wrapper/gradle-wrapper.properties",
            "distributionUrl=https\\://dist.example/a.zip",
            lock("dist.example"),
        ),
        (
            "dotnet test",
            "NuGet.config",
            "<add key=\"a\" value=\"https://nuget.example:8443/v3\" />",
            lock("nuget.example:8443"),
        ),
        ("pre-commit run", ".pre-commit-config.yaml", "- repo: https://hooks.example/a", lock("hooks.example")),
    ] {
        assert_eq!(hosts_of(command, &[(file, text)], &user), hosts, "{command} {text}");
    }
    let vendored = [("go.sum", "a v1 h1:x"), ("vendor/", "")];
    assert_eq!(hosts_of("go test ./...", &vendored, &user), Some(Vec::new()));
    let configured =
        [("package.json", ""), ("pnpm-lock.yaml", ""), (".npmrc", "@a:registry=https://u:p@npm.example:81/")];
    assert_eq!(hosts_of("pnpm install", &configured, &user), lock("npm.example:81"));
}

#[test]
fn gradle_reaches_its_repositories_and_a_distribution_that_is_missing() {
    let home = tempfile::tempdir().unwrap();
    let user = UserFiles { home: Some(home.path().to_owned()), ..UserFiles::default() };
    let wrapper =
        ("gradle/wrapper/gradle-wrapper.properties", "distributionUrl=https\\://dist.example/g-8.5-bin.zip\n");
    let script = (
        "build.gradle",
        "licenses { license { url 'https://quoted.example/L' } }\nmavenContent { url 'https://quoted.example' }\n\
         repositories {\n  mavenCentral()\n  maven {\n    credentials { username = u }\n    url = uri('https://a.example/m2')\n  }\n  \
         maven { url 'https://b.example/m2' }\n}\n",
    );
    let kotlin = (
        "settings.gradle.kts",
        "repositories { maven(\"https://c.example/m2\"); maven { url = uri(\"https://d.example\") } }",
    );
    let found = || hosts_of("sh ./gradlew test", &[wrapper, script, kotlin], &user);
    let all = |first: &[&str]| Some(first.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    assert_eq!(found(), all(&["a.example", "b.example", "c.example", "d.example", "dist.example"]));
    let dist = home.path().join(".gradle/wrapper/dists/g-8.5-bin/1abc");
    std::fs::create_dir_all(&dist).unwrap();
    assert_eq!(found().unwrap().len(), 5, "an incomplete download");
    std::fs::write(dist.join("g-8.5-bin.zip.ok"), "").unwrap();
    assert_eq!(found(), all(&["a.example", "b.example", "c.example", "d.example"]));
}

#[test]
fn a_package_from_elsewhere_does_not_replace_the_usual_addresses() {
    for (command, file, text) in [
        ("pnpm install", "pnpm-lock.yaml", "resolution: {tarball: https://git.example/a.tgz}"),
        ("pnpm install", "pnpm-lock.yaml", "resolution: {commit: 1a, repo: https://git.example/a, type: git}"),
        ("yarn install", "yarn.lock", "resolution: \"a@https://git.example/a.git#commit=1a\""),
        ("poetry install", "poetry.lock", "type = \"git\"\nurl = \"https://git.example/a\""),
        ("pip install -r requirements.txt", "requirements.txt", "a @ git+https://git.example/a@v1"),
        ("mix deps.get", "mix.lock", r#""a": {:git, "https://git.example/a.git", "1a", []},"#),
    ] {
        let manager = MANAGERS.iter().find(|m| starts(m, command)).unwrap();
        let files = BTreeMap::from([(file.to_owned(), text.as_bytes().to_vec())]);
        match hosts(manager, &[file.to_owned()], &files, &UserFiles::default()) {
            Hosts::Ask(also) => assert_eq!(also, BTreeSet::from(["git.example".to_owned()]), "{command}"),
            Hosts::Found(found) => panic!("{command}: the manager is not asked for its own hosts: {found:?}"),
        }
    }
}

#[test]
fn the_users_configuration_and_cargos_index_are_read() {
    let home = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(".npmrc", "registry = https://mine.example/\n//mine.example/:_authToken=secret\n");
    write(".cargo/registry/index/index.example-1949cf8c6b5b557f/config.json", r#"{"dl": "https://dl.example/crates"}"#);
    let user = UserFiles { home: Some(home.path().to_owned()), ..UserFiles::default() };
    let found = |command, file| hosts_of(command, &[(file, "[dependencies]")], &user).unwrap();
    assert_eq!(found("npm install", "package.json"), ["mine.example"]);
    assert_eq!(found("cargo test", "Cargo.toml"), ["dl.example", "index.example"]);
}

#[test]
fn only_commands_that_install_need_the_network() {
    let needs = |command: &str| MANAGERS.iter().find(|m| starts(m, command)).map(|m| m.name);
    assert_eq!(needs("npm test"), None);
    assert_eq!(needs("cd web && { npm ci --no-audit; }"), Some("npm"));
    assert_eq!(needs("node .yarn/releases/yarn-4.5.0.cjs install --immutable"), Some("yarn"));
    assert_eq!(needs("make install"), None);
    assert_eq!(needs("python3 -m pytest -q"), None);
    for command in [
        "CGO_ENABLED=0 go test ./...",
        "cd a && time go test ./...",
        "timeout 60 go test ./...",
        "nice -n 10 go vet ./...",
        "sh -c 'cd a; go test ./...'",
        "env GOFLAGS=-mod=mod \\\n  go build ./...",
        "x=$(go list ./...)",
        "if ! /usr/local/go/bin/go test ./...; then exit 1; fi",
    ] {
        assert_eq!(needs(command), Some("go"), "{command}");
    }
    for command in ["grep -rn go .", "./run.sh --with go", "ls src/go", "pytest -k cargo", "echo 'mix and dart'"] {
        assert_eq!(needs(command), None, "{command}");
    }
    assert_eq!(needs("npm run build; make install"), None, "the word belongs to another command");
}

/// Resolves names from a table.
struct Table(&'static [(&'static str, &'static [&'static str])]);

#[async_trait::async_trait]
impl Resolver for Table {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
        let found = self.0.iter().find(|(name, _)| *name == host).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(found.1.iter().map(|ip| std::net::SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }
}

#[tokio::test]
async fn addresses_outside_the_public_internet_are_proposed_with_their_hosts() {
    let table = Table(&[
        ("public.example", &["8.8.8.8"]),
        ("mirror.example", &["10.1.2.3"]),
        ("both.example", &["10.9.9.9", "8.8.8.8"]),
        ("mapped.example", &["::ffff:192.168.7.7"]),
        ("here.example", &["127.0.0.1", "::1"]),
        ("metadata.example", &["169.254.169.254"]),
    ]);
    let found = async |hosts: &[&str], allowed: &[&str]| {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let allowed = AllowedHosts::parse(&own(allowed)).unwrap();
        private_addresses(&own(hosts), &allowed, &table).await
    };
    assert_eq!(found(&["public.example", "both.example", "unknown.example"], &[]).await, [""; 0]);
    assert_eq!(found(&["mirror.example", "mapped.example:8443"], &[]).await, ["10.1.2.3", "192.168.7.7:8443"]);
    assert_eq!(found(&["here.example", "metadata.example"], &[]).await, [""; 0], "never proposed");
    assert_eq!(found(&["mirror.example"], &["mirror.example"]).await, ["10.1.2.3"], "the name alone is not enough");
    assert_eq!(found(&["mirror.example"], &["mirror.example", "10.1.2.3"]).await, [""; 0]);
}

#[tokio::test]
async fn a_manager_is_asked_where_nothing_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("npm"), "#!/bin/sh\necho https://default.example/\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("npm"), mode).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let user = UserFiles { environment: vec![("PATH".into(), path.into())], ..UserFiles::default() };
    let check = CheckSpec {
        name: "npm-install".to_owned(),
        kind: CheckKind::Setup,
        command: "npm install".to_owned(),
        timeout_secs: 1,
        junit: None,
        runner: None,
        detected: false,
    };
    let found = needed(std::slice::from_ref(&check), &["package.json".to_owned()], &BTreeMap::new(), &user).await;
    let checks = vec!["npm-install".to_owned()];
    assert_eq!(found, [Needed { manager: "npm", checks, hosts: vec!["default.example".to_owned()] }]);
    let list = "#!/bin/sh\necho '[repositories.packages.example.url] https://php.example'; echo '[home] /a/b.d'\n";
    std::fs::write(dir.path().join("composer"), list).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("composer"), mode).unwrap();
    let install = CheckSpec { command: "composer install".to_owned(), ..check.clone() };
    let found = needed(&[install], &["composer.json".to_owned()], &BTreeMap::new(), &user).await;
    assert_eq!(found[0].hosts, ["php.example"]);
    // A manager that does not know its own setting is asked in the next way.
    let script = "#!/bin/sh\ncase $3 in registry) echo https://yarn.example;; *) echo undefined;; esac\n";
    std::fs::write(dir.path().join("yarn"), script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("yarn"), mode).unwrap();
    let check = CheckSpec { name: "yarn-install".to_owned(), command: "yarn install --immutable".to_owned(), ..check };
    let lock = BTreeMap::from([("yarn.lock".to_owned(), b"__metadata:\n".to_vec())]);
    let found = needed(&[check], &["yarn.lock".to_owned()], &lock, &user).await;
    let checks = vec!["yarn-install".to_owned()];
    assert_eq!(found, [Needed { manager: "yarn", checks, hosts: vec!["yarn.example".to_owned()] }]);
}
