//! A seed is worth something only if it replays exactly: in this process, in another, traced or not, beside other seeds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::process::Command;

use larder_simulation::run;

/// Some with many nodes, some with many faults, some with none.
const SEEDS: [u64; 6] = [1, 2, 7, 42, 739, 1821];

#[test]
fn a_seed_runs_the_same_twice_in_one_process_with_others_beside_it() {
    let first: Vec<_> = SEEDS.iter().map(|seed| run(*seed, false)).collect();
    std::thread::scope(|scope| {
        for before in &first {
            scope.spawn(move || {
                let again = run(before.seed, true);
                assert_eq!((again.hash, again.lasted), (before.hash, before.lasted), "seed {}", before.seed);
                assert_eq!(again.counts, before.counts, "seed {}", before.seed);
            });
        }
    });
    let mut hashes: Vec<_> = first.iter().map(|outcome| outcome.hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), SEEDS.len(), "different seeds are different runs");
}

#[test]
fn a_seed_runs_the_same_in_two_processes_event_by_event() {
    for seed in SEEDS {
        let seed = seed.to_string();
        let story = || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_larder-simulation"));
            let ran = program.args(["--seed", &seed, "--trace"]).output().unwrap();
            assert!(ran.status.success(), "seed {seed}");
            String::from_utf8(ran.stdout).unwrap()
        };
        let (one, other) = (story(), story());
        assert!(one.lines().count() > 1000, "seed {seed} tells what happened");
        let differs = one.lines().zip(other.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
