//! Just enough of the Redis protocol (RESP2) to look at a server past the code under test.

use std::fmt::Debug;
use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest string a server may send us: Redis' own limit on a value, 512 MiB.
const LONGEST_BULK: usize = 512 << 20;
/// Deepest nesting of arrays: `COMMAND DOCS` is the deepest thing Redis says, and stays below this.
const DEEPEST: u32 = 16;

/// What a Redis server answers to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, as `OK` or `PONG`.
    Simple(String),
    /// A string of bytes, as a value.
    Bulk(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// No such thing.
    Nil,
    /// Several replies.
    Array(Vec<Self>),
    /// A refusal, with its code first, as `WRONGTYPE Operation against ...`.
    Error(String),
}

impl Reply {
    /// The bytes of a [`Bulk`](Self::Bulk).
    pub fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bulk(bytes) = self { Some(bytes) } else { None }
    }

    /// The number of an [`Int`](Self::Int).
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The replies in an [`Array`](Self::Array); none for every other reply.
    pub fn items(&self) -> &[Self] {
        if let Self::Array(items) = self { items } else { &[] }
    }
}

/// Sends one command and reads its reply.
pub(super) async fn call<S: AsyncBufRead + AsyncWrite + Unpin>(
    stream: &mut S,
    args: &[impl AsRef<[u8]>],
) -> io::Result<Reply> {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request).await?;
    read(stream, 0).await
}

async fn read<R: AsyncBufRead + Unpin>(from: &mut R, depth: u32) -> io::Result<Reply> {
    let line = line(from).await?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid("an empty line"))?;
    Ok(match kind {
        "+" => Reply::Simple(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number(rest)?),
        "$" | "*" if rest == "-1" => Reply::Nil,
        "$" => Reply::Bulk(bulk(from, number(rest)?).await?),
        "*" if depth == DEEPEST => return Err(invalid("arrays nested too deeply")),
        "*" => {
            let count: usize = number(rest)?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(Box::pin(read(from, depth + 1)).await?);
            }
            Reply::Array(items)
        }
        _ => return Err(invalid(&line)),
    })
}

async fn line<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| invalid(&line))
}

async fn bulk<R: AsyncBufRead + Unpin>(from: &mut R, len: usize) -> io::Result<Vec<u8>> {
    if len > LONGEST_BULK {
        return Err(invalid("a string longer than Redis allows"));
    }
    let mut bytes = vec![0; len + 2];
    from.read_exact(&mut bytes).await?;
    if bytes.split_off(len) != b"\r\n" {
        return Err(invalid("a string without its end"));
    }
    Ok(bytes)
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| invalid(text))
}

fn invalid(what: impl Debug) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a RESP reply: {what:?}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn parse(bytes: &[u8]) -> io::Result<Reply> {
        read(&mut BufReader::new(bytes), 0).await
    }

    #[tokio::test]
    async fn every_kind_of_reply_is_read() {
        let bytes = b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$4\r\na\r\n\0\r\n*-1\r\n";
        let expected = Reply::Array(vec![
            Reply::Simple("OK".into()),
            Reply::Error("ERR no".into()),
            Reply::Int(-7),
            Reply::Nil,
            Reply::Bulk(b"a\r\n\0".to_vec()),
            Reply::Nil,
        ]);
        assert_eq!(parse(bytes).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_broken_reply_is_an_error_and_never_a_panic() {
        let deep = b"*1\r\n".repeat(64);
        let broken: [&[u8]; 9] = [
            b"",
            b"\r\n",
            b"+OK",
            b"?\r\n",
            b":x\r\n",
            b"$2\r\nabc\r\n",
            b"$-2\r\n",
            b"$9999999999\r\n",
            &deep,
        ];
        for bytes in broken {
            assert!(parse(bytes).await.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
