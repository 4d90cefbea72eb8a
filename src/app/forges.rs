//! The forges of this process, looked up by name.

use crate::domain::ForgeName;
use crate::ports::{Forge, Forges, HumanActions, PortError, PortResult};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A forge, and what people can do on it through Skep.
struct Entry {
    forge: Arc<dyn Forge>,
    human_actions: Option<Arc<dyn HumanActions>>,
}

/// The registered forges. The local forge is always among them.
pub struct ForgeRegistry(BTreeMap<ForgeName, Entry>);

impl ForgeRegistry {
    /// Creates a registry with the local forge.
    pub fn new<F: Forge + HumanActions + 'static>(local: Arc<F>) -> ForgeRegistry {
        let entry = Entry { forge: local.clone(), human_actions: Some(local) };
        ForgeRegistry([(ForgeName::default(), entry)].into())
    }

    fn entry(&self, name: &ForgeName) -> PortResult<&Entry> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(ForgeName::as_str).collect();
            PortError::permanent(
                format!("there is no forge {name}; configured: {}", names.join(", ")),
                "configure the forge, or move the project to another one",
            )
        })
    }
}

impl Forges for ForgeRegistry {
    fn get(&self, name: &ForgeName) -> PortResult<Arc<dyn Forge>> {
        Ok(self.entry(name)?.forge.clone())
    }

    fn human_actions(&self, name: &ForgeName) -> PortResult<Arc<dyn HumanActions>> {
        self.entry(name)?.human_actions.clone().ok_or_else(|| {
            PortError::permanent(
                format!("the forge {name} has pages of its own for this"),
                "review, comment and merge on the forge's own pages",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_forge_is_an_error_that_names_the_known_ones() {
        let error = ForgeRegistry(BTreeMap::new()).get(&ForgeName("github".to_owned())).err().unwrap();
        assert!(error.to_string().contains("there is no forge github"), "{error}");
    }
}
