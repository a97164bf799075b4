//! The database: it knows who has loaded what, and answers when and how a scenario likes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use larder::{Moment, Runtime};
use tokio::sync::watch;

use crate::processes::wire;

/// What becomes of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It ends with the version that was committed when it began.
    Value,
    Fails,
    Panics,
    Hangs,
}

/// One load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Who loads: a place among the nodes.
    pub(crate) node: usize,
    /// When the database has answered.
    pub(crate) answered: Option<Moment>,
}

#[derive(Default)]
struct Books {
    committed: u64,
    loads: BTreeMap<String, Vec<Load>>,
    held: BTreeSet<(usize, String)>,
    fates: BTreeMap<(usize, String), Fate>,
}

#[derive(Clone)]
pub(crate) struct Database {
    books: Arc<watch::Sender<Books>>,
    runtime: Arc<dyn Runtime>,
}

impl Database {
    /// Starts one, with version 0 of everything. Questions are `<node> <key>`, answers `value <version>`, `fails` and so on.
    pub(crate) async fn start(runtime: Arc<dyn Runtime>) -> (Self, SocketAddr) {
        let database = Database { books: Arc::new(watch::Sender::new(Books::default())), runtime };
        let served = database.clone();
        let addr = wire::answer_everybody(move |question| {
            let database = served.clone();
            async move {
                let (node, key) = question.split_once(' ').expect("a node and a key");
                database.load(node.parse().unwrap(), key).await
            }
        })
        .await;
        (database, addr)
    }

    async fn load(&self, node: usize, key: &str) -> String {
        let (mut version, mut at) = (0, 0);
        self.books.send_modify(|books| {
            version = books.committed;
            let loads = books.loads.entry(key.to_owned()).or_default();
            at = loads.len();
            loads.push(Load { node, answered: None });
        });
        let whose = (node, key.to_owned());
        let mut news = self.books.subscribe();
        let fate = {
            // The sender is ours.
            let books = news.wait_for(|books| !books.held.contains(&whose)).await.unwrap();
            books.fates.get(&whose).copied().unwrap_or(Fate::Value)
        };
        self.books.send_modify(|books| {
            books.loads.get_mut(key).unwrap()[at].answered = Some(self.runtime.now());
        });
        match fate {
            Fate::Value => format!("value {version}"),
            Fate::Fails => "fails".to_owned(),
            Fate::Panics => "panics".to_owned(),
            Fate::Hangs => "hangs".to_owned(),
        }
    }

    /// Commits a new version of everything, and answers it.
    pub(crate) fn write(&self) -> u64 {
        self.books.send_modify(|books| books.committed += 1);
        self.books.borrow().committed
    }

    /// From now on loads of `key` by these nodes begin and do not end.
    pub(crate) fn hold(&self, nodes: impl IntoIterator<Item = usize>, key: &str) {
        let held = nodes.into_iter().map(|node| (node, key.to_owned()));
        self.books.send_modify(|books| books.held.extend(held));
    }

    /// They end.
    pub(crate) fn let_go(&self, nodes: impl IntoIterator<Item = usize>, key: &str) {
        self.books.send_modify(|books| {
            for node in nodes {
                books.held.remove(&(node, key.to_owned()));
            }
        });
    }

    /// What becomes of the loads of `key` by a node.
    pub(crate) fn decide(&self, node: usize, key: &str, fate: Fate) {
        self.books.send_modify(|books| {
            books.fates.insert((node, key.to_owned()), fate);
        });
    }

    /// From now on every load ends, and with a value.
    pub(crate) fn mend(&self) {
        self.books.send_modify(|books| {
            books.held.clear();
            books.fates.clear();
        });
    }

    /// The loads of `key` so far, in the order in which they began.
    pub(crate) fn loads(&self, key: &str) -> Vec<Load> {
        self.books.borrow().loads.get(key).cloned().unwrap_or_default()
    }

    /// Who has loaded `key`, in that order.
    pub(crate) fn loaders(&self, key: &str) -> Vec<usize> {
        self.loads(key).iter().map(|load| load.node).collect()
    }
}
