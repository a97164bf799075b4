//! Which calls share an answer.

use larder::{Cache, Selector, cached};

use crate::{Count, Fault, cache};

#[cached(namespace = "page", key = "{user}:pages:{number}")]
async fn page(cache: &Cache, user: &str, number: u32, loads: &Count) -> Result<String, Fault> {
    loads.up();
    Ok(format!("page {number} of {user}"))
}

#[cached(namespace = "word")]
async fn word(cache: &Cache, text: &str) -> Result<String, Fault> {
    Ok(format!("<{text}>"))
}

#[tokio::test]
async fn input_from_outside_stays_inside_its_segment() {
    let (cache, ..) = cache().await;
    let loads = Count::default();
    let names = ["ann", "ann:pages:1", "*", "ann%3Apages", "#tag", "", "ann:*", "~"];
    for name in names {
        for number in [1, 2] {
            assert_eq!(page(&cache, name, number, &loads).await.unwrap(), format!("page {number} of {name}"));
        }
        assert_eq!(word(&cache, name).await.unwrap(), format!("<{name}>"));
    }
    assert_eq!(loads.so_far(), 2 * names.len());
    let _ = cache.invalidate([Selector::under(("page", "*"))]).await;
    for name in names {
        page(&cache, name, 1, &loads).await.unwrap();
    }
    assert_eq!(loads.so_far(), 2 * names.len() + 1, "`*` is a name, and only its pages went");
}

#[tokio::test]
async fn keys_are_those_that_people_write() {
    let (cache, ..) = cache().await;
    let loads = Count::default();
    page(&cache, "ann", 1, &loads).await.unwrap();
    page(&cache, "ann", 2, &loads).await.unwrap();
    let _ = cache.invalidate_str(&["page:ann:pages:1"]).await.unwrap();
    page(&cache, "ann", 1, &loads).await.unwrap();
    page(&cache, "ann", 2, &loads).await.unwrap();
    assert_eq!(loads.so_far(), 3);
}

#[cached(namespace = "trig", sub = "logs")]
async fn logs(cache: &Cache, id: u64, loads: &str) -> Result<u64, Fault> {
    Ok(id + loads.len() as u64)
}

#[tokio::test]
async fn without_a_key_all_arguments_are_it() {
    let (cache, ..) = cache().await;
    assert_eq!((logs(&cache, 1, "x").await, logs(&cache, 1, "xx").await), (Ok(2), Ok(3)));
    let explained = cache.explain("trig:1:logs:xx").await.unwrap();
    assert_eq!(explained.entries.len(), 1, "{explained:?}");
}

#[derive(Clone)]
struct Search {
    text: String,
    page: Option<u8>,
}

#[cached(key = (search.text, search.page, a, b, c, d, e, "v2"))]
async fn found(
    cache: &Cache,
    search: Search,
    a: u8,
    b: bool,
    c: char,
    d: String,
    e: &str,
) -> Result<String, Fault> {
    Ok(format!("{} {:?} {a} {b} {c} {d} {e}", search.text, search.page))
}

#[tokio::test]
async fn a_key_may_be_an_expression_and_long_and_takes_nothing_away() {
    let (cache, ..) = cache().await;
    let search = |page| Search { text: "a:b".to_owned(), page };
    for page in [None, Some(1)] {
        let text = found(&cache, search(page), 1, true, 'x', "d".to_owned(), "e").await.unwrap();
        assert_eq!(text, format!("a:b {page:?} 1 true x d e"));
    }
    let other = found(&cache, search(None), 1, true, 'x', "d".to_owned(), "f").await.unwrap();
    assert_eq!(other, "a:b None 1 true x d f", "the last part counts too");
}
