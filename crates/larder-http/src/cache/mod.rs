//! The response cache: a tower layer for axum routes.

mod asked;
mod body;
mod config;
mod failed;
mod fetch;
mod handler;
mod identity;
mod keeper;
mod key;
mod service;
mod stored;
mod style;
mod way;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::HeaderName;
use http::request::Parts;
use larder_core::{Cache, KeyWriter, NamespaceError, Policy};
use tower_layer::Layer;

pub use self::config::WhoMayBypass;
use self::config::{Config, Id};
pub use self::service::ResponseCacheService;
use self::stored::{ResponseCodec, StoredResponse};
pub use self::style::HeaderStyle;
pub use crate::rules::query::VaryQuery;
use crate::rules::request::Credentials;

/// Caches the responses of a route. A layer: cheap to clone, for one route or many.
///
/// ```
/// # use larder_core::{Cache, Policy, units::*};
/// # use larder_http::ResponseCache;
/// # async fn f(cache: &Cache) -> Result<(), Box<dyn std::error::Error>> {
/// // /trigs/{trig_id}/logs?page=2  ->  trig:123:logs:params_4f0c1a9e:v1
/// let logs = ResponseCache::new(cache, "trig", Policy::ttl(2 * HOUR).stale_while_revalidate(MINUTE))?
///     .id("trig_id")
///     .sub("logs")
///     .vary_query(["page"])
///     .version("v1")
///     .tags(|_| vec!["site".into()]);
/// # let _ = logs; Ok(()) }
/// ```
///
/// # Who is answered from the cache
/// A request with `Authorization` or `Cookie` goes past it, unless the route says one of
/// [`per_user`](Self::per_user), [`require`](Self::require), [`public`](Self::public) or
/// [`ignore_cookies`](Self::ignore_cookies). A hit does not run the handler, so it does not run the handler's extractors:
/// what they would refuse, `per_user` and `require` refuse on hits too.
///
/// # What tells answers apart
/// Scheme, host, route, path and query, the headers of [`vary_headers`](Self::vary_headers), and the user with
/// [`per_user`](Self::per_user). Nothing else: where a handler's answer depends on `Accept-Language`, `X-Forwarded-Host`
/// or the like, name the header, or whoever comes first decides what everybody gets.
///
/// # When a handler fails
/// It panics, exceeds the policy's load timeout, answers 500, 502, 503 or 504, or its body breaks off: while a stale answer may
/// be served ([`stale_if_error`](Policy::stale_if_error), or the window of
/// [`stale_while_revalidate`](Policy::stale_while_revalidate) is open), its clients get that, and for
/// [`retry_after`](Policy::retry_after) it is not run again. What was invalidated is never served. An answer that may not be
/// stored, a 404 say, is no failure: it ends the stale one. Load timeout: one for head and body together; the first client of a
/// streaming body reads on after it, but nothing is stored.
///
/// With [`max_loads`](Policy::max_loads) requests beyond the queue get a stale answer, else 503 with `Retry-After`.
///
/// # HEAD
/// Is answered from the entry of GET. On a miss the handler runs as GET, and the client gets the headers.
#[derive(Clone)]
pub struct ResponseCache {
    config: Config,
}

impl ResponseCache {
    /// A layer that stores in `namespace` by `policy`.
    ///
    /// # Errors
    /// A name that is none, or a policy that breaks a rule.
    pub fn new(cache: &Cache, namespace: &str, policy: Policy) -> Result<Self, NamespaceError> {
        let handle = cache.front_door(namespace, policy, ResponseCodec, StoredResponse::weight)?;
        let handle = handle.content_hash(StoredResponse::content_hash);
        Ok(ResponseCache { config: Config::new(cache.clone(), handle) })
    }

    /// Takes the key's second segment from the path parameter of this name. A route without it is not cached, and an
    /// error event says so.
    pub fn id(mut self, parameter: &str) -> Self {
        self.config.id = Id::Parameter(parameter.to_owned());
        self
    }

    /// Sets the key's second segment. Default: none.
    pub fn fixed_id(mut self, id: &str) -> Self {
        self.config.id = Id::Fixed(id.to_owned());
        self
    }

