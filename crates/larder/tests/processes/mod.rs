//! What tests share whose nodes are processes of their own: how they are started, and how they are talked to.

pub(crate) mod peer;
pub(crate) mod wire;
