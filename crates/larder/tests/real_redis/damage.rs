//! Bytes in Redis that are not what was written there.

use larder::units::HOUR;
use larder::{Policy, redis::Redis};
use larder_testkit::{RedisServer, Reply};

use super::support::{Process, Source};

const NAME: &str = "larder:row:a";

/// Whatever somebody left under a key of ours, a read is a miss that is counted, and the next process finds a good entry.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_or_foreign_bytes_in_redis_are_a_counted_miss_and_are_replaced() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR);
    let start = async || {
        let process = Process::patient(Redis::at(server.url()), &source, &policy).await;
        process.settled().await;
        process
    };
    let first = start().await;
    first.read("a").await;
    first.stored(1).await;
    let good = server.command(&["GET", NAME]).await.unwrap().bytes().unwrap().to_vec();
    first.stop().await;

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 0x10;
    let mut header = good.clone();
    header[30] ^= 1;
    let mut version = good.clone();
    version[2] = 77;
    let cases: [(&str, Option<Vec<u8>>, &str); 7] = [
        ("a list", None, "foreign"),
        ("somebody's text", Some(b"hello".to_vec()), "foreign"),
        ("an empty string", Some(Vec::new()), "foreign"),
        ("half an entry", Some(good[..good.len() / 2].to_vec()), "truncated"),
        ("a flipped bit in the value", Some(flipped), "checksum"),
        ("a flipped bit in the header", Some(header), "checksum"),
        ("a version of the future", Some(version), "version"),
    ];
    for (what, bytes, reason) in cases {
        server.command(&["DEL", NAME]).await.unwrap();
        match &bytes {
            None => server.command(&["RPUSH", NAME, "x"]).await.unwrap(),
            Some(bytes) => server.command(&[b"SET", NAME.as_bytes(), bytes.as_slice()]).await.unwrap(),
        };
        let process = start().await;
        let reads = source.reads();
        process.read("a").await;
        assert_eq!(source.reads(), reads + 1, "{what}: loaded");
        assert_eq!(process.cache.stats().namespaces["row"].rejected, 1, "{what}: counted");
        let rejected = format!("{:?}", process.events.events());
        assert!(rejected.contains(&format!("reason: \"{reason}\"")), "{what}: {rejected}");
        process.stored(1).await;
        process.stop().await;

        let next = start().await;
        next.read("a").await;
        assert_eq!((next.loads(), source.reads()), (0, reads + 1), "{what}: replaced by a good entry");
        next.stop().await;
    }
    let ttl = server.command(&["PTTL", NAME]).await.unwrap();
    assert!(ttl.int().unwrap() > 0, "nothing of ours lives for ever: {ttl:?}");
    assert!(matches!(ttl, Reply::Int(_)));
}
