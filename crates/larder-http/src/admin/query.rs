//! Query strings: names, and values as they were meant.

use percent_encoding::percent_decode_str;

/// The parameters of a query, in order. An unknown one is a mistake: whoever asks must say so.
///
/// # Errors
/// A value that is no UTF-8.
pub(super) fn parameters(query: &str) -> Result<Vec<(&str, String)>, String> {
    let pairs = query.split('&').filter(|_| !query.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8();
            Ok((name, value.map_err(|_| format!("{name} is no UTF-8"))?.into_owned()))
        })
        .collect()
}

/// For what takes none: an unknown one is a mistake.
///
/// # Errors
/// There is one.
pub(super) fn none(route: &str, query: Option<&str>) -> Result<(), String> {
    match query {
        None | Some("") => Ok(()),
        Some(query) => {
            let name = query.split(['=', '&']).next().unwrap_or_default();
            Err(format!("Unknown parameter {name}: {route} takes none."))
        }
    }
}

/// Sets what may be said once.
pub(super) fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice.")),
    }
}
