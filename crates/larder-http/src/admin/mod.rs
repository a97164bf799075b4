//! The admin API: what operators ask and do over HTTP. A router, to mount anywhere.

mod auth;
mod event;
mod metrics;
mod query;
mod remove;
mod routes;

pub use self::auth::AdminAuth;
pub use self::routes::AdminRouter;
