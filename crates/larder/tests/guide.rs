//! The pages of the guide quote what the examples print.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]
#![expect(dead_code, reason = "what an example has beside its report is its own")]

#[path = "../examples/batches.rs"]
mod batches;
#[path = "../examples/leases.rs"]
mod leases;
#[path = "../examples/limits.rs"]
mod limits;
#[path = "../examples/stale.rs"]
mod stale;
#[path = "../examples/timing.rs"]
mod timing;
#[cfg(all(feature = "msgpack", feature = "postcard", feature = "zstd", feature = "lz4"))]
#[path = "../examples/values.rs"]
mod values;

use larder_testkit::RedisServer;

/// The tables of a report stand in its page, to the letter.
fn quotes(page: &str, file: &str, report: &str) {
    let tables: Vec<&str> =
        report.split("\n\n").filter(|part| part.starts_with('|')).map(str::trim_end).collect();
    assert!(!tables.is_empty(), "the example prints no table:\n{report}");
    for table in tables {
        assert!(page.contains(table), "put this into docs/guide/{file}:\n{table}");
    }
}

macro_rules! quotes {
    ($($test:ident: $example:ident, $file:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let page = include_str!(concat!("../../../docs/guide/", $file));
                quotes(page, $file, &$example::report().await.unwrap());
            }
        )*
    };
}

quotes! {
    the_page_about_stale_values_shows_what_its_example_prints: stale, "stale.md";
    the_page_about_timing_shows_what_its_example_prints: timing, "timing.md";
    the_page_about_limits_shows_what_its_example_prints: limits, "limits.md";
    the_page_about_batches_shows_what_its_example_prints: batches, "batches.md";
}

#[cfg(all(feature = "msgpack", feature = "postcard", feature = "zstd", feature = "lz4"))]
quotes! {
    the_page_about_values_shows_what_its_example_prints: values, "values.md";
}

/// Its times are those of a real Redis, and no two runs are alike. The loads are.
#[tokio::test]
async fn the_page_about_leases_shows_the_loads_of_its_example() {
    let server = RedisServer::start().await;
    let report = leases::report(&server.url()).await.unwrap();
    let page = include_str!("../../../docs/guide/leases.md");
    for row in ["| with leases | 1 |", "| `.without_lease()` | 4 |"] {
        assert!(report.contains(row), "{row} is not in\n{report}");
        assert!(page.contains(row), "put this into docs/guide/leases.md: {row}");
    }
}
