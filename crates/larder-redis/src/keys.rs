//! How keys are named in Redis. Pure.

use crate::reply::line;
use crate::slots::{number_in, slot_of};

/// The longest name. Redis would take more, but compares and prints whole names.
const NAME_LIMIT: usize = 512;
/// Bytes of a character in UTF-8, at the most.
const LONGEST_CHARACTER: usize = 4;
/// 128 bits in hexadecimal.
const HASH_LEN: usize = 32;

/// The names under one prefix.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
    pub(crate) state: String,
    pub(crate) log: String,
    pub(crate) old: String,
    /// Never exists; removing it tells whether the server takes writes.
    pub(crate) probe: String,
    /// What the names of the channels begin with on which nodes are woken. The number of the node follows.
    pub(crate) wake: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        let beside = |what| format!("{{{prefix}}}:{what}");
        Keys {
            prefix: prefix.to_owned(),
            state: beside("state"),
            log: beside("log"),
            old: beside("old"),
            probe: beside("probe"),
            wake: format!("{prefix}:wake:"),
        }
    }

    /// The channel on which a node is woken.
    pub(crate) fn channel(&self, waiter: u64) -> String {
        format!("{}{}", self.wake, hex(waiter))
    }

    /// The node that is woken on a channel; `None` if it is no such channel.
    pub(crate) fn waiter(&self, channel: &str) -> Option<u64> {
        line(channel.strip_prefix(&self.wake)?)
    }

    fn begin(&self, room: usize) -> Vec<u8> {
        let mut name = Vec::with_capacity((self.prefix.len() + 1 + room).min(NAME_LIMIT));
        name.extend_from_slice(self.prefix.as_bytes());
        name.push(b':');
        name
    }

    /// The name of a value by what follows the prefix in it, as [`short`](Self::short) gives it.
    pub(crate) fn whole(&self, short: &[u8]) -> Vec<u8> {
        let mut name = self.begin(short.len());
        name.extend_from_slice(short);
        name
    }

    /// A value's name without the prefix: the key, unless that is too long or has a variant. `None` if it is no value's.
    pub(crate) fn short<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":")
    }

    /// A pattern for the names of all values whose keys begin with `under`; it may fit others.
    pub(crate) fn pattern(&self, under: &[u8]) -> Vec<u8> {
        let beginning = self.beginning(under);
        let (prefix, rest) = beginning.split_at(self.prefix.len() + 1);
        let mut pattern = prefix.to_vec();
        for &byte in rest {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern
    }

    /// What the names of all values whose keys begin with `under` begin with; others may, too.
    pub(crate) fn beginning(&self, under: &[u8]) -> Vec<u8> {
        let mut name = self.begin(under.len());
        // What every name, hashed or not, surely has of the key.
        let sure = NAME_LIMIT - name.len() - 1 - HASH_LEN - LONGEST_CHARACTER;
        let readable = &under[..under.iter().position(|&b| b == b'~').unwrap_or(under.len()).min(sure)];
        name.extend_from_slice(readable);
        if readable.len() < under.len().min(sure) {
            name.push(b'~');
        }
        name
    }

    /// The name of a value: `<prefix>:<key>`, or `<prefix>:<readable part of key>~<hash of key>` if that is too long or
    /// the key has a variant (what stands behind its first `~`: text from requests, which has no business in a name). Two
    /// keys whose names are the same cost misses, nothing else: the value holds its key, and readers compare it.
    pub(crate) fn value(&self, key: &[u8]) -> Vec<u8> {
        finish(self.begin(key.len()), key)
    }

    /// The name of the count of a share: `{<prefix>:share:<share>}`, shortened as the name of a value is.
    pub(crate) fn share(&self, share: &[u8]) -> Vec<u8> {
        let mut name = finish(format!("{{{}:share:", self.prefix).into_bytes(), share);
        name.push(b'}');
        name
    }
}

/// The name of the lease of a value: in the same slot, and no name that a value could have.
pub(crate) fn lease(name: &[u8]) -> Vec<u8> {
    if name.contains(&b'}') {
        // In braces, such a name would not be taken as a whole. No key of the engine has braces: they are escaped.
        let beside = format!("{{{}}}:", number_in(slot_of(name)));
        return [beside.as_bytes(), name, b":lease"].concat();
    }
    [b"{", name, b"}:lease"].concat()
}

/// What all of these begin with.
pub(crate) fn common<'k>(keys: &[&'k [u8]]) -> &'k [u8] {
    let Some((first, others)) = keys.split_first() else { return b"" };
    let same = |other: &&[u8]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    &first[..others.iter().map(same).min().unwrap_or(first.len())]
}

/// Adds to a name what it is the name of, as it is or shortened.
fn finish(mut name: Vec<u8>, key: &[u8]) -> Vec<u8> {
    let variant = key.iter().position(|&b| b == b'~');
    if variant.is_none() && name.len() + key.len() <= NAME_LIMIT {
        name.extend_from_slice(key);
        return name;
    }
    let readable = &key[..variant.unwrap_or(key.len())];
    let room = NAME_LIMIT - name.len() - 1 - HASH_LEN;
    let head = if readable.len() <= room { readable.len() } else { character_start(readable, room) };
    name.extend_from_slice(&readable[..head]);
    name.push(b'~');
    name.extend_from_slice(&blake3::hash(key).to_hex().as_bytes()[..HASH_LEN]);
    name
}

/// 16 hexadecimal digits, as [`line`] reads them.
pub(crate) fn hex(bits: u64) -> String {
    format!("{bits:016x}")
}

