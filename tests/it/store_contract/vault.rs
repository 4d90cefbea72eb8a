//! The vault: values are sealed and bound to their row, and damage to one secret affects no other.

use crate::support::runs::project;
use crate::support::stores::{TestStore, permanent};
use skep::adapters::store::{KeySource, SeaVault};
use skep::ports::vault::{MAX_SECRET_BYTES, SecretName, Vault};
use skep::secrets::{Key, Secret, redact};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

super::on_both!(
    a_value_is_returned_and_never_stored_in_the_clear,
    a_projects_secret_takes_precedence,
    tampering_affects_one_secret_only,
    a_missing_key_is_named,
    a_lost_key_is_not_replaced_silently,
    a_new_key_reseals_everything,
    a_rekey_that_cannot_open_a_secret_changes_none,
    concurrent_writers_lose_nothing,
    invalid_names_and_values_are_refused
);

fn name(text: &str) -> SecretName {
    SecretName::new(text).expect("a name")
}

fn value(text: &str) -> Secret {
    Secret::new(text)
}

/// Creates a vault with its key in a folder of its own.
fn vault(b: &TestStore) -> (tempfile::TempDir, SeaVault) {
    let dir = tempfile::tempdir().expect("a folder");
    let vault = b.sea.vault(KeySource::DataDir, dir.path());
    (dir, vault)
}

fn key_file(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, Key::generate().expect("a key").to_hex().as_bytes()).expect("a key file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

async fn a_value_is_returned_and_never_stored_in_the_clear(b: TestStore) {
    let (dir, vault) = vault(&b);
    assert!(vault.list().await.expect("a list").is_empty());
    assert!(!dir.path().join("vault.key").exists(), "listing must not create a key");
    let (row, notice) = vault.set(&name("A"), None, &value("first-value-of-a")).await.expect("a secret");
    assert_eq!((row.version, row.project, row.last_used_at), (1, None, None));
    assert!(notice.expect("a notice").contains("vault.key"));
    assert_eq!(std::fs::metadata(dir.path().join("vault.key")).expect("a key").permissions().mode() & 0o777, 0o600);
    assert_eq!(vault.open(&name("A"), None).await.expect("its value").expose(), "first-value-of-a");
    assert_eq!(vault.set(&name("A"), None, &value("second-value-of-a")).await.expect("a secret").0.version, 2);
    assert_eq!(vault.open(&name("A"), None).await.expect("its value").expose(), "second-value-of-a");
    let rows = vault.list().await.expect("a list");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].last_used_at.is_some());
    // Another process, the same key.
    let again = b.sea.vault(KeySource::DataDir, dir.path());
    assert_eq!(again.open(&name("A"), None).await.expect("its value").expose(), "second-value-of-a");
    // Both values are registered, so both are redacted.
    assert_eq!(redact("first-value-of-a second-value-of-a"), "[redacted:A] [redacted:A]");

    assert!(vault.remove(&name("A"), None).await.expect("removing"));
    assert!(!vault.remove(&name("A"), None).await.expect("removing twice"));
    let (what, fix) = permanent(vault.open(&name("A"), None).await);
    assert!(what.contains("no secret A") && fix.contains("skep secret set A"), "{what} {fix}");
}

async fn a_projects_secret_takes_precedence(b: TestStore) {
    let (_dir, vault) = vault(&b);
    let tally = project("tally");
    vault.set(&name("A"), None, &value("value-for-all")).await.expect("a secret");
    assert_eq!(vault.open(&name("A"), Some(&tally)).await.expect("a value").expose(), "value-for-all");
    vault.set(&name("A"), Some(&tally), &value("value-of-tally")).await.expect("a secret");
    assert_eq!(vault.open(&name("A"), Some(&tally)).await.expect("a value").expose(), "value-of-tally");
    assert_eq!(vault.open(&name("A"), Some(&project("other"))).await.expect("a value").expose(), "value-for-all");
    assert_eq!(vault.open(&name("A"), None).await.expect("a value").expose(), "value-for-all");
    assert_eq!(vault.for_run(&name("A"), &tally, "strict").await.expect("a value").expose(), "value-of-tally");
    assert!(permanent(vault.for_run(&name("A"), &tally, "none").await).0.contains("sandbox level is none"));
    vault.set(&name("ONLY"), Some(&tally), &value("only-for-tally")).await.expect("a secret");
    assert!(permanent(vault.open(&name("ONLY"), None).await).0.contains("no secret ONLY"));
}

