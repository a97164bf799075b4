//! Reading what the server answers. Pure; nothing here panics, whatever came.

use std::time::Duration;

use larder_core::{
    Append, Author, Epoch, Head, LeaseAnswer, Lineage, Mode, Opened, Record, RecordBody, RemoteError, Stamp,
    Stored,
};
use redis::Value;

use crate::endpoint::Endpoint;

/// The format of records that this release writes and reads.
const FORMAT: &str = "1";

/// An answer of another shape than the command has.
pub(crate) fn senseless() -> RemoteError {
    RemoteError::refused("an answer that makes no sense")
}

/// The name of a line, a lease or a node: 16 hexadecimal digits.
pub(crate) fn line(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}

fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => decimal(text(other)?),
    }
}

pub(crate) fn items(value: &Value) -> Option<&[Value]> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

/// `line:at`.
fn epoch(text: &str) -> Option<Epoch> {
    let (of, at) = text.split_once(':')?;
    Some(Epoch { line: line(of)?, at: decimal(at)? })
}

/// The answer of `open`.
pub(crate) fn opened(answer: &Value) -> Option<Opened> {
    let [of, last, lineage, since, server_ms, server_known] = items(answer)? else { return None };
    Some(Opened {
        head: position(of, last)?,
        lineage: cuts(text(lineage)?),
        since: number(since)?,
        server_ms: number(server_ms)?,
        server_known: number(server_known)? == 1,
    })
}

fn position(of: &Value, at: &Value) -> Option<Epoch> {
    Some(Epoch { line: line(text(of)?)?, at: number(at)? })
}

/// A cut that cannot be read is left out: what lies before it is unverifiable then, never valid.
fn cuts(lineage: &str) -> Lineage {
    Lineage::new(lineage.split_terminator(',').filter_map(epoch).collect())
}

/// The answer of `append`.
pub(crate) fn appended(answer: &Value) -> Option<Epoch> {
    let [of, at] = items(answer)? else { return None };
    position(of, at)
}

/// `.line .last` of the state. `None`: there is no state, or it is not ours.
pub(crate) fn peek(state: &Value) -> Option<Epoch> {
    let [of, last] = items(state)? else { return None };
    position(of, last)
}

/// `.line .last .since .lineage` of the state, `.since` of the old stamps. `None`: there is no state, or it is not ours; `open`
/// begins a new line in both cases.
pub(crate) fn head(state: &Value, old_since: Option<&Value>) -> Option<Head> {
    let [of, last, since, lineage] = items(state)? else { return None };
    let since = number(since)?;
    Some(Head {
        epoch: position(of, last)?,
        lineage: cuts(text(lineage).unwrap_or_default()),
        since: old_since.and_then(number).unwrap_or(since),
    })
}

/// The answer of XREAD on one stream.
pub(crate) fn records(answer: &Value) -> Option<Vec<Record>> {
    if matches!(answer, Value::Nil) {
        return Some(Vec::new());
    }
    let [stream] = items(answer)? else { return None };
    let [_, entries] = items(stream)? else { return None };
    entries_of(entries)
}

/// The answer of XREVRANGE, or one stream's in that of XREAD.
pub(crate) fn entries_of(entries: &Value) -> Option<Vec<Record>> {
    Some(items(entries)?.iter().map(record).collect())
}

/// What cannot be read has no predecessor anybody stands at, so it is a gap to every reader, and it says "everything".
fn record(entry: &Value) -> Record {
    known_record(entry).unwrap_or(Record {
        epoch: Epoch { line: 0, at: 0 },
        prev: None,
        body: RecordBody::Unknown,
    })
}

fn known_record(entry: &Value) -> Option<Record> {
    let [id, fields] = items(entry)? else { return None };
    let fields = items(fields)?;
    let field =
        |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]);
    let at = decimal(text(id)?.strip_suffix("-0")?)?;
    let epoch_of = Epoch { line: line(text(field("line")?)?)?, at };
    // `:0` at the beginning of all history.
    let prev = epoch(text(field("prev")?)?);
    let body = if field("v").and_then(text) == Some(FORMAT) {
        match field("mode") {
            None => RecordBody::Marker,
            Some(mode) => invalidation(mode, field("op"), fields).unwrap_or(RecordBody::Unknown),
        }
    } else {
        RecordBody::Unknown
    };
    Some(Record { epoch: epoch_of, prev, body })
}

