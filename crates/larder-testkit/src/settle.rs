//! Waiting for servers to agree, with the reason why they do not yet.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{RedisServer, Reply};

/// How long servers may take to agree. Seconds on an idle machine; this is for one that is busy with other tests, and
/// for a vote that has to be repeated.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks. A look asks every server several things, so it is longer than that of `wait_for`.
const POLL: Duration = Duration::from_millis(15);

/// Looks until `look` finds what it looks for, and returns that.
///
/// # Panics
/// After a minute, with `what` and what the last look found amiss.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    let mut amiss = String::from("the first look did not end");
    loop {
        match timeout_at(start + DEADLINE, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(why)) if start.elapsed() < DEADLINE => amiss = why,
            Ok(Err(why)) => panic!("waited {DEADLINE:?} in vain for {what}: {why}"),
            Err(_) => panic!("waited {DEADLINE:?} in vain for {what}: {amiss}"),
        }
        sleep(POLL).await;
    }
}

/// The reply to a command that should not be refused.
pub(crate) async fn ask(server: &RedisServer, words: &[impl AsRef<[u8]>]) -> Result<Reply, String> {
    let command = || {
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
        format!("{}, asked {:?},", server.addr(), words.join(" "))
    };
    match server.command(words).await {
        Ok(Reply::Error(error)) => Err(format!("{} refuses: {error}", command())),
        Ok(reply) => Ok(reply),
        Err(error) => Err(format!("{} fails: {error}", command())),
    }
}

/// [`ask`] for a reply that is text.
pub(crate) async fn ask_text(server: &RedisServer, words: &[impl AsRef<[u8]>]) -> Result<String, String> {
    let reply = ask(server, words).await?;
    let bytes = reply.bytes().ok_or_else(|| format!("{} answers {reply:?} and not text", server.addr()))?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// [`ask`] where a refusal is the test's mistake or ours.
///
/// # Panics
/// If the server refuses or does not answer.
pub(crate) async fn must(server: &RedisServer, words: &[impl AsRef<[u8]>]) -> Reply {
    ask(server, words).await.unwrap_or_else(|why| panic!("{why}"))
}

/// The value of `name` in text of lines `name:value`, as `INFO` gives.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
