//! A network that breaks on command.

mod fault;
mod lane;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{future, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use self::fault::Fault;
use self::fault::{Direction, Said, Setting};
use crate::background::Background;

/// Pause after an accept that failed, so that a shortage of files does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// A TCP proxy on a free loopback port, with a [`Fault`] that can be changed at any time.
///
/// A change applies to the connections that are already open as well as to new ones. Bytes are delayed, or held for
/// as long as the fault lasts, but never lost from the middle of a connection: TCP does not do that either, and a
/// client that saw it would take one command's answer for another's.
///
/// Dropping it closes the port and all connections.
pub struct FaultProxy {
    addr: SocketAddr,
    setting: watch::Sender<Setting>,
    accepted: Arc<AtomicUsize>,
    _background: Background,
}

impl FaultProxy {
    /// Starts a proxy to `upstream`, without a fault. `upstream` need not listen yet: it is connected to anew for each
    /// connection, and a client whose upstream refuses gets a reset.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn to(upstream: SocketAddr) -> Self {
        let background = Background::start("fault-proxy");
        let listener = background
            .run(TcpListener::bind(("127.0.0.1", 0)))
            .await
            .expect("the system has a free port for the proxy");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let setting = watch::Sender::new(Setting::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        background.spawn(accept(listener, upstream, setting.subscribe(), Arc::clone(&accepted)));
        Self { addr, setting, accepted, _background: background }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `redis://127.0.0.1:<port>`. It has no password: use [`addr`](Self::addr) to build another URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Sets the fault from now on. [`Fault::None`] heals.
    ///
    /// Returns at once; the connections notice on another thread, within microseconds to milliseconds.
    pub fn set(&self, fault: Fault) {
        self.setting.send_modify(|setting| {
            (setting.fault, setting.only) = (fault, None);
            // Counted, so that connections are reset even if the fault is replaced before they have looked.
            setting.resets += u64::from(fault == Fault::Reset);
        });
    }

    /// As [`set`](Self::set), but only for connections whose client has sent `bytes`, among the last 64 KiB before this
    /// call, or sends them later: from that chunk on. All others work. It takes the place of the fault that was set
    /// before, and any other takes its place.
    ///
    /// # Panics
    /// If the fault is [`Reset`](Fault::Reset) or [`Refuse`](Fault::Refuse): they happen to connections whose clients have
    /// sent nothing yet.
    pub fn set_where(&self, bytes: &[u8], fault: Fault) {
        assert!(!matches!(fault, Fault::Reset | Fault::Refuse), "{fault:?} does not depend on what is sent");
        self.setting.send_modify(|setting| (setting.fault, setting.only) = (fault, Some(bytes.into())));
    }

    /// How many connections were accepted so far, also those that were closed or reset at once.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    setting: watch::Receiver<Setting>,
    accepted: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        // An error is the client's (gone before we accepted) or a shortage of files that passes; neither ends a proxy.
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        while connections.try_join_next().is_some() {}
        let (fault, resets) = {
            let setting = setting.borrow();
            (setting.fault, setting.resets)
        };
        match fault {
            Fault::Refuse => {}
            Fault::Reset => reset(&client),
            _ => {
                connections.spawn(connection(client, upstream, setting.clone(), resets));
            }
        }
    }
}

/// Carries one connection. `resets` is how many resets had been ordered before it was accepted.
async fn connection(client: TcpStream, upstream: SocketAddr, setting: watch::Receiver<Setting>, resets: u64) {
    let mut ordered = setting.clone();
    let mut reset_ordered = pin!(async move {
        if ordered.wait_for(|setting| setting.resets != resets).await.is_err() {
            // The proxy is being dropped, and this task with it.
            future::pending::<()>().await;
        }
    });
    let mut client = client;
    let opened = select! {
        biased;
        _ = &mut reset_ordered => None,
        server = open(upstream, setting.clone()) => server.ok(),
    };
    let Some(mut server) = opened else {
        return reset(&client);
    };
    // Small answers must not wait for each other's acknowledgements.
    let _ = client.set_nodelay(true);
    let said = Said::default();
    let done = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests =
            lane::carry(Direction::Requests, resets, &said, from_client, to_server, setting.clone());
        let answers = lane::carry(Direction::Answers, resets, &said, from_server, to_client, setting);
        select! {
            biased;
            _ = &mut reset_ordered => false,
            _ = async { tokio::join!(requests, answers) } => true,
        }
    };
    if !done {
        reset(&client);
        reset(&server);
    }
}

/// Connects to the upstream, but not through a black hole.
async fn open(upstream: SocketAddr, mut setting: watch::Receiver<Setting>) -> io::Result<TcpStream> {
    let passes = |setting: &Setting| setting.fault != Fault::BlackHole || setting.only.is_some();
    setting.wait_for(passes).await.map_err(io::Error::other)?;
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Makes closing `stream` throw away what is unsent and send RST instead of FIN.
fn reset(stream: &TcpStream) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_zero_linger();
}