/// The last place at or before `at` where no UTF-8 character is cut in two.
fn character_start(bytes: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| bytes.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80);
    (at.saturating_sub(3)..=at).rev().find(is_start).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_ones_of_the_reference() {
        let keys = Keys::new("larder");
        assert_eq!(keys.value(b"trig:123"), b"larder:trig:123");
        assert_eq!([&keys.log, &keys.state, &keys.old], ["{larder}:log", "{larder}:state", "{larder}:old"]);
    }

    #[test]
    fn a_name_of_512_bytes_is_kept_and_a_longer_one_keeps_its_head_and_is_hashed() {
        let keys = Keys::new("p");
        let fits = vec![b'a'; 510];
        assert_eq!(keys.value(&fits)[2..], fits);
        let long = vec![b'a'; 511];
        let name = keys.value(&long);
        assert_eq!(name.len(), 512);
        assert!(name.starts_with(b"p:aaaa"));
        assert_eq!(name[512 - 33], b'~');
        assert_ne!(name, keys.value(&[b'a'; 512]));
    }

    #[test]
    fn the_variant_of_a_key_is_hashed_and_its_name_stays_readable() {
        let keys = Keys::new("p");
        let name = keys.value(b"trig:1~GET http H1:a {x}\r\n*");
        assert!(name.starts_with(b"p:trig:1~") && name.len() == 9 + 32, "{}", String::from_utf8_lossy(&name));
        assert_ne!(name, keys.value(b"trig:1~GET http H1:b {x}\r\n*"));
    }

    #[test]
    fn a_pattern_fits_the_name_of_every_key_below_and_escapes_what_globs_mean() {
        let keys = Keys::new("p");
        assert_eq!(keys.pattern(b""), b"p:*");
        assert_eq!(keys.pattern(b"a:[b]*?\\"), b"p:a:\\[b\\]\\*\\?\\\\*");
        assert_eq!(keys.pattern(b"trig:1~GET x"), b"p:trig:1~*");
        for length in [400, 470, 475, 480, 511, 600] {
            for key in
                ["\u{1F9C0}".repeat(length / 4), "x".repeat(length), format!("{}~v", "x".repeat(length))]
            {
                let name = keys.value(key.as_bytes());
                for cut in (0..=key.len()).filter(|&cut| key.is_char_boundary(cut)) {
                    let pattern = keys.pattern(&key.as_bytes()[..cut]);
                    assert!(name.starts_with(&pattern[..pattern.len() - 1]), "{cut} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_keys_have_in_common_is_their_longest_beginning() {
        assert_eq!(common(&[b"a:1", b"a:12", b"a:2"]), b"a:");
        assert_eq!(common(&[b"a:1", b""]), b"");
        assert_eq!((common(&[b"a:1"]), common(&[])), (b"a:1".as_slice(), b"".as_slice()));
    }

    #[test]
    fn a_short_name_is_the_name_without_its_prefix() {
        let keys = Keys::new("p");
        let long = keys.value(&[b'a'; 600]);
        assert_eq!(keys.short(b"p:trig:1"), Some(b"trig:1".as_slice()));
        assert_eq!(keys.whole(keys.short(&long).unwrap()), long);
        assert_eq!(keys.short(b"pp:trig:1"), None);
        assert_eq!(keys.short(b"{p}:log"), None);
    }

    #[test]
    fn a_lease_is_in_the_slot_of_its_value_and_has_no_name_of_a_value() {
        let keys = Keys::new("larder");
        assert_eq!(lease(&keys.value(b"trig:1")), b"{larder:trig:1}:lease");
        let long = [b'{'; 600];
        let odd: [&[u8]; 10] = [
            b"",
            b"{tag}:1",
            b"{tag}:1:lease",
            b"a}b",
            b"{}",
            b"{}a}",
            b"{",
            b"}{a}",
            b"a:{b}~GET {c}",
            &long,
        ];
        let mut seen = Vec::new();
        for key in odd {
            let name = keys.value(key);
            let lease = lease(&name);
            assert_eq!(slot_of(&lease), slot_of(&name), "{}", String::from_utf8_lossy(&lease));
            assert_eq!(keys.short(&lease), None);
            assert!(!seen.contains(&lease));
            seen.push(lease);
        }
    }

    #[test]
    fn a_share_is_named_apart_from_values_and_long_ones_are_hashed() {
        let keys = Keys::new("larder");
        assert_eq!(keys.share(b"trig:tenant"), b"{larder:share:trig:tenant}");
        let long = keys.share(&[b'a'; 600]);
        assert_eq!((long.len(), keys.short(&long)), (513, None));
        assert_ne!(long, keys.share(&[b'a'; 601]));
    }

    #[test]
    fn a_channel_tells_whose_it_is_and_others_tell_nothing() {
        let keys = Keys::new("larder");
        assert_eq!(keys.channel(0xab), "larder:wake:00000000000000ab");
        assert_eq!(keys.waiter("larder:wake:00000000000000ab"), Some(0xab));
        for other in
            ["", "larder:wake:", "larder:wake:ab", "larder:wake:+0000000000000ab", "x:wake:00000000000000ab"]
        {
            assert_eq!(keys.waiter(other), None);
        }
    }

    #[test]
    fn the_readable_head_ends_between_characters() {
        let keys = Keys::new("p");
        for shift in 0..4 {
            let key = format!("{}{}", "a".repeat(shift), "\u{1F9C0}".repeat(200));
            assert!(String::from_utf8(keys.value(key.as_bytes())).is_ok());
        }
        // Bytes that are no text at all are cut somewhere.
        assert_eq!(keys.value(&[0x80; 600]).len(), 512);
    }
}
