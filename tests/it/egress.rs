//! The egress proxy, with a scripted provider and hosts on this machine.
//!
//! | file | covers |
//! |---|---|
//! | `keys` | API keys, authentication, forwarded requests |
//! | `money` | usage, reservations, caps |
//! | `faults` | errors of a provider |
//! | `tunnel` | hosts that can be reached |
//! | `measure` | overhead of the proxy per call |

mod faults;
mod keys;
mod measure;
mod money;
mod tunnel;
