//! For decorators of a remote tier: the calls that they only pass on.

/// Writes methods of [`Remote`](crate::Remote) that pass each call on to `self.$inner`: inside the `impl` of a decorator, for
/// those methods that it does not change.
#[macro_export]
macro_rules! forward_remote {
    ($inner:ident: $($method:ident)*) => {
        $( $crate::forward_remote! { @$method $inner } )*
    };
    (@get $inner:ident) => {
        fn get<'a>(
            &'a self,
            key: &'a [u8],
        ) -> $crate::BoxFuture<'a, Result<Option<$crate::testing::Bytes>, $crate::RemoteError>> {
            self.$inner.get(key)
        }
    };
    (@get_many $inner:ident) => {
        fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> $crate::BoxFuture<'a, $crate::Values> {
            self.$inner.get_many(keys)
        }
    };
    (@store $inner:ident) => {
        fn store<'a>(
            &'a self,
            key: &'a [u8],
            store: $crate::Store,
        ) -> $crate::BoxFuture<'a, Result<$crate::Stored, $crate::RemoteError>> {
            self.$inner.store(key, store)
        }
    };
    (@lease $inner:ident) => {
        fn lease<'a>(
            &'a self,
            key: &'a [u8],
            request: &'a $crate::LeaseRequest,
        ) -> $crate::BoxFuture<'a, Result<$crate::LeaseAnswer, $crate::RemoteError>> {
            self.$inner.lease(key, request)
        }
    };
    (@extend $inner:ident) => {
        fn extend<'a>(
            &'a self,
            key: &'a [u8],
            token: u64,
            life: ::std::time::Duration,
        ) -> $crate::BoxFuture<'a, Result<bool, $crate::RemoteError>> {
            self.$inner.extend(key, token, life)
        }
    };
    (@release $inner:ident) => {
        fn release<'a>(
            &'a self,
            key: &'a [u8],
            token: u64,
            shared: bool,
        ) -> $crate::BoxFuture<'a, Result<(), $crate::RemoteError>> {
            self.$inner.release(key, token, shared)
        }
    };
    (@wakes $inner:ident) => {
        fn wakes(&self, waiter: u64) -> $crate::testing::WakeReceiver {
            self.$inner.wakes(waiter)
        }
    };
    (@reserve $inner:ident) => {
        fn reserve<'a>(
            &'a self,
            share: &'a [u8],
            bytes: u64,
            life: ::std::time::Duration,
            limit: u64,
        ) -> $crate::BoxFuture<'a, Result<bool, $crate::RemoteError>> {
            self.$inner.reserve(share, bytes, life, limit)
        }
    };
    (@give_back $inner:ident) => {
        fn give_back<'a>(
            &'a self,
            share: &'a [u8],
            bytes: u64,
            left: ::std::time::Duration,
        ) -> $crate::BoxFuture<'a, Result<(), $crate::RemoteError>> {
            self.$inner.give_back(share, bytes, left)
        }
    };
    (@remove $inner:ident) => {
        fn remove<'a>(&'a self, key: &'a [u8]) -> $crate::BoxFuture<'a, Result<(), $crate::RemoteError>> {
            self.$inner.remove(key)
        }
    };
    (@open $inner:ident) => {
        fn open(
            &self,
            position: Option<$crate::Epoch>,
            nonce: u64,
        ) -> $crate::BoxFuture<'_, Result<$crate::Opened, $crate::RemoteError>> {
            self.$inner.open(position, nonce)
        }
    };
    (@append $inner:ident) => {
        fn append<'a>(
            &'a self,
            record: &'a $crate::Append,
            position: Option<$crate::Epoch>,
            nonce: u64,
        ) -> $crate::BoxFuture<'a, Result<$crate::Epoch, $crate::RemoteError>> {
            self.$inner.append(record, position, nonce)
        }
    };
    (@scan $inner:ident) => {
        fn scan(&self) -> $crate::BoxFuture<'_, Result<Vec<$crate::Stamp>, $crate::RemoteError>> {
            self.$inner.scan()
        }
    };
    (@head $inner:ident) => {
        fn head(&self) -> $crate::BoxFuture<'_, Result<Option<$crate::Head>, $crate::RemoteError>> {
            self.$inner.head()
        }
    };
    (@follow $inner:ident) => {
        fn follow(
            &self,
            position: $crate::Epoch,
            limit: usize,
            wait: ::std::time::Duration,
        ) -> $crate::BoxFuture<'_, Result<$crate::Round, $crate::RemoteError>> {
            self.$inner.follow(position, limit, wait)
        }
    };
    (@history $inner:ident) => {
        fn history(
            &self,
            before: Option<u64>,
            limit: usize,
        ) -> $crate::BoxFuture<'_, Result<Vec<$crate::Record>, $crate::RemoteError>> {
            self.$inner.history(before, limit)
        }
    };
    (@page $inner:ident) => {
        fn page<'a>(
            &'a self,
            under: &'a [&'a [u8]],
            cursor: $crate::Cursor,
            limit: usize,
        ) -> $crate::BoxFuture<'a, Result<$crate::Page, $crate::RemoteError>> {
            self.$inner.page(under, cursor, limit)
        }
    };
    (@discard $inner:ident) => {
        fn discard<'a>(
            &'a self,
            values: &'a [(Vec<u8>, $crate::Epoch)],
        ) -> $crate::BoxFuture<'a, Result<u64, $crate::RemoteError>> {
            self.$inner.discard(values)
        }
    };
    (@connect $inner:ident) => {
        fn connect(&self) {
            self.$inner.connect();
        }
    };
    (@link $inner:ident) => {
        fn link(&self) -> $crate::testing::LinkReceiver {
            self.$inner.link()
        }
    };
    (@log_link $inner:ident) => {
        fn log_link(&self) -> $crate::testing::LinkReceiver {
            self.$inner.log_link()
        }
    };
    (@close $inner:ident) => {
        fn close(&self) {
            self.$inner.close();
        }
    };
    (@describe $inner:ident) => {
        fn describe(&self) -> String {
            self.$inner.describe()
        }
    };
}
