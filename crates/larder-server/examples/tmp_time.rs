//! x
use larder_server::demo::catalog::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let level: Level = a[1].parse().unwrap();
    let path = std::path::Path::new(&a[2]);
    let t = Instant::now();
    let c = Catalog::open(path, level, 1_700_000_000_000).unwrap();
    println!("open {level}: {:?}", t.elapsed());
    if a.len() > 3 { println!("{:?}", c.statistics(0).unwrap().automations); return; }
    let q = |s: &str| Filters { q: Some(s.into()), ..Default::default() };
    let time = |name: &str, f: &dyn Fn()| {
        let mut v: Vec<_> = (0..15).map(|_| { let t = Instant::now(); f(); t.elapsed() }).collect();
        let first = v[0]; v.sort();
        println!("{name:40} first {first:?} median {:?} max {:?}", v[7], v[14]);
    };
    time("facets()", &|| { c.facets(&Filters::default()).unwrap(); });
    time("facets(backup)", &|| { c.facets(&q("backup")).unwrap(); });
    time("facets(light)", &|| { c.facets(&q("light")).unwrap(); });
    time("facets(trigger=state)", &|| { c.facets(&Filters{trigger: Some("state".into()), ..Default::default()}).unwrap(); });
    time("facets(blueprint)", &|| { c.facets(&Filters{blueprint: Some("lighting/motion_light.yaml".into()), ..Default::default()}).unwrap(); });
    time("search()", &|| { c.search(&Filters::default(), 1).unwrap(); });
    time("search(backup)", &|| { c.search(&q("backup"), 1).unwrap(); });
    time("search(light) p3", &|| { c.search(&q("light"), 3).unwrap(); });
    time("statistics", &|| { c.statistics(0).unwrap(); });
    time("repository", &|| { c.repository(7).unwrap(); });
    for s in ["backup","motion","light"] { println!("{s}: {}", c.search(&q(s),1).unwrap().total); }
    println!("{:#?}", c.statistics(0).unwrap());
    if level == Level::One { 
      println!("{}", serde_json::to_string_pretty(&c.search(&q("backup"),1).unwrap().results[..3]).unwrap());
      println!("{}", serde_json::to_string(&c.facets(&Filters::default()).unwrap()).unwrap()); 
      println!("{:?}", c.repository(7)); }
}
