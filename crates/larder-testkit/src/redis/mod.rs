//! A real Redis server per test.

mod builder;
mod resp;
mod tls;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

pub use self::builder::RedisServerBuilder;
pub(crate) use self::builder::start_all;
pub use self::resp::Reply;
use self::tls::Certificates;
use crate::ports::free_port;
use crate::process::ChildProcess;

/// Names the program to run instead of `redis-server`, as `valkey-server` or a path.
const PROGRAM_VARIABLE: &str = "LARDER_REDIS_SERVER";
/// How often a new server tries another port; two processes that want the same one are rare already.
const PORT_ATTEMPTS: u32 = 20;
/// How long a server may take to answer its first command. It takes some 10 ms on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long one command may take; a paused server never answers.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks at a server that starts.
const POLL: Duration = Duration::from_millis(3);

/// A `redis-server` (or `valkey-server`, if the environment variable `LARDER_REDIS_SERVER` names it) of this test's
/// own: on a free port of 127.0.0.1, in a temporary directory, without persistence unless asked for.
///
/// It is killed when dropped, and also when the test process ends without dropping it.
pub struct RedisServer {
    port: u16,
    /// Where the other nodes of its cluster reach it, if it is in one.
    bus_port: Option<u16>,
    password: Option<String>,
    persistent: bool,
    certificates: Option<Certificates>,
    args: Vec<String>,
    /// Whether it has a configuration file.
    configured: bool,
    /// `None` while killed.
    process: Mutex<Option<ChildProcess>>,
    // After `process`: the directory goes when nothing writes to it any more.
    directory: TempDir,
}

/// Why a server did not come up.
enum NotStarted {
    /// Somebody else had the port.
    PortTaken,
    /// Anything else, in words.
    Failed(String),
}

