//! `memory-per-entry`: what an entry takes beside its key and its value.
//!
//! A million entries, keys of 16 bytes, values of 8. Each cache fills in a process of its own, where the allocator
//! counts; the growth of the process is shown beside it. Larder's bound is raised to 512 MiB, so that everything fits.

use larder_core::units::{HOUR, MIB};
use larder_core::{Cache, Policy};

use crate::child;
use crate::report::{Row, Target};
use crate::rounds::{Effort, median};
use crate::{alloc, machine};

/// The word by which a child process is told to fill a cache.
pub const WORD: &str = "entries";

const KEY: usize = 16;
const VALUE: usize = size_of::<u64>();
const LIMIT: f64 = 250.0;

pub fn run(effort: Effort) -> Vec<Row> {
    let entries: usize = effort.pick(1_000_000, 250_000);
    // Heap and process size, in bytes per entry.
    let of = |side: &str| {
        let measured: Vec<(f64, f64)> = (0..effort.pick(3, 1))
            .map(|_| {
                let said = child::answer(&[WORD, side, &entries.to_string()]);
                let per_entry = |bytes: f64| bytes / entries as f64 - (KEY + VALUE) as f64;
                (per_entry(said[0]), per_entry(said[1]))
            })
            .collect();
        let (heap, process) = measured.into_iter().unzip();
        (median(heap), median(process))
    };
    let [ours, quick, moka] = ["larder", "quick_cache", "moka"].map(of);
    let shown = |(heap, process): (f64, f64)| format!("{heap:.0} B (process {process:.0} B)");
    let row = |rival: &str, figures, target| Row {
        name: "memory-per-entry",
        what: format!("{entries} small entries, heap per entry"),
        ours: shown(ours),
        rival: format!("{rival} {}", shown(figures)),
        judged: ours.0,
        unit: "B",
        target,
    };
    vec![row("quick_cache", quick, Target::AtMost(LIMIT)), row("moka", moka, Target::Open)]
}

/// In the child: heap bytes asked for, and growth of the process, by filling one cache.
pub fn fill(side: &str, entries: usize) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let key = |number: usize| format!("{number:0KEY$}");
    let before = machine::resident();
    alloc::count();
    let held: Box<dyn std::any::Any> = match side {
        "larder" => {
            let cache = runtime.block_on(Cache::builder().memory(512 * MIB).build()).unwrap();
            let typed = cache.namespace::<u64>("n", Policy::ttl(HOUR)).unwrap();
            (0..entries).for_each(|n| assert!(typed.put(key(n), n as u64)));
            assert_eq!(cache.stats().memory_entries, entries, "nothing was evicted");
            Box::new(cache)
        }
        "quick_cache" => {
            // Larger than the number of entries, as its parts do not fill evenly.
            let cache = quick_cache::sync::Cache::<String, u64>::new(entries + entries / 8);
            (0..entries).for_each(|n| cache.insert(key(n), n as u64));
            assert_eq!(cache.len(), entries, "nothing was evicted");
            Box::new(cache)
        }
        "moka" => {
            let cache: moka::future::Cache<String, u64> =
                moka::future::Cache::builder().max_capacity(2 * entries as u64).time_to_live(HOUR).build();
            runtime.block_on(async {
                for n in 0..entries {
                    cache.insert(key(n), n as u64).await;
                }
                cache.run_pending_tasks().await;
            });
            assert_eq!(cache.entry_count(), entries as u64, "nothing was evicted");
            Box::new(cache)
        }
        other => panic!("no cache is called {other}"),
    };
    let measured = vec![alloc::live() as f64, machine::resident() - before];
    drop(held);
    measured
}
