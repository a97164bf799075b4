//! Whose part of the cache an entry counts to, and how large that part is.

use super::PolicyError;
use crate::key::{name_of, user_of};

/// How much of the cache each partition of a namespace may take: each tenant, each user. See
/// [`Policy::share`](crate::Policy::share).
///
/// ```
/// use larder_core::{Policy, Share, units::*};
/// // Keys `report:<tenant>:<id>`: no tenant has more than 4 MiB of each process, nor more than 64 MiB of Redis.
/// let policy = Policy::ttl(HOUR).share(Share::of_segment(0).memory(4 * MIB).remote(64 * MIB));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub(crate) whose: Whose,
    pub(crate) memory: Option<u64>,
    pub(crate) remote: Option<u64>,
}

/// By what of its key an entry counts to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Segment(usize),
    User,
}

impl Share {
    /// Entries count to whoever the segment `n` of their key names, counted from 0 behind the namespace: of the keys
    /// `report:acme:7`, 0 is `acme`.
    ///
    /// Counted is what stands in the key, the name of a sub-resource too: of the keys `trig:123:logs:7` of the handle
    /// `("trig", "logs")`, 0 is `123`, 1 is `logs` for all of them, and 2 is `7`. Of the keys of HTTP routes, label and
    /// version are segments as well. Keys that have no such segment count to nobody, and nothing bounds them.
    pub fn of_segment(n: usize) -> Self {
        Share { whose: Whose::Segment(n), memory: None, remote: None }
    }

    /// Entries count to the user whose answer they are: for HTTP routes that are `per_user`. Keys without a user count to
    /// nobody, and nothing bounds them.
    pub fn of_user() -> Self {
        Share { whose: Whose::User, memory: None, remote: None }
    }

    /// Each partition takes at most so many bytes of memory, in each process: where one more would be too many, its own
    /// oldest entries make room. What is larger by itself is not kept in memory. Default: no bound.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Each partition takes at most so many bytes of the remote tier, of all processes together: what would be too many is
    /// not stored there. Default: no bound.
    pub fn remote(mut self, bytes: u64) -> Self {
        self.remote = Some(bytes);
        self
    }

    /// Is there a bound, above zero, for a tier that entries live in?
    pub(super) fn check(&self, memory: bool, remote: bool) -> Result<(), PolicyError> {
        let wrong = |value: String, rule| Err(PolicyError { option: "share", value, rule });
        if self.memory == Some(0) || self.remote == Some(0) {
            return wrong("0 bytes".into(), "above zero in each tier that it bounds");
        }
        if !(memory && self.memory.is_some() || remote && self.remote.is_some()) {
            return wrong(
                format!("{self:?}"),
                "a bound for memory, the remote tier or both, where entries live",
            );
        }
        Ok(())
    }
}

impl Whose {
    /// To whom a key counts, as the key has it; `None`: to nobody.
    pub(crate) fn partition(self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Whose::Segment(n) => name_of(key).split(|&b| b == b':').nth(n.checked_add(1)?),
            Whose::User => user_of(key),
        }
    }

    /// What the remote tier counts a partition under. No two partitions have one name.
    pub(crate) fn name(self, namespace: &[u8], partition: &[u8]) -> Vec<u8> {
        let whose = match self {
            Whose::Segment(n) => n.to_string(),
            Whose::User => "user".to_owned(),
        };
        [namespace, b":", whose.as_bytes(), b":", partition].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::key::{Key, KeyWriter};

    #[test]
    fn segments_are_counted_behind_the_namespace_the_sub_resource_with_them() {
        let of = |n, key: &'static str| Whose::Segment(n).partition(key.as_bytes());
        assert_eq!(of(0, "trig:123:logs:7"), Some(&b"123"[..]));
        assert_eq!(of(1, "trig:123:logs:7"), Some(&b"logs"[..]));
        assert_eq!(of(2, "trig:123:logs:7"), Some(&b"7"[..]));
        assert_eq!(of(3, "trig:123:logs:7~GET a:b:c"), None);
        assert_eq!((of(0, "trig"), of(usize::MAX, "trig:1")), (None, None));
    }

    proptest! {
        /// Whatever a tenant or user is called, and whatever else the key says.
        #[test]
        fn two_keys_count_to_one_partition_if_they_name_the_same_one_and_no_partition_has_the_name_of_another(
            who in prop::collection::vec("[a~:u0-9 %{]{0,4}|\\PC{0,3}", 2..6),
            rest in prop::collection::vec("\\PC{0,6}", 6),
        ) {
            let mut names: HashMap<Vec<u8>, (bool, &str)> = HashMap::new();
            for (who, rest) in who.iter().zip(&rest) {
                let by_segment = Key::of(("page", who.as_str(), rest.as_str()));
                let mut writer = KeyWriter::new();
                writer.segment("page");
                writer.segment(rest);
                writer.begin_variant_of(who);
                writer.push_variant(rest.as_bytes());
                let by_user = writer.to_key();
                prop_assert_eq!(Whose::User.partition(by_user.as_bytes()), Some(who.as_bytes()));
                prop_assert_eq!(Whose::User.partition(by_segment.as_bytes()), None);
                for (whose, key) in [(Whose::Segment(0), by_segment), (Whose::User, by_user)] {
                    let partition = whose.partition(key.as_bytes()).unwrap_or_default();
                    let is_user = whose == Whose::User;
                    let first = *names.entry(whose.name(b"page", partition)).or_insert((is_user, who));
                    prop_assert_eq!(first, (is_user, who.as_str()));
                }
            }
        }

        #[test]
        fn any_bytes_are_a_key_without_a_panic(key in prop::collection::vec(any::<u8>(), 0..40), n in 0_usize..4) {
            let start = [b"a~u", &key[..]].concat();
            for key in [&key, &start] {
                let found = [Whose::Segment(n).partition(key), Whose::User.partition(key)];
                prop_assert!(found.iter().flatten().all(|who| who.len() < key.len()));
            }
        }
    }
}
