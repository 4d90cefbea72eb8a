//! The way out, with a scripted provider and hosts on this machine.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | no key gets in, nothing of the agent's gets out with it |
//! | `money` | what is counted, held and refused |
//! | `faults` | what a provider's no leads to |
//! | `egress` | which hosts are reached |
//! | `measure` | what the gate costs a call |

mod faults;
mod keys;
mod measure;
mod money;
mod tunnel;
