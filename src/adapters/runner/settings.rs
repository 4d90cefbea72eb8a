//! Settings of the configured runners, and the form of their names.

use std::path::PathBuf;

/// Name of the built-in runner: this machine, in the sandbox.
pub const LOCAL: &str = "local";

/// A remote runner and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A host over SSH.
    Ssh(Ssh),
    /// Containers of a Docker engine.
    Docker(Docker),
}

/// A host over SSH. Commands have all rights of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User that commands run as.
    pub user: String,
    /// Private key.
    pub identity_file: PathBuf,
    /// Known host keys; no other key is accepted.
    pub known_hosts: PathBuf,
    /// Folder for Skep's files, relative to the user's home.
    pub dir: String,
}

/// Containers of a Docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// Image; it must exist on the engine, because Skep never pulls one.
    pub image: String,
    /// Address of the engine; empty = the default engine of this machine.
    pub docker_host: String,
    /// Network: `none`, or the name of one that exists on the engine.
    pub network: String,
    /// Memory of a container, in bytes.
    pub memory: u64,
    /// CPUs of a container.
    pub cpus: u32,
    /// Maximum number of processes in a container.
    pub processes: u32,
    /// User and group id that commands run as.
    pub user: (u32, u32),
    /// Container runtime; empty = the engine's default.
    pub runtime: String,
}

impl Runner {
    /// Returns the kind, as written in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Runner::Ssh(_) => "ssh",
            Runner::Docker(_) => "docker",
        }
    }

    /// Its address and main settings, in one line.
    pub fn location(&self) -> String {
        match self {
            Runner::Ssh(s) => format!("{}@{}, port {}, folder {}", s.user, s.host, s.port, s.dir),
            Runner::Docker(d) => {
                let engine = if d.docker_host.is_empty() { "the local engine" } else { d.docker_host.as_str() };
                format!("image {} on {engine}, network {}", d.image, d.network)
            }
        }
    }
}

/// Returns whether a text is a valid runner name.
pub fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}
