//! Which slot a key is in, and whose that slot is. Pure.

use redis::Value;

use crate::endpoint::Endpoint;
use crate::reply::{items, number, text};

/// Slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;
/// Primaries that are taken note of. A cluster has at most 1000 nodes by its own recommendation.
const PRIMARIES: usize = 4096;
/// Marks a slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// CRC16 as clusters use it: polynomial 0x1021, nothing reflected, nothing inverted ("XMODEM").
const fn crc_table() -> [u16; 256] {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

static CRC: [u16; 256] = crc_table();

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| crc << 8 ^ CRC[usize::from(crc >> 8 ^ u16::from(byte))])
}

/// The slot of a key: that of what stands between its first `{` and the next `}`, if anything does, else of all of it.
pub(crate) fn slot_of(name: &[u8]) -> u16 {
    let tag = name.iter().position(|&b| b == b'{').and_then(|open| {
        let behind = &name[open + 1..];
        let end = behind.iter().position(|&b| b == b'}')?;
        (end > 0).then(|| &behind[..end])
    });
    crc16(tag.unwrap_or(name)) % SLOTS
}

/// The least number that is in a slot by itself. There is one for every slot, below 110 000.
pub(crate) fn number_in(slot: u16) -> u32 {
    (0..).find(|number: &u32| slot_of(number.to_string().as_bytes()) == slot).unwrap_or_default()
}

/// Who serves which slot.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// In order, without duplicates.
    primaries: Vec<Endpoint>,
    owners: Vec<u16>,
}

impl SlotMap {
    /// The answer of CLUSTER SLOTS. A node that does not know its own address means the one it was `asked` at.
    pub(crate) fn parse(answer: &Value, asked: &Endpoint) -> Option<SlotMap> {
        let mut ranges = Vec::new();
        for range in items(answer)? {
            let [from, to, primary, ..] = items(range)? else { return None };
            let (from, to) = (u16::try_from(number(from)?).ok()?, u16::try_from(number(to)?).ok()?);
            if from > to || to >= SLOTS {
                return None;
            }
            let [host, port, ..] = items(primary)? else { return None };
            let port = u16::try_from(number(port)?).ok().filter(|&port| port != 0)?;
            ranges.push((from, to, endpoint(text(host).unwrap_or_default(), port, asked)));
        }
        let mut primaries: Vec<Endpoint> = ranges.iter().map(|(_, _, primary)| primary.clone()).collect();
        primaries.sort();
        primaries.dedup();
        if primaries.len() > PRIMARIES {
            return None;
        }
        let mut owners = vec![NOBODY; usize::from(SLOTS)];
        for (from, to, primary) in ranges {
            let owner = u16::try_from(primaries.binary_search(&primary).ok()?).ok()?;
            owners[usize::from(from)..=usize::from(to)].fill(owner);
        }
        Some(SlotMap { primaries, owners })
    }

    pub(crate) fn primaries(&self) -> &[Endpoint] {
        &self.primaries
    }

    /// Who serves a slot, as a place in the list of primaries.
    pub(crate) fn owner_index(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).filter(|&&owner| owner != NOBODY).map(|&owner| owner.into())
    }

    /// Who serves a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        self.primaries.get(self.owner_index(slot)?)
    }
}

impl std::fmt::Debug for SlotMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SlotMap").field(&self.primaries).finish()
    }
}

/// A node's address as nodes tell it: without a host, it is the host of the one that tells.
pub(crate) fn endpoint(host: &str, port: u16, teller: &Endpoint) -> Endpoint {
    let own = match teller {
        Endpoint::Tcp { host, .. } => host.as_str(),
        Endpoint::Unix { .. } => "",
    };
    let host = if host.is_empty() || host == "?" { own } else { host };
    Endpoint::Tcp { host: host.to_owned(), port }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    fn range(from: i64, to: i64, host: &str, port: i64) -> Value {
        let node = Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::Nil]);
        Value::Array(vec![Value::Int(from), Value::Int(to), node.clone(), node])
    }

    /// The vectors of the cluster's specification, and what `CLUSTER KEYSLOT` of a real node answers.
    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (name, slot) in [
            ("foo", 12182),
            ("bar", 5061),
            ("", 0),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("{larder}:log", 9674),
            ("larder", 9674),
        ] {
            assert_eq!(slot_of(name.as_bytes()), slot, "{name}");
        }
    }

    #[test]
    fn in_every_slot_there_is_a_number() {
        let mut left: std::collections::BTreeSet<u16> = (0..SLOTS).collect();
        for number in 0..110_000_u32 {
            left.remove(&slot_of(number.to_string().as_bytes()));
        }
        assert!(left.is_empty(), "{left:?}");
        for number in [0, 7, 1234] {
            assert_eq!(number_in(slot_of(number.to_string().as_bytes())), number);
        }
    }

    #[test]
    fn a_map_tells_the_owner_of_each_slot_and_nobody_where_there_is_none() {
        let answer = Value::Array(vec![range(0, 5, "b", 2), range(7, 7, "", 3), range(9, 16383, "b", 2)]);
        let map = SlotMap::parse(&answer, &at("a", 1)).unwrap();
        assert_eq!(map.primaries(), [at("a", 3), at("b", 2)]);
        assert_eq!((map.owner(0), map.owner(5), map.owner(6)), (Some(&at("b", 2)), Some(&at("b", 2)), None));
        assert_eq!((map.owner(7), map.owner(8)), (Some(&at("a", 3)), None));
        assert_eq!((map.owner_index(16383), map.owner(16384)), (Some(1), None));
    }

    #[test]
    fn a_range_that_cannot_be_makes_no_map() {
        for bad in [range(5, 4, "a", 1), range(0, 16384, "a", 1), range(-1, 4, "a", 1), range(0, 4, "a", 0)] {
            assert_eq!(SlotMap::parse(&Value::Array(vec![bad]), &at("a", 1)), None);
        }
    }

    proptest! {
        #[test]
        fn any_name_is_in_a_slot_and_a_tag_decides_it(name in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(slot_of(&name) < SLOTS);
            let tagged = [b"{tag}".as_slice(), &name].concat();
            prop_assert_eq!(slot_of(&tagged), slot_of(b"tag"));
        }
    }
}