fn invalidation(mode: &Value, op: Option<&Value>, fields: &[Value]) -> Option<RecordBody> {
    let mode = match text(mode)? {
        "h" => Mode::Hard,
        "s" => Mode::Soft,
        _ => return None,
    };
    let op = line(text(op?)?)?;
    let (mut selectors, mut author) = (Vec::new(), Author::default());
    for pair in fields.chunks_exact(2) {
        match text(&pair[0]) {
            Some("sel") => selectors.push(text(&pair[1])?.to_owned()),
            Some("node") => author.node = shown(&pair[1]),
            Some("reason") => author.reason = shown(&pair[1]),
            Some("actor") => author.actor = shown(&pair[1]),
            _ => {}
        }
    }
    if selectors.is_empty() {
        return None;
    }
    Some(RecordBody::Invalidation(Append { mode, selectors, op, author }))
}

/// Text for people, whatever it is.
fn shown(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => text(other).unwrap_or_default().to_owned(),
    }
}

/// The answer of `store`.
pub(crate) fn stored(answer: &Value) -> Option<Stored> {
    match answer {
        Value::Int(0) => Some(Stored::Overtaken),
        Value::Int(1) => Some(Stored::Stored),
        replaced => {
            let [bytes, left] = items(replaced)? else { return None };
            Some(Stored::Replaced { bytes: number(bytes)?, left: Duration::from_millis(number(left)?) })
        }
    }
}

/// The answer of `lease`.
pub(crate) fn leased(answer: Value) -> Option<LeaseAnswer> {
    match answer {
        Value::Int(1) => Some(LeaseAnswer::Granted),
        Value::BulkString(bytes) => Some(LeaseAnswer::Value(bytes.into())),
        held => {
            let [token, of, at, left] = items(&held)? else { return None };
            Some(LeaseAnswer::Held {
                token: line(text(token)?)?,
                epoch: position(of, at)?,
                left: Duration::from_millis(number(left)?),
            })
        }
    }
}

/// The answer of SCAN: where to go on (0: that was all), and the names of this step.
pub(crate) fn names(answer: Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = answer else { return None };
    let [cursor, Value::Array(names)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let bytes = |name| if let Value::BulkString(bytes) = name { Some(bytes) } else { None };
    Some((number(&cursor)?, names.into_iter().map(bytes).collect::<Option<_>>()?))
}

/// The answer of HSCAN: where to go on (`0`: that was all), and the stamps of this step.
pub(crate) fn stamps(answer: &Value) -> Option<(String, Vec<Stamp>)> {
    let [cursor, rows] = items(answer)? else { return None };
    let cursor = text(cursor)?;
    decimal(cursor)?;
    let rows = items(rows)?.chunks_exact(2).filter_map(|row| stamp(text(&row[0])?, &row[1])).collect();
    Some((cursor.to_owned(), rows))
}

/// Control fields begin with a dot. A mode that this release does not know counts as hard.
fn stamp(field: &str, at: &Value) -> Option<Stamp> {
    let mut field = field.chars();
    let mode = match field.next()? {
        '.' => return None,
        's' => Mode::Soft,
        _ => Mode::Hard,
    };
    Some(Stamp { mode, selector: field.as_str().to_owned(), at: number(at)? })
}

/// Host and port, the first two of a list.
pub(crate) fn host_and_port(answer: &Value) -> Option<Endpoint> {
    let [host, port, ..] = items(answer)? else { return None };
    let (host, port) = (text(host)?, u16::try_from(number(port)?).ok()?);
    (!host.is_empty() && port != 0).then(|| Endpoint::Tcp { host: host.to_owned(), port })
}

/// A number in a list of names and values.
pub(crate) fn field(answer: &Value, name: &str) -> Option<u64> {
    let found = items(answer)?.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name));
    number(&found?[1])
}

