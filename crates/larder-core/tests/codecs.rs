//! What comes back from each codec, after a change of the type, and from bytes that somebody made up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use bytes::Bytes;
use larder_core::{Codec, Json, MsgPack, Postcard};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Named(String),
    Pair(i64, Option<u32>),
    Full { of: Vec<Kind>, by: BTreeMap<String, f64> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Thing {
    id: u64,
    low: i128,
    mark: char,
    kinds: Vec<Kind>,
    nothing: (),
    pair: (bool, [u8; 3]),
    note: Option<String>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Plain),
        ".*".prop_map(Kind::Named),
        (any::<i64>(), any::<Option<u32>>()).prop_map(|(a, b)| Kind::Pair(a, b)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        // JSON prints fractions exactly and has no others.
        let by = prop::collection::btree_map(".*", (-1000..1000_i32).prop_map(|n| f64::from(n) / 8.0), 0..4);
        (prop::collection::vec(inner, 0..4), by).prop_map(|(of, by)| Kind::Full { of, by })
    })
}

fn thing() -> impl Strategy<Value = Thing> {
    let parts = (any::<u64>(), any::<i64>(), any::<char>(), prop::collection::vec(kind(), 0..4));
    (parts, any::<(bool, [u8; 3])>(), any::<Option<String>>()).prop_map(
        |((id, low, mark, kinds), pair, note)| Thing {
            id,
            low: i128::from(low),
            mark,
            kinds,
            nothing: (),
            pair,
            note,
        },
    )
}

fn bytes<V>(codec: &impl Codec<V>, value: &V) -> Bytes {
    let mut out = b"before".to_vec();
    codec.encode(value, &mut out).unwrap();
    assert!(out.starts_with(b"before"), "a codec appends");
    Bytes::from(out).slice(6..)
}

/// What a release with the type `New` reads of what one with the type `Old` wrote; `None`: a miss.
fn after<Old, New>(codec: &(impl Codec<Old> + Codec<New>), old: &Old) -> Option<New> {
    codec.decode(&bytes::<Old>(codec, old)).ok()
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(thing in thing()) {
        prop_assert!(after::<Thing, Thing>(&Json, &thing).is_some_and(|read| read == thing));
        prop_assert!(after::<Thing, Thing>(&MsgPack, &thing).is_some_and(|read| read == thing));
        prop_assert!(after::<Thing, Thing>(&Postcard, &thing).is_some_and(|read| read == thing));
    }

    #[test]
    fn bytes_that_are_cut_or_longer_are_no_value(thing in thing(), cut: prop::sample::Index) {
        for codec in [&MsgPack as &dyn Codec<Thing>, &Postcard] {
            let mut out = Vec::new();
            codec.encode(&thing, &mut out).unwrap();
            prop_assert!(codec.decode(&Bytes::copy_from_slice(&out[..cut.index(out.len())])).is_err());
            out.push(0);
            prop_assert!(codec.decode(&out.into()).is_err());
        }
    }

    #[test]
    fn any_bytes_at_all_end_without_a_panic(
        made_up in prop::collection::vec(any::<u8>(), 0..300), thing in thing(), at: prop::sample::Index, byte: u8,
    ) {
        for codec in [&MsgPack as &dyn Codec<Thing>, &Postcard] {
            // Most are errors; what is none must at least be a value that can be written.
            if let Ok(thing) = codec.decode(&Bytes::copy_from_slice(&made_up)) {
                prop_assert!(codec.encode(&thing, &mut Vec::new()).is_ok());
            }
            let mut out = Vec::new();
            codec.encode(&thing, &mut out).unwrap();
            let at = at.index(out.len());
            out[at] = byte;
            if let Ok(thing) = codec.decode(&out.into()) {
                prop_assert!(codec.encode(&thing, &mut Vec::new()).is_ok());
            }
        }
    }
}

/// A type as a deploy leaves it: each module is a release.
mod releases {
    pub(crate) mod one {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(crate) struct Trig {
            pub(crate) id: u32,
            pub(crate) height: u32,
            pub(crate) name: String,
        }
    }

    /// A field with a default came, another went.
    pub(crate) mod fields {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(crate) struct Trig {
            pub(crate) id: u32,
            pub(crate) name: String,
            #[serde(default)]
            pub(crate) county: Option<String>,
        }
    }

    /// Two fields of one type changed places.
    pub(crate) mod places {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(crate) struct Trig {
            pub(crate) height: u32,
            pub(crate) id: u32,
            pub(crate) name: String,
        }
    }

    /// A number got a sign: in Postcard the same byte is another number.
    pub(crate) mod sign {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(crate) struct Trig {
            pub(crate) id: u32,
            pub(crate) height: i32,
            pub(crate) name: String,
        }
    }

    /// Text became bytes.
    pub(crate) mod kind {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(crate) struct Trig {
            pub(crate) id: u32,
            pub(crate) height: u32,
            pub(crate) name: Vec<u8>,
        }
    }
}