    /// Adds a segment behind the id: `logs` in `trig:123:logs`. Default: none.
    #[expect(
        clippy::should_implement_trait,
        reason = "a sub-resource, as in typed handles; nothing is subtracted"
    )]
    pub fn sub(mut self, sub: &str) -> Self {
        self.config.sub = Some(sub.to_owned());
        self
    }

    /// Says which query parameters tell answers apart: `VaryQuery::All`, `VaryQuery::None` or `["page"]`.
    /// Default: all, in any order.
    pub fn vary_query(mut self, vary: impl Into<VaryQuery>) -> Self {
        self.config.vary_query = vary.into();
        self
    }

    /// Says which request headers tell answers apart, with all their values. Default: none.
    pub fn vary_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.vary_headers = names.into_iter().collect();
        self
    }

    /// Ends keys with a version: answers of another version are not found. Default: none.
    pub fn version(mut self, version: &str) -> Self {
        self.config.version = Some(version.to_owned());
        self
    }

    /// Sets the word before the hash of the parameters in keys. Default: `params`.
    pub fn hash_label(mut self, label: &str) -> Self {
        self.config.hash_label = label.to_owned();
        self
    }

    /// Leaves requests alone for which `skip` is true. Default: none.
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.config.skip = Some(Arc::new(skip));
        self
    }

    /// Takes the ttl from the request. Default: the policy's, which may [learn](Policy::adaptive_ttl).
    pub fn ttl_with(mut self, ttl: impl Fn(&Parts) -> Duration + Send + Sync + 'static) -> Self {
        self.config.ttl = Some(Arc::new(ttl));
        self
    }

    /// Takes the ttl from the response; `None` leaves it to [`ttl_with`](Self::ttl_with) and the policy. Of a 404 or 410 the
    /// policy's [`negative_ttl`](Policy::negative_ttl) decides. Default: the response has no say.
    pub fn ttl_from(
        mut self,
        ttl: impl Fn(&http::response::Parts, &Bytes) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.config.ttl_from = Some(Arc::new(ttl));
        self
    }

    /// Takes tags from the request. Default: none.
    pub fn tags(mut self, tags: impl Fn(&Parts) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.config.tags = Some(Arc::new(tags));
        self
    }

    /// Takes tags from the response. Default: none.
    pub fn tags_from(
        mut self,
        tags: impl Fn(&http::response::Parts, &Bytes) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.config.tags_from = Some(Arc::new(tags));
        self
    }

    /// Writes the key's segments behind the namespace, instead of id, sub, parameters and version. What `key` writes is
    /// escaped; method, scheme, host, path, query and user are part of the key besides.
    pub fn key(mut self, key: impl Fn(&Parts, &mut KeyWriter<'_>) + Send + Sync + 'static) -> Self {
        self.config.id = Id::Custom(Arc::new(key));
        self
    }

    /// Runs the extractor `A` on every request (hits too, those that go past the cache too, and with the cache switched
    /// off); its rejection is the answer. What `key` makes of it is part of the key: every user has entries of their own, and
    /// with [`Share::of_user`](larder_core::Share::of_user) no more than a share of the cache.
    pub fn per_user<A, S>(mut self, state: S, key: impl Fn(&A) -> String + Send + Sync + 'static) -> Self
    where
        A: FromRequestParts<S> + Send + 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.config.identify = Some(identity::by_extractor(state, move |user: &A| Some(key(user))));
        self.config.credentials = Credentials::Ignore;
        self
    }

    /// Runs the extractor `A` on every request (hits too, those that go past the cache too, and with the cache switched
    /// off); its rejection is the answer. Whoever it lets through shares the answers.
    pub fn require<A, S>(mut self, state: S) -> Self
    where
        A: FromRequestParts<S> + Send + 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.config.identify = Some(identity::by_extractor(state, |_: &A| None));
        self.config.credentials = Credentials::Ignore;
        self
    }

    /// Says that answers are for everybody, whatever credentials a request carries.
    pub fn public(mut self) -> Self {
        self.config.credentials = Credentials::Ignore;
        self
    }

    /// Says that these cookies do not matter to the answers. Other cookies still keep a request out, unless the route says
    /// more ([`public`](Self::public), [`require`](Self::require), [`per_user`](Self::per_user)).
    pub fn ignore_cookies<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        if !matches!(self.config.credentials, Credentials::Ignore) {
            self.config.credentials = Credentials::IgnoreCookies(names.into_iter().map(Into::into).collect());
        }
        self
    }

    /// Which headers answers get. Default: [`HeaderStyle::default`].
    pub fn headers(mut self, style: HeaderStyle) -> Self {
        (self.config.style, self.config.style_number) = (style, config::style_number());
        self
    }

    /// Who may go past the cache with `Cache-Control: no-cache`. Default: anybody.
    pub fn bypass(mut self, who: WhoMayBypass) -> Self {
        self.config.bypass = who;
        self
    }
}

impl<S> Layer<S> for ResponseCache {
    type Service = ResponseCacheService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ResponseCacheService::new(Arc::new(self.config.clone()), inner)
    }
}
