//! Which names are in use, for what: two pieces of code that disagree about a namespace hear of it when they start.

use std::any::TypeId;

use crate::engine::Engine;
use crate::error::NamespaceError;
use crate::key::is_namespace_name;
use crate::policy::Policy;

/// What a handle is on: a namespace, or a sub-resource in one (`("trig", "logs")` makes keys `trig:123:logs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub(crate) namespace: String,
    pub(crate) sub: String,
}

impl From<&str> for Resource {
    fn from(namespace: &str) -> Self {
        Resource { namespace: namespace.to_owned(), sub: String::new() }
    }
}

impl From<(&str, &str)> for Resource {
    fn from((namespace, sub): (&str, &str)) -> Self {
        Resource { namespace: namespace.to_owned(), sub: sub.to_owned() }
    }
}

impl Resource {
    pub(crate) fn check(&self) -> Result<(), NamespaceError> {
        let bad = if !is_namespace_name(&self.namespace) {
            &self.namespace
        } else if !self.sub.is_empty() && !is_namespace_name(&self.sub) {
            &self.sub
        } else {
            return Ok(());
        };
        Err(NamespaceError::Name { name: bad.clone() })
    }

    pub(crate) fn name(&self) -> String {
        if self.sub.is_empty() {
            self.namespace.clone()
        } else {
            format!("{}:*:{}", self.namespace, self.sub)
        }
    }
}

/// What a name is in use for.
pub(crate) struct Registered {
    type_id: TypeId,
    type_name: &'static str,
    policy: Policy,
}

/// Takes a name, or says with what it clashes.
pub(crate) fn register<V: 'static>(
    engine: &Engine,
    resource: &Resource,
    policy: &Policy,
) -> Result<(), NamespaceError> {
    resource.check()?;
    let name = resource.name();
    policy.check().map_err(|source| NamespaceError::Policy { name: name.clone(), source })?;
    let here = Registered {
        type_id: TypeId::of::<V>(),
        type_name: std::any::type_name::<V>(),
        policy: policy.clone(),
    };
    let mut registry = engine.registry.lock();
    let there = registry.entry(name.clone()).or_insert_with(|| Registered {
        type_id: here.type_id,
        type_name: here.type_name,
        policy: policy.clone(),
    });
    let clash = |what, there: String, here: String| Err(NamespaceError::Clash { name, what, there, here });
    if there.type_id != here.type_id {
        clash("type", there.type_name.to_owned(), here.type_name.to_owned())
    } else if there.policy != here.policy {
        clash("policy", format!("{:?}", there.policy), format!("{:?}", here.policy))
    } else {
        Ok(())
    }
}