/// A deploy changes a type, and reads explode or serve the old shape. Here: what the names still say is read, everything else
/// is a miss.
#[test]
fn a_type_that_a_deploy_has_changed_is_read_right_or_not_at_all() {
    use releases::{fields, kind, one, places, sign};
    let old = one::Trig { id: 1, height: 2, name: "ab".into() };
    let added = fields::Trig { id: 1, name: "ab".into(), county: None };
    assert_eq!(after::<one::Trig, fields::Trig>(&Json, &old), Some(added));
    let added = after::<one::Trig, fields::Trig>(&MsgPack, &old);
    assert_eq!(added, Some(fields::Trig { id: 1, name: "ab".into(), county: None }));
    let moved = places::Trig { id: 1, height: 2, name: "ab".into() };
    assert_eq!(after::<one::Trig, places::Trig>(&MsgPack, &old), Some(moved));
    assert_eq!(after::<one::Trig, kind::Trig>(&Json, &old), None);
    assert_eq!(after::<one::Trig, sign::Trig>(&MsgPack, &old).unwrap().height, 2);

    assert_eq!(after::<one::Trig, fields::Trig>(&Postcard, &old), None);
    assert_eq!(after::<one::Trig, places::Trig>(&Postcard, &old), None);
    assert_eq!(after::<one::Trig, sign::Trig>(&Postcard, &old), None);
    assert_eq!(after::<one::Trig, kind::Trig>(&Postcard, &old), None);
    assert_eq!(after::<one::Trig, one::Trig>(&Postcard, &old), Some(old));
    // Without the fingerprint these would be read as something else, which is why it is there.
    let bare = postcard::to_allocvec(&one::Trig { id: 1, height: 2, name: "ab".into() }).unwrap();
    assert_eq!(postcard::from_bytes::<places::Trig>(&bare).unwrap().height, 1);
    assert_eq!(postcard::from_bytes::<sign::Trig>(&bare).unwrap().height, 1);
}

#[test]
fn a_variant_that_came_or_moved_is_a_miss_in_postcard_even_where_its_number_fits() {
    mod now {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(super) enum State {
            Open,
            Shut,
        }
    }
    mod then {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        pub(super) enum State {
            Draft,
            Open,
            Shut,
        }
    }
    assert_eq!(after::<now::State, then::State>(&Postcard, &now::State::Open), None);
    assert_eq!(after::<now::State, then::State>(&MsgPack, &now::State::Open), Some(then::State::Open));
    assert_eq!(after::<then::State, now::State>(&MsgPack, &then::State::Draft), None);
}

#[test]
fn what_postcard_could_not_read_back_is_refused_when_it_is_stored() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(u32),
    }
    #[derive(Serialize, Deserialize)]
    struct Left {
        #[serde(skip_serializing_if = "Option::is_none")]
        out: Option<u32>,
    }
    fn refused<V: Serialize + DeserializeOwned>(value: &V) -> String {
        Postcard.encode(value, &mut Vec::new()).unwrap_err().to_string()
    }
    assert_eq!(refused(&Any::Number(1)), "the value cannot be read back from Postcard");
    assert_eq!(refused(&Left { out: None }), "the value cannot be read back from Postcard");
}

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
    Many(Vec<Tree>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

fn refuses<V: Debug>(codec: &impl Codec<V>, bytes: impl Into<Bytes>) {
    let refused = codec.decode(&bytes.into());
    assert!(refused.is_err(), "{refused:?}");
}

/// The fingerprint and these bytes.
fn postcard_of(bytes: &[u8]) -> Vec<u8> {
    [&[0; 8], bytes].concat()
}

/// Two bytes a level, or none: a few kilobytes from Redis must not run the stack over, which ends the process.
#[test]
fn nesting_has_an_end() {
    refuses::<Tree>(&MsgPack, [0x81, 1].repeat(100_000));
    refuses::<Tree>(&MsgPack, [0x81, 2, 0x91].repeat(100_000));
    refuses::<Chain>(&MsgPack, vec![1]);
    refuses::<Tree>(&Postcard, postcard_of(&[1].repeat(100_000)));
    refuses::<Tree>(&Postcard, postcard_of(&[2, 1].repeat(100_000)));
    refuses::<Chain>(&Postcard, postcard_of(&[1].repeat(100_000)));

    let deep = (0..100).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(tree)));
    assert!(after::<Tree, Tree>(&MsgPack, &deep).is_some());
    assert!(after::<Tree, Tree>(&Postcard, &deep).is_some());
}

#[derive(Debug, Serialize, Deserialize)]
struct Weightless {
    #[serde(skip)]
    _kept: [u64; 32],
}

/// A length that is claimed is not believed: neither is room made for it, nor is there work without bytes.
#[test]
fn a_claimed_length_takes_neither_memory_nor_time() {
    // 2^64 - 1, and 2^32 - 1.
    let endless = postcard_of(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    let array = [0xdd, 255, 255, 255, 255];
    refuses::<Vec<Weightless>>(&Postcard, endless.clone());
    refuses::<Vec<()>>(&Postcard, endless.clone());
    refuses::<Vec<u64>>(&Postcard, endless.clone());
    refuses::<BTreeMap<(), ()>>(&Postcard, endless.clone());
    refuses::<String>(&Postcard, endless);
    refuses::<Vec<()>>(&MsgPack, array.to_vec());
    refuses::<Vec<u64>>(&MsgPack, array.to_vec());
    refuses::<BTreeMap<u8, u8>>(&MsgPack, vec![0xdf, 255, 255, 255, 255]);
    refuses::<String>(&MsgPack, vec![0xdb, 255, 255, 255, 255, b'a']);
    // Room for so many at once, even where all of them are there.
    refuses::<Hinted>(&MsgPack, array.to_vec());
    assert_eq!(HINT.take(), Some(1024));
    refuses::<Hinted>(&Postcard, postcard_of(&[&[0xb8, 0x17][..], &[1; 3000]].concat()));
    assert_eq!(HINT.take(), Some(1024));
}

thread_local! {
    /// How many elements the last [`Hinted`] was told to expect.
    static HINT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A list that only remembers what it was told to make room for.
#[derive(Debug, Serialize)]
struct Hinted;

impl<'de> Deserialize<'de> for Hinted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Hinted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hinted, A::Error> {
                HINT.set(list.size_hint());
                while list.next_element::<u64>()?.is_some() {}
                Ok(Hinted)
            }
        }
        from.deserialize_seq(Look)
    }
}
