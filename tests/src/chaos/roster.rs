//! Which service processes run now, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::stack::Service;
use crate::stack::service::ServiceBuilder;

/// The processes that run, or have just been ended by a fault.
#[derive(Debug, Default)]
pub(super) struct Roster {
    services: Mutex<BTreeMap<String, Arc<Service>>>,
}

impl Roster {
    /// Starts a service under a name; the one that had it before is killed if it still runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start(
        &self,
        name: &str,
        builder: ServiceBuilder<'_>,
    ) -> Result<Arc<Service>> {
        if let Some(before) = self.remove(name) {
            before.kill()?;
        }
        let service = Arc::new(builder.start().await.with_context(|| name.to_owned())?);
        self.lock().insert(name.to_owned(), Arc::clone(&service));
        Ok(service)
    }

    /// The process of that name.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Service>> {
        self.lock().get(name).cloned().with_context(|| format!("no {name} runs"))
    }

    /// Takes a process off the roster.
    pub(super) fn remove(&self, name: &str) -> Option<Arc<Service>> {
        self.lock().remove(name)
    }

    /// All processes with their names.
    pub(super) fn all(&self) -> Vec<(String, Arc<Service>)> {
        self.lock().iter().map(|(name, service)| (name.clone(), Arc::clone(service))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