impl RedisServer {
    /// Starts a server with the defaults and waits until it answers.
    ///
    /// # Panics
    /// As [`RedisServerBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server with other than the defaults.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    async fn start_with(options: RedisServerBuilder) -> Self {
        let directory = TempDir::with_prefix("larder-testkit-").expect("the temporary directory is writable");
        let certificates = options.tls.then(|| Certificates::write(directory.path()));
        let mut server = Self {
            port: 0,
            bus_port: None,
            password: options.password,
            persistent: options.persistent,
            certificates,
            args: options.args,
            configured: options.config.is_some(),
            process: Mutex::new(None),
            directory,
        };
        if let Some(text) = options.config {
            std::fs::write(server.config_path(), text).expect("the server's directory is writable");
        }
        for _ in 0..PORT_ATTEMPTS {
            server.port = free_port();
            server.bus_port = options.bus.then(free_port);
            match server.launch().await {
                Ok(()) => return server,
                Err(NotStarted::PortTaken) => {}
                Err(NotStarted::Failed(why)) => panic!("{why}"),
            }
        }
        panic!("{PORT_ATTEMPTS} ports in a row were taken by others")
    }

    /// `redis://127.0.0.1:<port>`, or `rediss://` with TLS, with the password if there is one.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        let user = self
            .password
            .as_deref()
            .map(|password| format!(":{}@", utf8_percent_encode(password, NON_ALPHANUMERIC)));
        format!("{scheme}://{}{}", user.unwrap_or_default(), self.addr())
    }

    /// Its port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, the same for its whole life.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port of its cluster bus.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.bus_port
    }

    /// Whether it is there, if only paused.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.lock().as_mut().is_some_and(|process| !process.has_ended())
    }

    /// Whether it can answer: neither killed, nor paused, nor ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.process.lock().as_mut().is_some_and(ChildProcess::is_running)
    }

    /// The PEM file with the authority that a client must trust.
    ///
    /// # Panics
    /// If the server was not built with [`tls`](RedisServerBuilder::tls).
    pub fn ca_certificate_path(&self) -> &Path {
        &self.certificates.as_ref().expect("the server was built with .tls(true)").ca
    }

    /// Kills it (SIGKILL), also while paused. Returns when it is gone and its port refuses. Does nothing if it is dead.
    pub fn kill(&self) {
        drop(self.process.lock().take());
    }

    /// Kills it if it lives, starts it anew on the same port in the same directory and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up again.
    pub async fn restart(&self) {
        self.kill();
        let start = Instant::now();
        loop {
            match self.launch().await {
                Ok(()) => return,
                // Somebody has the port for a moment, perhaps an outgoing connection: the port is all that clients know,
                // so wait for it.
                Err(NotStarted::PortTaken) if start.elapsed() < START_DEADLINE => sleep(POLL).await,
                Err(NotStarted::PortTaken) => {
                    panic!("port {} was taken by others while the server was down", self.port)
                }
                Err(NotStarted::Failed(why)) => panic!("{why}"),
            }
        }
    }

    /// Stops it (SIGSTOP): the kernel goes on accepting connections and bytes for it, but nothing answers. Returns
    /// when it has stopped.
    ///
    /// # Panics
    /// If the server is dead.
    pub fn pause(&self) {
        self.living(ChildProcess::pause);
    }

    /// Ends a [`pause`](Self::pause) (SIGCONT). Does no harm to a server that runs.
    ///
    /// # Panics
    /// If the server is dead.
    pub fn resume(&self) {
        self.living(ChildProcess::resume);
    }

    /// Sends one command, of words or of raw bytes, and returns its reply. It goes through a Unix socket, on a new
    /// connection each time, so no proxy and no TLS is in the way.
    ///
    /// A refusal by the server is a reply too: [`Reply::Error`].
    ///
    /// # Errors
    /// If the server is dead, or does not answer within 10 s.
    ///
    /// Cancel safe in that nothing is left open; whether the command had its effect is then unknown.
    pub async fn command(&self, args: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        timeout(COMMAND_DEADLINE, self.call(args)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    /// Deletes everything.
    ///
    /// # Panics
    /// If the server does not answer, or refuses.
    pub async fn flush_all(&self) {
        let reply = self.command(&["FLUSHALL"]).await.expect("a living server answers FLUSHALL");
        assert_eq!(reply, Reply::Simple("OK".into()));
    }

    /// The keys of database 0, sorted.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn keys(&self) -> Vec<Vec<u8>> {
        let reply = self.command(&["KEYS", "*"]).await.expect("a living server answers KEYS");
        let mut keys: Vec<_> = reply.items().iter().filter_map(Reply::bytes).map(<[u8]>::to_vec).collect();
        keys.sort();
        keys
    }

    async fn call(&self, args: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        let mut stream = BufReader::new(UnixStream::connect(self.socket()).await?);
        if let Some(password) = &self.password {
            let reply = resp::call(&mut stream, &["AUTH", password]).await?;
            // `ERR` for a password that the test has meanwhile taken away; the command then says what matters.
            if let Reply::Error(error) = reply
                && error.starts_with("WRONGPASS")
            {
                return Err(io::Error::new(ErrorKind::PermissionDenied, error));
            }
        }
        resp::call(&mut stream, args).await
    }

    /// Starts the process and waits until it answers.
    async fn launch(&self) -> Result<(), NotStarted> {
        let log = std::fs::File::create(self.log_path()).expect("the server's directory is writable");
        let program = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| OsString::from("redis-server"));
        let mut command = Command::new(&program);
        self.configure(&mut command);
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let process = ChildProcess::spawn_in(&mut command, self.directory.path())
            .map_err(|error| NotStarted::Failed(missing(&program, &error)))?;
        *self.process.lock() = Some(process);

        let start = Instant::now();
        loop {
            // The socket is in a directory of our own, so it is our server that answers, and not another test's that was
            // quicker to take the port; and a server opens it only after its port.
            match timeout(START_DEADLINE, self.call(&["PING"])).await {
                Ok(Ok(Reply::Error(error))) if error.starts_with("LOADING") => {}
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) | Err(_) => {}
            }
            let ended = self.process.lock().as_mut().is_none_or(ChildProcess::has_ended);
            if ended || start.elapsed() > START_DEADLINE {
                self.kill();
                let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                if ended && log.contains("Address already in use") {
                    return Err(NotStarted::PortTaken);
                }
                let how = if ended { "ended" } else { "gave no answer" };
                return Err(NotStarted::Failed(format!(
                    "{} {how} after {:?}; its log:\n{log}",
                    program.display(),
                    start.elapsed()
                )));
            }
            sleep(POLL).await;
        }
    }

    fn configure(&self, command: &mut Command) {
        if self.configured {
            command.arg(self.config_path());
        }
        let append = if self.persistent { "yes" } else { "no" };
        command.args(["--daemonize", "no", "--bind", "127.0.0.1", "--save", "", "--appendonly", append]);
        command.args(["--appendfsync", "always", "--dir"]).arg(self.directory.path());
        command.arg("--unixsocket").arg(self.socket());
        let port = self.port.to_string();
        if let Some(certificates) = &self.certificates {
            command.args([
                "--port",
                "0",
                "--tls-port",
                &port,
                "--tls-auth-clients",
                "no",
                "--tls-ca-cert-file",
            ]);
            command.arg(&certificates.ca).arg("--tls-cert-file").arg(&certificates.server);
            command.arg("--tls-key-file").arg(&certificates.server_key);
        } else {
            command.args(["--port", &port]);
        }
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        if let Some(port) = self.bus_port {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        command.args(&self.args);
    }

    fn living(&self, act: impl FnOnce(&mut ChildProcess) -> io::Result<()>) {
        let mut process = self.process.lock();
        act(process.as_mut().expect("the server is alive")).expect("a child takes its parent's signals");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn config_path(&self) -> PathBuf {
        self.directory.path().join("redis.conf")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("redis.log")
    }
}

fn missing(program: &std::ffi::OsStr, error: &io::Error) -> String {
    format!(
        "cannot run {}: {error}\n\
         These tests need a real Redis. Run `cargo xtask test`, which installs it, or `apt-get install redis-server`,\n\
         or set {PROGRAM_VARIABLE} to the program (redis-server or valkey-server) to use.",
        program.display()
    )
}