async fn tampering_affects_one_secret_only(b: TestStore) {
    let (_dir, vault) = vault(&b);
    for n in ["A", "B", "C", "D"] {
        vault.set(&name(n), None, &value(&format!("the value of {n}"))).await.expect("a secret");
    }
    // Damage: another row's ciphertext, another version, another row's nonce.
    b.damage("UPDATE secret SET ciphertext = (SELECT ciphertext FROM secret WHERE name = 'D') WHERE name = 'A'").await;
    b.damage("UPDATE secret SET version = 7 WHERE name = 'B'").await;
    b.damage("UPDATE secret SET nonce = (SELECT nonce FROM secret WHERE name = 'D') WHERE name = 'C'").await;
    for n in ["A", "B", "C"] {
        let (what, fix) = permanent(vault.open(&name(n), None).await);
        assert!(what.contains(&format!("cannot open the secret {n}")) && fix.contains("skep secret set"), "{what}");
    }
    assert_eq!(vault.open(&name("D"), None).await.expect("the other's value").expose(), "the value of D");
    assert_eq!(vault.list().await.expect("a list").len(), 4);
    vault.set(&name("A"), None, &value("set again after damage")).await.expect("a secret");
    assert_eq!(vault.open(&name("A"), None).await.expect("its value").expose(), "set again after damage");
}

async fn a_missing_key_is_named(b: TestStore) {
    let (dir, vault) = vault(&b);
    vault.set(&name("A"), None, &value("the value of A")).await.expect("a secret");
    let other = b.sea.vault(KeySource::File(key_file(dir.path(), "other")), dir.path());
    let (what, fix) = permanent(other.open(&name("A"), None).await);
    assert!(what.contains("the secret A is sealed with key") && fix.contains("secrets.key_file"), "{what} {fix}");
    let (what, fix) = permanent(other.check().await);
    assert!(what.contains("1 secret is sealed with key") && fix.contains("secrets.key_file"), "{what} {fix}");
    vault.check().await.expect("its key is there");
    // New values can still be stored.
    other.set(&name("B"), None, &value("the value of B")).await.expect("a secret");
    assert_eq!(other.open(&name("B"), None).await.expect("its value").expose(), "the value of B");

    let open = dir.path().join("open");
    std::fs::write(&open, "ab".repeat(32)).expect("a file");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let refused = async |path: PathBuf| {
        let vault = b.sea.vault(KeySource::File(path), dir.path());
        permanent(vault.set(&name("X"), None, &value("the value of X")).await)
    };
    assert!(refused(open.clone()).await.0.contains("can be read by other users"));
    assert!(refused(dir.path().join("none")).await.0.contains("does not exist"));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    std::fs::write(&open, "no key").expect("a file");
    let (what, _) = refused(open).await;
    assert!(what.contains("does not hold a key") && !what.contains("no key\n"), "{what}");
    let env = b.sea.vault(KeySource::Env("VAULT_KEY".to_owned(), Secret::new("aa".repeat(32))), dir.path());
    env.set(&name("E"), None, &value("the value of E")).await.expect("a secret under a variable's key");
}

