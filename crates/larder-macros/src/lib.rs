//! The attribute `#[cached]` of Larder. Depend on `larder` and write `larder::cached`.

mod arguments;
mod duration;
mod expand;
mod key;
mod options;
mod receiver;
mod template;

use proc_macro::TokenStream;

/// Caches what an async function or method returns. The body becomes the load: it runs on a miss, once for all who wait
/// for it, with leases, stale answers and timeouts as everywhere else in Larder.
///
/// ```
/// use larder::{Cache, LoadError, cached, units::*};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
/// struct Trig { id: u64, name: String }
///
/// #[derive(Debug)]
/// enum ApiError { NoSuchTrig, Unavailable }
///
/// // How a failed load is told to whoever waited for it; `Loader` is an error of the body, shared by all of them.
/// impl From<LoadError<ApiError>> for ApiError {
///     fn from(error: LoadError<ApiError>) -> Self {
///         match error.loader_error() {
///             Some(ApiError::NoSuchTrig) => ApiError::NoSuchTrig,
///             _ => ApiError::Unavailable,
///         }
///     }
/// }
///
/// #[derive(Clone)]
/// struct Trigs { cache: Cache }
///
/// impl Trigs {
///     #[cached(namespace = "trig", key = "{id}", ttl = "24h", stale = "1h", tags = ["region:{region}"])]
///     async fn trig(&self, region: &str, id: u64) -> Result<Trig, ApiError> {
///         match id {
///             0 => Err(ApiError::NoSuchTrig),
///             id => Ok(Trig { id, name: format!("Trig {id}") }),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let trigs = Trigs { cache: Cache::builder().memory(64 * MIB).build().await? };
/// let trig = trigs.trig("north", 7).await.expect("there is one");
/// assert_eq!(trig.name, "Trig 7");
/// let _ = trigs.cache.invalidate_str(&["trig:7", "#region:north"]).await?;
/// # Ok(()) }
/// ```
///
/// # What it needs
/// - A cache: an argument `cache`, the field `self.cache`, or what `cache = ..` says; anything that lends a
///   `larder::Cache`.
/// - A return type `Result<V, E>`, or a name for one. `V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static`;
///   `E: From<larder::LoadError<E>> + Send + Sync + 'static`, or `error = ..`.
/// - A name of its own: the namespace (and `sub`) of one function is no other's.
/// - A key that says all that the answer depends on. Numbers, texts, `bool`s and `Uuid`s that the body uses are in the key or
///   in `skip(..)`: leaving one out is an error. Whether the other arguments matter is for you to say.
///
/// # Options
/// | option | is | default |
/// |---|---|---|
/// | `cache = app.cache` | where the cache is | the argument `cache`, else `self.cache` |
/// | `namespace = "trig"` | the first segment of keys | the function's name |
/// | `sub = "logs"` | a sub-resource: keys are `trig:7:logs` | none |
/// | `key = "{id}:v2"` | segments with `:` between them, each text or a value of the arguments (`{user.id}`, `{self.tenant}`). Values are escaped: nobody reaches another key | all arguments, if they are plain (numbers, text, `bool`, `Uuid`) |
/// | `key = (T::NAME, id)` | an expression that is `larder::ToKey` | |
/// | `skip(lang)` | arguments on which the answer does not depend | none |
/// | `tags = ["user:{user}"]` | tags, with values as they print themselves. `#` in front is left out | none |
/// | `tags_with = \|v\| [..]` | more tags, by the value | none |
/// | `ttl = "24h"` | how long an answer is fresh | the cache's default policy |
/// | `ttl_with = \|v\| ..` | the same by the value: a `Duration`, or an `Option` of one | `ttl` |
/// | `negative_ttl = "1m"` | the same for `Ok(None)` | `ttl` |
/// | `stale = "1h"` | for so long after that it is served while it is loaded again (`stale_while_revalidate`) | the cache's |
/// | `stale_if_error`, `retry_after`, `soft_timeout`, `load_timeout`, `memory_ttl`, `replica_lag` | durations, as in `larder::Policy` | the cache's |
/// | `jitter`, `early_refresh`, `max_loads`, `load_queue`, `min_stored_size`, `max_stored_size`, `compress` | values, as in `larder::Policy` | the cache's |
/// | `memory_only`, `remote_only`, `without_lease` | alone, as in `larder::Policy` | off |
/// | `policy = ..` | a whole `larder::Policy` instead of all these | |
/// | `codec = MsgPack` | the form in the remote tier | JSON |
/// | `wrap = Json` | the function returns `Json<T>`, and `T` is kept | |
/// | `error = \|e\| ..` | `LoadError<E>` as `E`, for an `E` of another crate | `E::from` |
/// | `crate = other::larder` | where Larder is | `::larder` |
///
/// A duration is text, numbers with `ms`, `s`, `m`, `h` or `d` (`"1d 12h"`), or an expression. `policy`, `codec` and what
/// the policy's options say is read at the first call in each cache; it cannot depend on the arguments.
///
/// # What is cloned
/// | | hit in memory | otherwise |
/// |---|---|---|
/// | the answer | once: return an `Arc<T>` where that is dear (serde's feature `rc`) | once for each caller |
/// | `&T`, `&str`, `&[T]` | not at all | once, if the body uses it; the body borrows the clone |
/// | `&self` | not at all | once, if the body uses it: let services be handles that are cheap to clone |
/// | owned arguments, `self` | dropped | moved into the load |
///
/// The load may outlive its caller, so what the arguments hold is `Send + 'static` apart from the outermost `&`. It runs
/// in a task of its own once it has to wait: task-locals of the caller are not seen there, its `tracing` span is.
///
/// # On axum handlers
/// It runs inside the handler, behind the extractors: who is not let in is turned away before the cache is asked.
/// `State(app): State<App>` and `Path(id): Path<u64>` are arguments like others: write `cache = app.cache` and `key = "{id}"`,
/// and `wrap = Json` where `Json<T>` is returned.
///
/// The answer is the same for everybody with the same key: what depends on who asks has that in its key. To keep whole
/// responses, with their headers, see `larder::http::ResponseCache`.
///
/// # What it does not do
/// - It does not know what a write has changed: invalidate, by key or tag, after the commit.
/// - It never fails a call because of itself. A function that cannot be cached (its name is another's, the policy breaks a
///   rule) runs at every call, and the event `cache_misconfigured` says why, once for each function and cache.
/// - It keeps no errors: an `Err` is told to those who waited for it, and the next call loads again.
/// - It is not for functions that change something, and not for ones that are not async.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, function: TokenStream) -> TokenStream {
    let original = proc_macro2::TokenStream::from(function.clone());
    let expanded = syn::parse(options).and_then(|options| expand::expand(&options, syn::parse(function)?));
    match expanded {
        Ok(function) => function.into(),
        Err(error) => {
            // The function as it is, so that nothing else is wrong: neither its callers, nor what only the cache uses.
            let error = error.into_compile_error();
            quote::quote!(#error #[allow(unused_variables, reason = "it is wrong already")] #original).into()
        }
    }
}
