//! Tokens, gathered on the way: what was invalidated while a piece of work ran, for front doors that tell their clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::Engine;
use crate::log::Epoch;

tokio::task_local! {
    /// The innermost piece of work whose tokens are gathered.
    static GATHERING: Arc<Gathering>;
}

/// The tokens of one piece of work.
struct Gathering {
    engine: Arc<Engine>,
    /// The piece of work around it.
    around: Option<Arc<Gathering>>,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    newest: Option<Epoch>,
    /// Invalidations that have begun and are not in the log: queued, given up, or still on their way.
    open: usize,
}

/// An invalidation on its way, and the pieces of work that it belongs to.
pub(super) struct OnItsWay(Vec<Arc<Gathering>>);

impl Engine {
    /// An invalidation of this cache begins.
    pub(super) fn sets_out(self: &Arc<Self>) -> OnItsWay {
        let mut concerned = Vec::new();
        let mut next = GATHERING.try_with(Arc::clone).ok();
        while let Some(gathering) = next {
            next = gathering.around.clone();
            if Arc::ptr_eq(&gathering.engine, self) {
                gathering.gathered.lock().open += 1;
                concerned.push(gathering);
            }
        }
        OnItsWay(concerned)
    }

    /// See [`Cache::collect_tokens`](crate::Cache::collect_tokens).
    pub(crate) async fn collect_tokens<T>(
        self: &Arc<Self>,
        work: impl Future<Output = T>,
    ) -> (T, Option<Epoch>) {
        let around = GATHERING.try_with(Arc::clone).ok();
        let gathering = Arc::new(Gathering { engine: self.clone(), around, gathered: Mutex::default() });
        let output = GATHERING.scope(gathering.clone(), work).await;
        let gathered = gathering.gathered.lock();
        (output, gathered.newest.filter(|_| gathered.open == 0))
    }

    /// A client's token was worth nothing.
    pub(crate) fn ignore_token(&self) {
        self.tokens_ignored.fetch_add(1, Ordering::Relaxed);
    }
}

impl OnItsWay {
    /// It is in the log, at `token`; `None`: there is no log to be in.
    pub(super) fn has_arrived(self, token: Option<Epoch>) {
        for gathering in self.0 {
            let node = &gathering.engine.node;
            let mut gathered = gathering.gathered.lock();
            gathered.open -= 1;
            gathered.newest = match (gathered.newest, token) {
                // Of two lines, the one that is part of the other's history was written to before it.
                (Some(there), Some(token)) => Some(node.later(token, there)),
                (there, token) => there.or(token),
            };
        }
    }
}
