//! Keys and tags as text with `{..}` in it.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Expr, LitStr};

use crate::arguments::Arguments;

/// A piece of a template.
pub(crate) enum Piece {
    Text(String),
    Value(Box<Expr>),
}

/// The pieces of `template`, in order; what stands in braces is code.
fn pieces(template: &LitStr, text: &str) -> syn::Result<Vec<Piece>> {
    let wrong = |message: &str| Err(syn::Error::new(template.span(), message));
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return wrong("a `}` without its `{`");
        }
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        let Some(close) = rest[open..].find('}') else { return wrong("a `{` without its `}`") };
        let inside = &rest[open + 1..open + close];
        let Ok(value) = LitStr::new(inside, template.span()).parse::<Expr>() else {
            return wrong(&format!(
                "`{{{inside}}}` is no value: write the name of an argument, or a field of one, as in `{{user.id}}`"
            ));
        };
        pieces.push(Piece::Value(Box::new(value)));
        rest = &rest[open + close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// The segments of a key: each is text, or a value.
pub(crate) fn segments(template: &LitStr, arguments: &Arguments) -> syn::Result<Vec<Piece>> {
    let text = template.value();
    let mut segments = Vec::new();
    for segment in split(&text) {
        let mut found = pieces(template, segment)?;
        let (Some(piece), None) = (found.pop(), found.pop()) else {
            let message = if segment.is_empty() {
                "a key is segments with `:` between them, none of them empty: write `{id}` or `{id}:logs`"
                    .to_owned()
            } else {
                format!(
                    "`{segment}` is text and values in one segment: put a `:` between them, as in `v:{{version}}`"
                )
            };
            return Err(syn::Error::new(template.span(), message));
        };
        segments.push(piece);
    }
    check(&segments, arguments, template)?;
    Ok(segments)
}

/// The pieces of a tag.
pub(crate) fn tag(template: &LitStr, arguments: &Arguments) -> syn::Result<Vec<Piece>> {
    let pieces = pieces(template, &template.value())?;
    check(&pieces, arguments, template)?;
    Ok(pieces)
}

/// At every `:` that is not inside braces.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Values begin with an argument, or with something that is in scope everywhere: a path, a constant.
fn check(pieces: &[Piece], arguments: &Arguments, template: &LitStr) -> syn::Result<()> {
    for piece in pieces {
        let Piece::Value(value) = piece else { continue };
        let Some(root) = root(value) else { continue };
        let is_known = match root.as_str() {
            "self" => arguments.receiver.is_some(),
            name => arguments.find(name).is_some() || name.starts_with(char::is_uppercase),
        };
        if !is_known {
            let message = format!(
                "`{}` names no argument `{root}`: there are {}",
                value.to_token_stream(),
                arguments.listed()
            );
            return Err(syn::Error::new(template.span(), message));
        }
    }
    Ok(())
}

/// The name that a value begins with; `None` if it does not begin with one.
pub(crate) fn root(value: &Expr) -> Option<String> {
    match value {
        Expr::Path(path) => path.path.get_ident().map(|name| name.unraw().to_string()),
        Expr::Field(field) => root(&field.base),
        Expr::MethodCall(call) => root(&call.receiver),
        Expr::Index(index) => root(&index.expr),
        Expr::Reference(reference) => root(&reference.expr),
        Expr::Unary(unary) => root(&unary.expr),
        Expr::Paren(paren) => root(&paren.expr),
        _ => None,
    }
}
