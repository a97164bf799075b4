//! What a cached function needs of its types, each with what to write if it is not there.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::LoadError;

/// What a cached function returns.
#[diagnostic::on_unimplemented(
    message = "a cached function returns a `Result`, not `{Self}`",
    label = "write `Result<{Self}, E>`",
    note = "a load can fail, be cancelled at its timeout or find too many others under way: `E` says so, by `impl From<larder::LoadError<E>> for E`"
)]
pub trait Returned {
    /// What is kept.
    type Value;
    /// What says that there is none.
    type Error;

    /// From the usual form.
    fn of(result: Result<Self::Value, Self::Error>) -> Self;

    /// Into the usual form.
    ///
    /// # Errors
    /// If it is one.
    fn result(self) -> Result<Self::Value, Self::Error>;
}

impl<V, E> Returned for Result<V, E> {
    type Value = V;
    type Error = E;

    #[inline]
    fn of(result: Self) -> Self {
        result
    }

    #[inline]
    fn result(self) -> Self {
        self
    }
}

/// What can be kept.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept by a cache",
    label = "must be `Clone + Serialize + DeserializeOwned + Send + Sync + 'static`",
    note = "write `#[derive(Clone, serde::Serialize, serde::Deserialize)]` on it; if it is a wrapper such as `Json<T>`, write `wrap = Json`, and `T` is kept"
)]
pub trait Value: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// An error that can say that a load failed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that a load has failed",
    label = "must be `From<larder::LoadError<{Self}>> + Send + Sync + 'static`",
    note = "write `impl From<larder::LoadError<{Self}>> for {Self}`; if `{Self}` is a type of another crate, write `error = |error| ..` in the attribute"
)]
pub trait Failed: Sized + Send + Sync + 'static {
    /// The error of a load.
    fn failed(error: LoadError<Self>) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<LoadError<E>> + Send + Sync + 'static> Failed for E {
    fn failed(error: LoadError<E>) -> E {
        error.into()
    }
}

/// What can be passed to a cached function by reference, for the load may outlive its caller.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is passed by reference, and cannot be cloned for the load",
    label = "must be `Clone`",
    note = "the body of a cached function may outlive its caller, so on a miss it gets a clone of what it borrows: write `#[derive(Clone)]` on `{Self}`, or pass an `Arc`"
)]
pub trait Lend: ToOwned {}

#[diagnostic::do_not_recommend]
impl<T: ToOwned + ?Sized> Lend for T {}
