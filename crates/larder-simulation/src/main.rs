//! `larder-simulation --seeds 2000`
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: u64 = args[1].parse().unwrap();
    let m: u64 = args[2].parse().unwrap();
    let mut counts = larder_simulation::Counts::default();
    let traced = args.len() > 3;
    for seed in n..m {
        let o = larder_simulation::run(seed, traced);
        if let Some(v) = &o.violation {
            println!("seed {seed} {:?} hash {:x}: {}\n{}", o.lasted, o.hash, v.what, v.story);
        }
        if traced && args[3] == "all" { println!("{}", o.story); }
        counts.join(&o.counts);
        if m - n < 5 { println!("{seed}: {:x} {:?}", o.hash, o.lasted); }
    }
    println!("{counts}");
}
