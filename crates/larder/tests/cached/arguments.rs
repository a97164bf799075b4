//! What is moved, what is cloned, and when.

use std::fmt::Display;

use larder::{Cache, cached};

use crate::{Count, Fault, cache};

/// Counts its clones.
#[derive(Debug, Default)]
struct Database {
    clones: Count,
    queries: Count,
}

impl Clone for Database {
    fn clone(&self) -> Self {
        self.clones.up();
        Database { clones: self.clones.clone(), queries: self.queries.clone() }
    }
}

impl Database {
    async fn query(&self, id: u64) -> String {
        tokio::task::yield_now().await;
        format!("row {id}, query {}", self.queries.up())
    }
}

#[cached(key = "{id}")]
async fn row(cache: &Cache, database: &Database, id: u64) -> Result<String, Fault> {
    Ok(database.query(id).await)
}

#[tokio::test]
async fn many_callers_share_one_load() {
    let (cache, ..) = cache().await;
    let database = Database::default();
    let calls = (0..50).map(|_| row(&cache, &database, 7));
    for answer in futures(calls).await {
        assert_eq!(answer, Ok("row 7, query 1".to_owned()));
    }
    assert_eq!(database.queries.so_far(), 1);
    assert_eq!(row(&cache, &database, 8).await.unwrap(), "row 8, query 2");
}

/// All of them at once, in this task.
async fn futures<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(calls).await
}

#[tokio::test]
async fn what_is_borrowed_is_cloned_on_a_miss_and_never_on_a_hit() {
    let (cache, ..) = cache().await;
    let database = Database::default();
    for _ in 0..10 {
        row(&cache, &database, 7).await.unwrap();
    }
    assert_eq!(database.clones.so_far(), 1);
}

#[cached(key = "{id}")]
async fn owned(cache: Cache, database: Database, id: u64) -> Result<String, Fault> {
    Ok(database.query(id).await)
}

#[tokio::test]
async fn what_is_owned_is_moved_not_cloned() {
    let (cache, ..) = cache().await;
    let (clones, queries) = (Count::default(), Count::default());
    let database = || Database { clones: clones.clone(), queries: queries.clone() };
    assert_eq!(owned(cache.clone(), database(), 7).await, owned(cache, database(), 7).await);
    assert_eq!((clones.so_far(), queries.so_far()), (0, 1));
}

#[cached(key = "{name}:{words.0}", skip(n))]
async fn texts(
    cache: &Cache,
    mut name: &str,
    words: (u8, u8),
    mut n: usize,
    list: &[String],
    loads: &Count,
) -> Result<String, Fault> {
    n += usize::from(words.1);
    if name.len() > 3 {
        name = &name[..3];
    }
    loads.up();
    tokio::task::yield_now().await;
    Ok(format!("{name} {n} {}", list.join("+")))
}

#[tokio::test]
async fn arguments_keep_their_types_and_can_be_changed_in_the_body() {
    let (cache, ..) = cache().await;
    let (loads, list) = (Count::default(), ["a".to_owned(), "b".to_owned()]);
    for _ in 0..2 {
        let text = texts(&cache, "larder", (1, 2), 3, &list, &loads).await;
        assert_eq!(text.as_deref(), Ok("lar 5 a+b"));
    }
    assert_eq!(loads.so_far(), 1);
}

/// A service as people write them: a handle on everything it needs.
#[derive(Clone)]
struct Service {
    cache: Cache,
    tenant: &'static str,
    loads: Count,
}

impl Service {
    #[cached(namespace = "greeting", key = "{self.tenant}:{name}")]
    async fn greeting(&self, name: String) -> Result<String, Fault> {
        // An item has a `self` of its own.
        struct Tenant(&'static str);
        impl Tenant {
            fn name(&self) -> &'static str {
                self.0
            }
        }
        let loads = self.loads.up();
        let tenant = Tenant(self.tenant);
        if name.is_empty() {
            return Err(Fault::Own("nobody"));
        }
        Ok(format!("{}: hello {name}, {} {loads}", tenant.name(), { self.tenant }))
    }

    #[cached(cache = "self.cache", namespace = "farewell")]
    async fn farewell(self, name: &str) -> Result<String, Fault> {
        self.loads.up();
        Ok(format!("{}: bye {name}", self.tenant))
    }
}

#[tokio::test]
async fn methods_find_the_cache_in_self_and_their_bodies_run_on_a_clone_of_it() {
    let (cache, ..) = cache().await;
    let (north, south) = ("north", "south");
    let service = |tenant| Service { cache: cache.clone(), tenant, loads: Count::default() };
    let (north, south) = (service(north), service(south));
    for _ in 0..3 {
        assert_eq!(north.greeting("ann".to_owned()).await.unwrap(), "north: hello ann, north 1");
        assert_eq!(south.greeting("ann".to_owned()).await.unwrap(), "south: hello ann, south 1");
        assert_eq!(north.clone().farewell("ann").await.unwrap(), "north: bye ann");
    }
    assert_eq!((north.loads.so_far(), south.loads.so_far()), (2, 1));
    assert_eq!(north.greeting(String::new()).await, Err(Fault::Own("nobody")));
}

trait Source: Clone + Send + Sync + 'static {
    const NAME: &'static str;
}

#[derive(Clone)]
struct Maps;

#[derive(Clone)]
struct Photos;

impl Source for Maps {
    const NAME: &'static str = "maps";
}

impl Source for Photos {
    const NAME: &'static str = "photos";
}

#[cached(key = (S::NAME, id))]
async fn from<S: Source, const N: usize>(
    cache: &Cache,
    _source: S,
    id: u64,
    which: [u8; N],
    label: impl Display + Send + 'static,
) -> Result<String, Fault> {
    Ok(format!("{} {id} {} {label}", S::NAME, which.len()))
}

#[tokio::test]
async fn generic_functions_are_cached_for_each_key() {
    let (cache, ..) = cache().await;
    assert_eq!(from(&cache, Maps, 1, [0; 2], "first").await.unwrap(), "maps 1 2 first");
    assert_eq!(from(&cache, Photos, 1, [0; 2], 'x').await.unwrap(), "photos 1 2 x");
    assert_eq!(from(&cache, Maps, 1, [0; 3], 7).await.unwrap(), "maps 1 2 first", "found by its key");
}
