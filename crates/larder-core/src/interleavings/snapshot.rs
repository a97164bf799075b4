//! The snapshot beside readers: what it has rows for, and what only the floor says.

use std::sync::Arc;

use super::node::{InMemory, epoch, node};
use super::{Told, explore, together};
use crate::log::{Lineage, Opened};
use crate::runtime::Moment;

/// A node has missed records, and the stamps do not reach back to where it stands: nothing names the entry, and it may be dead all
/// the same. Readers look it up while the node synchronises. Whoever reads `n` as it is afterwards must find the floor as well,
/// or he dates the entry up, and it is valid for good.
#[test]
fn what_a_gap_may_hide_is_dead_for_who_reads_beside_the_synchronisation() {
    explore(|| {
        let (node, told) = (node(64), Told::default());
        let entry = InMemory::new(node.n());
        let synchronise = {
            let (node, told) = (node.clone(), told.clone());
            move || {
                let opened = Opened {
                    head: epoch(40),
                    lineage: Lineage::default(),
                    since: 30,
                    server_ms: 0,
                    server_known: true,
                };
                node.synchronise(&opened, &[], Moment::ORIGIN, Moment::ORIGIN);
                told.set(1);
            }
        };
        let read = || {
            let (node, entry, told) = (Arc::clone(&node), entry.clone(), told.clone());
            move || {
                for _ in 0..3 {
                    let done = told.get();
                    assert!(!entry.is_valid(&node) || done == 0, "what the gap may hide is valid");
                }
            }
        };
        together([Box::new(synchronise), Box::new(read()), Box::new(read())]);
        assert!(!entry.is_valid(&node), "it was dated up beyond the gap");
    });
}
