//! Options of the commands that maintain an installation: backups, restores, cleanups.

use clap::Args;
use std::path::PathBuf;

const BACKUP: &str = "\
Examples:
  skep backup /backups
  skep backup skep.tar --with-vault-key

The backup is a tar file with the store, the commits that only Skep has, the changes of the local forge and the
configuration. It does not hold your repositories, the token, or the vault's key. A service may be running.";

const RESTORE: &str = "\
Examples:
  skep restore skep.tar --data-dir /var/lib/skep
  SKEP_STORE__URL_FILE=/etc/skep/store-url skep restore skep.tar

The database is the one of the configuration that is in force now, SQLite or Postgres, whatever the backup was made from.
An interrupted restore is repeated with the same command.";

/// Options of `skep backup`.
#[derive(Debug, Args)]
#[command(after_help = BACKUP)]
pub struct BackupArgs {
    /// File to write, or a folder in which the backup gets a name of its own
    #[arg(value_name = "FILE|DIR")]
    pub to: PathBuf,
    /// Also back up the vault's key: anyone who has the backup then has every secret
    #[arg(long)]
    pub with_vault_key: bool,
}

/// Options of `skep restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
}

/// Options of `skep gc`.
#[derive(Debug, Args)]
#[command(after_help = "Work that exists only here is never removed. A service may be running.")]
pub struct GcArgs {
    /// Only show what would be removed, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Remove caches that no check has filled for this long
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub caches_unused: std::time::Duration,
    /// Remove logs, transcripts, prompts and test reports of runs that ended this long ago [default: none]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub logs_older: Option<std::time::Duration>,
}