/// How one node sees its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterInfo {
    pub(crate) is_ok: bool,
    /// Counts the changes of the cluster.
    pub(crate) epoch: u64,
}

/// The answer of CLUSTER INFO.
pub(crate) fn cluster_info(answer: &Value) -> Option<ClusterInfo> {
    let info = text(answer)?;
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let epoch = decimal(line("cluster_current_epoch")?)?;
    Some(ClusterInfo { is_ok: line("cluster_state")? == "ok", epoch })
}

/// The answer of ROLE.
pub(crate) fn role(answer: &Value) -> Option<&str> {
    text(items(answer)?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::BulkString(text.as_ref().to_vec())
    }

    fn array<const N: usize>(items: [&str; N]) -> Value {
        Value::Array(items.iter().map(bulk).collect())
    }

    fn one_record<const N: usize>(id: &str, fields: [&str; N]) -> Record {
        let entry = Value::Array(vec![bulk(id), array(fields)]);
        let stream = Value::Array(vec![bulk("log"), Value::Array(vec![entry])]);
        records(&Value::Array(vec![stream])).unwrap().remove(0)
    }

    const LINE: &str = "00000000000000ff";
    const PREV: &str = "00000000000000ff:41";

    #[test]
    fn a_record_is_read_with_its_predecessor_and_selectors() {
        let op = "000000000000000a";
        let fields = [
            "line", LINE, "prev", PREV, "v", "1", "mode", "s", "op", op, "node", "n1", "reason", "why",
            "actor", "who", "sel", "a:1", "sel", "#t",
        ];
        let author = Author { node: "n1".into(), reason: "why".into(), actor: "who".into() };
        let expected = Record {
            epoch: Epoch { line: 255, at: 42 },
            prev: Some(Epoch { line: 255, at: 41 }),
            body: RecordBody::Invalidation(Append {
                mode: Mode::Soft,
                selectors: vec!["a:1".into(), "#t".into()],
                op: 10,
                author,
            }),
        };
        assert_eq!(one_record("42-0", fields), expected);
    }

    #[test]
    fn without_a_mode_it_is_a_marker_and_without_a_past_it_has_no_predecessor() {
        let record = one_record("42-0", ["line", LINE, "prev", ":0", "v", "1"]);
        assert_eq!((record.prev, record.body), (None, RecordBody::Marker));
    }

    #[test]
    fn another_format_and_anything_malformed_is_unknown_but_never_lost() {
        let op = "000000000000000a";
        for fields in [
            ["line", LINE, "prev", PREV, "v", "2", "mode", "h", "op", op, "sel", "a"],
            ["line", LINE, "prev", PREV, "vv", "1", "mode", "h", "op", op, "sel", "a"],
            ["line", LINE, "prev", PREV, "v", "1", "mode", "x", "op", op, "sel", "a"],
            ["line", LINE, "prev", PREV, "v", "1", "mode", "h", "op", "z", "sel", "a"],
            ["line", LINE, "prev", PREV, "v", "1", "mode", "h", "op", op, "sels", "a"],
            ["line", "x", "prev", PREV, "v", "1", "mode", "h", "op", op, "sel", "a"],
        ] {
            assert_eq!(one_record("42-0", fields).body, RecordBody::Unknown, "{fields:?}");
        }
        assert_eq!(one_record("42-7", ["line", LINE, "prev", PREV, "v", "1"]).body, RecordBody::Unknown);
        let strange = Value::Array(vec![Value::Array(vec![bulk("log"), Value::Array(vec![Value::Nil])])]);
        assert_eq!(records(&strange).unwrap()[0].body, RecordBody::Unknown);
    }

    #[test]
    fn stamps_leave_out_control_fields_and_count_an_unknown_mode_as_hard() {
        let row = ["hk:1", "5", ".line", LINE, "s#t", "6", "xk:2", "7", "hbroken", "no"];
        let answer = Value::Array(vec![bulk("17"), array(row)]);
        let stamp = |mode, selector: &str, at| Stamp { mode, selector: selector.into(), at };
        let expected =
            vec![stamp(Mode::Hard, "k:1", 5), stamp(Mode::Soft, "#t", 6), stamp(Mode::Hard, "k:2", 7)];
        assert_eq!(stamps(&answer), Some(("17".into(), expected)));
    }

    #[test]
    fn the_old_generation_says_how_far_back_the_stamps_reach() {
        let state = array([LINE, "9", "5", &format!("{PREV},")]);
        let lineage = Lineage::new(vec![Epoch { line: 255, at: 41 }]);
        let told = |since| Head { epoch: Epoch { line: 255, at: 9 }, lineage: lineage.clone(), since };
        assert_eq!(head(&state, None), Some(told(5)));
        assert_eq!(head(&state, Some(&bulk("3"))), Some(told(3)));
        assert_eq!(head(&state, Some(&Value::Nil)), Some(told(5)));
        assert_eq!(head(&Value::Array(vec![Value::Nil; 4]), None), None);
        assert_eq!(head(&array(["not a line", "9", "5", ""]), None), None);
        assert_eq!(peek(&array([LINE, "9"])), Some(Epoch { line: 255, at: 9 }));
        assert_eq!(peek(&array([LINE, "-9"])), None);
    }

    #[test]
    fn who_wrote_a_record_is_shown_whatever_bytes_it_is() {
        let word = |text: &str| bulk(text);
        let op = word("000000000000000a");
        let mut fields: Vec<Value> = ["line", LINE, "prev", PREV, "v", "1", "mode", "h"].map(word).into();
        fields.extend([word("op"), op, word("sel"), word("a"), word("node"), bulk([0xff, b'x'])]);
        let answer = Value::Array(vec![Value::Array(vec![word("42-0"), Value::Array(fields)])]);
        let record = entries_of(&answer).unwrap().remove(0);
        let RecordBody::Invalidation(append) = record.body else { panic!("{:?}", record.body) };
        assert_eq!(append.author, Author { node: "\u{fffd}x".into(), ..Author::default() });
    }

    #[test]
    fn a_cut_that_cannot_be_read_is_left_out_of_the_lineage() {
        let lineage = format!("{PREV},junk,{LINE}:7,");
        let opened = opened(&array([LINE, "9", &lineage, "5", "1700000000000", "1"])).unwrap();
        assert_eq!(opened.lineage.cuts(), [Epoch { line: 255, at: 41 }, Epoch { line: 255, at: 7 }]);
        assert_eq!((opened.server_ms, opened.server_known), (1_700_000_000_000, true));
    }

    #[test]
    fn what_a_node_says_of_its_cluster_is_read() {
        let info = bulk("cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:6\r\n");
        assert_eq!(cluster_info(&info), Some(ClusterInfo { is_ok: true, epoch: 6 }));
        let info = bulk("cluster_current_epoch:7\r\ncluster_state:fail\r\n");
        assert_eq!(cluster_info(&info), Some(ClusterInfo { is_ok: false, epoch: 7 }));
        assert_eq!(cluster_info(&bulk("cluster_state:ok\r\n")), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let words = ["line", "prev", "v", "1", "mode", "h", "op", "sel", "1-0", ":0", LINE, PREV, "+1", ""];
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop::sample::select(words.to_vec()).prop_map(bulk),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| prop::collection::vec(inner, 0..8).prop_map(Value::Array))
    }

    fn any_server() -> Endpoint {
        Endpoint::Tcp { host: "a".into(), port: 1 }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(value in any_value(), other in any_value()) {
            let _ = (opened(&value), appended(&value), head(&value, Some(&other)), peek(&value));
            let _ = (records(&value), entries_of(&value), stamps(&value));
            let _ = (host_and_port(&value), field(&value, "v"), role(&value));
            let _ = (stored(&value), leased(value.clone()));
            let _ = (cluster_info(&value), crate::slots::SlotMap::parse(&value, &any_server()), names(value));
        }
    }
}
