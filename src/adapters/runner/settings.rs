//! Where checks may run besides Skep's own machine: what a person wrote in the configuration, and the form of names.

use std::path::PathBuf;

/// The name of Skep's own machine, where the walls are.
pub const LOCAL: &str = "local";

/// A place and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A host over SSH.
    Ssh(Ssh),
    /// Containers of a Docker engine.
    Docker(Docker),
}

/// A host over SSH. Commands have all rights of the user there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user commands run as.
    pub user: String,
    /// The private key.
    pub identity_file: PathBuf,
    /// The host keys that are known: no other is accepted.
    pub known_hosts: PathBuf,
    /// The folder Skep keeps its own in; relative to the user's home.
    pub dir: String,
}

/// Containers of a Docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// The image, which must be there: nothing is fetched.
    pub image: String,
    /// The engine's address; empty = the machine's own.
    pub docker_host: String,
    /// The network: `none`, or one the engine has.
    pub network: String,
    /// Memory of a container in bytes.
    pub memory: u64,
    /// Processors of a container.
    pub cpus: u32,
    /// The most processes of a container.
    pub processes: u32,
    /// User and group commands run as.
    pub user: (u32, u32),
    /// The engine's runtime; empty = its default.
    pub runtime: String,
}

impl Runner {
    /// Its kind in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Runner::Ssh(_) => "ssh",
            Runner::Docker(_) => "docker",
        }
    }

    /// Where it is, in one line.
    pub fn whereabouts(&self) -> String {
        match self {
            Runner::Ssh(s) => format!("{}@{}, port {}, folder {}", s.user, s.host, s.port, s.dir),
            Runner::Docker(d) => {
                let engine = if d.docker_host.is_empty() { "this machine's engine" } else { d.docker_host.as_str() };
                format!("image {} on {engine}, network {}", d.image, d.network)
            }
        }
    }
}

/// Whether a text can be a place's name.
pub fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}