async fn a_lost_key_is_not_replaced_silently(b: TestStore) {
    let (dir, first) = vault(&b);
    first.check().await.expect("nothing is stored yet");
    first.set(&name("A"), None, &value("the value of A")).await.expect("a secret");
    let key = dir.path().join("vault.key");
    let kept = std::fs::read(&key).expect("the key");
    std::fs::remove_file(&key).expect("losing it");
    let second = b.sea.vault(KeySource::DataDir, dir.path());
    for answer in [second.check().await, second.set(&name("B"), None, &value("the value of B")).await.map(drop)] {
        let (what, fix) = permanent(answer);
        assert!(!what.is_empty() && fix.contains("restore"), "{what}: {fix}");
    }
    assert!(!key.exists(), "no new key was created");
    std::fs::write(&key, kept).expect("the key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    second.check().await.expect("it is back");
    second.set(&name("B"), None, &value("the value of B")).await.expect("a secret");
}

async fn a_new_key_reseals_everything(b: TestStore) {
    let (dir, vault) = vault(&b);
    for n in 0..5 {
        vault.set(&name(&format!("S{n}")), None, &value(&format!("the value of S{n}"))).await.expect("a secret");
    }
    let old = vault.list().await.expect("a list")[0].key_id.clone();
    let new = key_file(dir.path(), "new");
    let done = vault.rekey(&new).await.expect("a new key");
    assert_eq!(done.secrets, 5);
    assert_ne!(done.key_id, old);
    assert!(vault.list().await.expect("a list").iter().all(|row| row.key_id == done.key_id));
    // This process continues with the new key, a new process finds it in its place, and no file is left over.
    let again = b.sea.vault(KeySource::DataDir, dir.path());
    for v in [&vault, &again] {
        assert_eq!(v.open(&name("S3"), None).await.expect("a value").expose(), "the value of S3");
    }
    let left = std::fs::read_dir(dir.path()).expect("a folder").flatten();
    let mut left: Vec<_> = left.map(|e| e.file_name().into_string().expect("a name")).collect();
    left.sort();
    assert_eq!(left, ["new", "vault.key"]);
    vault.set(&name("S9"), None, &value("stored after the new key")).await.expect("a secret");
    assert_eq!(again.open(&name("S9"), None).await.expect("a value").expose(), "stored after the new key");
    // A configured key file stays where it is, and the result names the next step.
    let named = b.sea.vault(KeySource::File(dir.path().join("vault.key")), dir.path());
    let done = named.rekey(&key_file(dir.path(), "third")).await.expect("a third key");
    assert!(done.next.contains("secrets.key_file") && done.next.contains("third"), "{}", done.next);
    let third = b.sea.vault(KeySource::File(dir.path().join("third")), dir.path());
    assert_eq!(third.open(&name("S0"), None).await.expect("a value").expose(), "the value of S0");
}

async fn a_rekey_that_cannot_open_a_secret_changes_none(b: TestStore) {
    let (dir, vault) = vault(&b);
    vault.set(&name("A"), None, &value("the value of A")).await.expect("a secret");
    vault.set(&name("B"), None, &value("the value of B")).await.expect("a secret");
    b.damage("UPDATE secret SET version = 7 WHERE name = 'B'").await;
    let new = key_file(dir.path(), "new");
    assert!(permanent(vault.rekey(&new).await).0.contains("cannot open the secret B"));
    let again = b.sea.vault(KeySource::DataDir, dir.path());
    assert_eq!(again.open(&name("A"), None).await.expect("a value").expose(), "the value of A");
    again.remove(&name("B"), None).await.expect("removing");
    assert_eq!(again.rekey(&new).await.expect("a new key").secrets, 1);
    assert_eq!(again.open(&name("A"), None).await.expect("a value").expose(), "the value of A");
}

async fn concurrent_writers_lose_nothing(b: TestStore) {
    let (_dir, vault) = vault(&b);
    let vault = std::sync::Arc::new(vault);
    let writers = (0..16).map(|n| {
        let vault = vault.clone();
        tokio::spawn(async move {
            let text = format!("the value of writer {n}");
            vault.set(&name("SAME"), None, &value(&text)).await.expect("a secret");
            text
        })
    });
    let mut written = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        written.push(writer.await.expect("a writer"));
    }
    assert_eq!(vault.list().await.expect("a list")[0].version, 16);
    let last = vault.open(&name("SAME"), None).await.expect("a value");
    assert!(written.iter().any(|text| text == last.expose()));
}

async fn invalid_names_and_values_are_refused(b: TestStore) {
    let (_dir, vault) = vault(&b);
    assert!(permanent(vault.set(&name("A"), None, &value("")).await).0.contains("0 bytes"));
    let most = "x".repeat(MAX_SECRET_BYTES);
    vault.set(&name("A"), None, &value(&most)).await.expect("the largest");
    assert!(permanent(vault.set(&name("A"), None, &value(&format!("{most}x"))).await).0.contains("65537 bytes"));
    for bad in ["", "1A", "a b", "a/b", "é", &"a".repeat(65)] {
        assert!(SecretName::new(bad).is_err(), "{bad}");
    }
}
