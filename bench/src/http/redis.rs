//! A Redis of this run's own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START: Duration = Duration::from_secs(5);

/// A server that stores nothing on disk. Gone when dropped.
pub struct Redis {
    process: Child,
    pub url: String,
}

impl Redis {
    /// Starts one on `core`, on a free port.
    pub fn start(core: usize) -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let process = Command::new("taskset")
            .args([
                "-c",
                &core.to_string(),
                "redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("taskset and redis-server are installed");
        // From here on it is ended, whatever comes.
        let redis = Redis { process, url: format!("redis://127.0.0.1:{port}") };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < START, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    /// Loses everything.
    pub fn flush(&self) {
        let port = self.url.rsplit(':').next().expect("the address ends with the port");
        let done = Command::new("redis-cli").args(["-p", port, "flushall"]).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|done| done.success()), "redis-cli is installed");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
