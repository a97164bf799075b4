//! The end of connections that end together.

use std::sync::Arc;

use tokio::sync::watch;

type Reason = watch::Sender<Option<String>>;

/// The end of some connections, with the reason.
#[derive(Debug)]
pub(crate) struct End {
    own: Reason,
    /// The connections that these are a part of: what ends these ends those, and the reverse.
    whole: Option<Arc<End>>,
}

impl End {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(End { own: Reason::default(), whole: None })
    }

    /// The end of a connection that belongs to others, yet can be [let go](Self::let_go) of by itself.
    pub(crate) fn part_of(whole: &Arc<End>) -> Arc<Self> {
        Arc::new(End { own: Reason::default(), whole: Some(Arc::clone(whole)) })
    }

    /// Ends them all, unless they have ended; answers the reason that counts. What happens to a part that was let go of
    /// does not concern the whole any more.
    pub(crate) fn set(&self, reason: impl Into<String>) -> String {
        let Some(whole) = &self.whole else {
            return settle(&self.own, reason.into());
        };
        let let_go = self.own.borrow().clone();
        let_go.unwrap_or_else(|| settle(&whole.own, reason.into()))
    }

    /// Ends these only: they are not needed any more.
    pub(crate) fn let_go(&self) {
        settle(&self.own, "not used any more".to_owned());
    }

    /// Waits for the end; answers the reason.
    pub(crate) async fn wait(&self) -> String {
        match &self.whole {
            Some(whole) => tokio::select! {
                reason = settled(&self.own) => reason,
                reason = settled(&whole.own) => reason,
            },
            None => settled(&self.own).await,
        }
    }
}

fn settle(end: &Reason, reason: String) -> String {
    end.send_if_modified(|end| {
        let first = end.is_none();
        if first {
            *end = Some(reason);
        }
        first
    });
    end.borrow().clone().unwrap_or_default()
}

async fn settled(end: &Reason) -> String {
    let mut end = end.subscribe();
    // An error would mean that the sender is gone, which the caller holds.
    end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()).unwrap_or_default()
}

/// Ends connections when it is dropped, unless they have come into use.
pub(crate) struct EndOnDrop(Option<Arc<End>>);

impl EndOnDrop {
    pub(crate) fn new(end: &Arc<End>) -> Self {
        EndOnDrop(Some(Arc::clone(end)))
    }

    /// They are in use.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(end) = &self.0 {
            end.let_go();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_breaks_ends_the_whole_and_one_that_is_let_go_of_does_not() {
        let whole = End::new();
        let (one, other) = (End::part_of(&whole), End::part_of(&whole));
        one.let_go();
        assert_eq!(one.set("broken"), "not used any more");
        assert_eq!(one.wait().await, "not used any more");
        assert!(whole.own.borrow().is_none());
        assert_eq!(other.set("broken"), "broken");
        assert_eq!(other.set("broken again"), "broken");
        assert_eq!((whole.wait().await, other.wait().await), ("broken".to_owned(), "broken".to_owned()));
    }
}
