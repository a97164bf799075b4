use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const MIB: usize = 1024 * 1024;

fn all() -> Vec<Compression> {
    vec![
        #[cfg(feature = "zstd")]
        Compression::zstd(),
        #[cfg(feature = "zstd")]
        Compression::zstd_level(19),
        #[cfg(feature = "lz4")]
        Compression::lz4(),
    ]
}

/// Text that repeats itself, now and then with something new.
fn text() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 1..200), 1..2000_usize).prop_map(|(word, times)| word.repeat(times))
}

/// Bytes without any order, which nothing makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

proptest! {
    #[test]
    fn what_was_packed_is_unpacked(payload in text()) {
        for compression in all() {
            let (id, packed) = pack(payload.clone(), Some(&compression.above(0)), MIB);
            prop_assert!(id == NONE || packed.len() <= payload.len() * 9 / 10);
            prop_assert_eq!(unpack(id, &packed, MIB), Ok(Bytes::from(payload.clone())));
        }
    }

    #[test]
    fn bytes_that_were_changed_or_cut_are_refused_or_no_longer_than_they_say(
        payload in text(), at: prop::sample::Index, byte: u8,
    ) {
        for compression in all() {
            let (id, packed) = pack(payload.clone(), Some(&compression.above(0)), MIB);
            if id == NONE {
                continue;
            }
            let at = at.index(packed.len());
            prop_assert!(unpack(id, &packed.slice(..at), MIB).is_err());
            let mut changed = packed.to_vec();
            changed[at] = byte;
            let told = u32::from_be_bytes(*changed.first_chunk().unwrap()) as usize;
            if let Ok(out) = unpack(id, &changed.into(), MIB) {
                prop_assert_eq!(out.len(), told);
            }
        }
    }

    #[test]
    fn any_bytes_end_without_a_panic(id in 1..4_u8, made_up in prop::collection::vec(any::<u8>(), 0..100), head: bool) {
        let mut bytes = vec![0, 0, 1, 0];
        if head {
            // As frames begin: of zstd, of LZ4.
            bytes.extend_from_slice(if id == 1 { &[0x28, 0xb5, 0x2f, 0xfd] } else { &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82] });
        }
        bytes.extend(made_up);
        if let Ok(out) = unpack(id, &bytes.into(), MIB) {
            prop_assert_eq!(out.len(), 256);
        }
    }
}

#[test]
fn what_gains_less_than_a_tenth_stays_as_it_is() {
    for compression in all() {
        for payload in [Vec::new(), b"short".to_vec(), noise(100_000)] {
            let (id, packed) = pack(payload.clone(), Some(&compression.above(0)), MIB);
            assert_eq!((id, &packed[..]), (NONE, &payload[..]));
        }
        // 8 % of it can be spared, then 12 %.
        for (zeros, kept) in [(8_000, false), (12_000, true)] {
            let payload = [noise(100_000 - zeros), vec![0; zeros]].concat();
            assert_eq!(pack(payload, Some(&compression), MIB).0 != NONE, kept, "{compression:?} {zeros}");
        }
    }
}

#[test]
fn small_payloads_and_those_that_would_be_refused_are_not_packed() {
    for compression in all() {
        let id = |len: usize, limit| pack(vec![0; len], Some(&compression), limit).0;
        assert_eq!((id(1023, MIB), id(1024, MIB)), (NONE, compression.id));
        assert_eq!((id(64 * 1024, 0), id(64 * 1024 + 1, 0)), (compression.id, NONE));
        assert_eq!(pack(vec![0; 2000], None, MIB).0, NONE);
    }
}

/// A bomb: a few bytes that say, truly or not, that they are a lot more.
#[test]
fn a_bomb_is_never_unpacked_beyond_what_it_says_nor_beyond_the_bound() {
    for compression in all() {
        let zeros = vec![0; 60 * MIB];
        let (id, bomb) = pack(zeros, Some(&compression), 100 * MIB);
        assert!(bomb.len() < MIB);
        // Lowered limits look the same: left alone, for others may still take it.
        assert_eq!(unpack(id, &bomb, MIB), Err(Reject::TooLarge));
        assert!(!Reject::TooLarge.is_damage());
        let says = |len: u32| -> Bytes { [&len.to_be_bytes(), &bomb[LEN..]].concat().into() };
        for lie in [0, 1, 4096, 60 * 1024 * 1024 - 1, 60 * 1024 * 1024 + 1] {
            assert_eq!(unpack(id, &says(lie), 100 * MIB), Err(Reject::Truncated), "{lie}");
        }
        assert_eq!(unpack(id, &says(u32::MAX), 100 * MIB), Err(Reject::TooLarge));
        assert_eq!(unpack(id, &bomb.slice(..3), MIB), Err(Reject::Truncated));
    }
}

#[test]
fn anything_behind_the_frame_is_damage() {
    for compression in all() {
        let (id, packed) = pack(vec![7; 10_000], Some(&compression), MIB);
        let (_, frame) = packed.split_at(LEN);
        // A byte, a frame that may be skipped, the same frame again.
        for more in [&b"\0"[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], frame] {
            let long: Bytes = [&packed[..], more].concat().into();
            assert_eq!(unpack(id, &long, MIB), Err(Reject::Truncated));
        }
    }
    assert!(Reject::Truncated.is_damage());
}

/// Two releases side by side, or a build without the algorithm.
#[test]
fn a_compression_that_this_build_does_not_know_is_left_alone() {
    for id in [3, 77, 255] {
        assert_eq!(unpack(id, &Bytes::from_static(b"\0\0\0\x04...."), MIB), Err(Reject::Version));
    }
    assert!(!Reject::Version.is_damage());
}

/// The head says how much room the decoder makes, so it is no matter of chance.
#[cfg(feature = "lz4")]
#[test]
fn every_lz4_frame_begins_alike_and_no_other_is_read() {
    let (id, packed) = pack(vec![7; 10_000], Some(&Compression::lz4()), MIB);
    assert!(packed[LEN..].starts_with(&lz4::HEAD));
    // The old format, whose blocks have 8 MiB.
    let old: Bytes = [&packed[..LEN], &[0x02, 0x21, 0x4c, 0x18], &packed[LEN + 7..]].concat().into();
    assert_eq!(unpack(id, &old, MIB), Err(Reject::Truncated));
}

#[cfg(feature = "zstd")]
#[test]
fn a_level_that_there_is_not_is_found() {
    let bad = |level| Compression::zstd_level(level).bad_level();
    assert_eq!((bad(0), bad(1), bad(19), bad(20)), (Some(0), None, None, Some(20)));
}
