//! Functions that cannot be cached as they are.

use larder::{Cache, cached};

type Answer = Result<u64, larder::LoadError<std::convert::Infallible>>;

#[derive(Clone)]
struct User {
    id: u64,
}

#[cached]
fn not_async(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached]
async fn nothing(cache: &Cache) {}

#[cached]
async fn borrowed(cache: &Cache) -> Result<&'_ str, std::fmt::Error> {
    Ok("")
}

#[cached]
async fn unnamed(cache: &Cache) -> Result<impl Sized, std::fmt::Error> {
    Ok(1)
}

#[cached]
async fn where_is_it(id: u64) -> Answer {
    Ok(id)
}

#[cached(key = "{id}")]
async fn changes(cache: &Cache, id: u64, list: &mut Vec<u64>) -> Answer {
    list.push(id);
    Ok(1)
}

#[cached(key = "{id}")]
async fn borrows(cache: &Cache, id: u64, name: Option<&str>) -> Answer {
    Ok(id + name.map_or(0, |name| name.len() as u64))
}

#[cached]
async fn which_key(cache: &Cache, user: User) -> Answer {
    Ok(user.id)
}

#[cached(key = "{user.id}:{page}")]
async fn no_argument(cache: &Cache, user: User) -> Answer {
    Ok(user.id)
}

#[cached(key = "{id}")]
async fn left_out(cache: &Cache, id: u64, page: u32) -> Answer {
    Ok(id + u64::from(page))
}

#[cached(key = "v{id}")]
async fn mixed(cache: &Cache, id: u64) -> Answer {
    Ok(id)
}

#[cached(key = "{id:?}")]
async fn formatted(cache: &Cache, id: u64) -> Answer {
    Ok(id)
}

#[cached(skip(usr))]
async fn skips_nothing(cache: &Cache, user: User) -> Answer {
    Ok(user.id)
}

#[cached(key = "{id}")]
async fn generic<T: Default + Into<u64>>(cache: &Cache, id: u64) -> Answer {
    Ok(id + T::default().into())
}

#[derive(Clone)]
struct Service {
    cache: Cache,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cache.is_enabled())
    }
}

impl Service {
    #[cached]
    async fn prints(&self) -> Answer {
        println!("{self}");
        Ok(1)
    }
}

fn main() {}
