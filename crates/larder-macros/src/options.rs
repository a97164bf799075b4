//! What stands in the brackets of the attribute.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Path, Token, bracketed, parenthesized};

use crate::duration;

/// Options that are durations, with the policy's names for them.
const DURATIONS: [(&str, &str); 9] = [
    ("ttl", "with_ttl"),
    ("stale", "stale_while_revalidate"),
    ("stale_if_error", "stale_if_error"),
    ("negative_ttl", "negative_ttl"),
    ("retry_after", "retry_after"),
    ("soft_timeout", "soft_timeout"),
    ("load_timeout", "load_timeout"),
    ("memory_ttl", "memory_ttl"),
    ("replica_lag", "replica_lag"),
];
/// Those where zero means never; the others are at least a millisecond.
const MAY_BE_ZERO: [&str; 4] = ["stale", "stale_if_error", "retry_after", "replica_lag"];
/// Options of the policy that take an expression.
const VALUES: [&str; 7] =
    ["jitter", "early_refresh", "max_loads", "load_queue", "min_stored_size", "max_stored_size", "compress"];
/// Options of the policy that stand alone.
const FLAGS: [&str; 3] = ["memory_only", "remote_only", "without_lease"];
/// All others.
const OTHERS: [&str; 12] = [
    "cache",
    "namespace",
    "sub",
    "key",
    "skip",
    "tags",
    "policy",
    "ttl_with",
    "tags_with",
    "codec",
    "error",
    "wrap",
];

/// What the attribute says.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) root: Option<Path>,
    pub(crate) cache: Option<Expr>,
    pub(crate) namespace: Option<LitStr>,
    pub(crate) sub: Option<LitStr>,
    pub(crate) key: Option<Expr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) tags: Vec<LitStr>,
    pub(crate) policy: Option<Expr>,
    pub(crate) ttl_with: Option<Expr>,
    pub(crate) tags_with: Option<Expr>,
    pub(crate) codec: Option<Expr>,
    pub(crate) error: Option<Expr>,
    pub(crate) wrap: Option<Path>,
    /// Calls of the policy's setters.
    pub(crate) setters: Vec<TokenStream>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Options::default();
        let mut seen: Vec<Ident> = Vec::new();
        let mut first_setter = None;
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            if seen.contains(&name) {
                return Err(syn::Error::new(name.span(), format!("`{name}` is there twice")));
            }
            let setters = options.setters.len();
            options.option(&name, input)?;
            if options.setters.len() > setters {
                first_setter.get_or_insert(name.clone());
            }
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if let (Some(_), Some(name)) = (&options.policy, first_setter) {
            let message = format!(
                "`policy` is the whole policy: write `policy = policy.{name}(..)`, or leave out `policy`"
            );
            return Err(syn::Error::new(name.span(), message));
        }
        let both = |name: &&Ident| **name == "memory_only" || **name == "remote_only";
        if let [_, second, ..] = &seen.iter().filter(both).collect::<Vec<_>>()[..] {
            return Err(syn::Error::new(
                second.span(),
                "`memory_only` and `remote_only` together leave no tier to store in: write one of them",
            ));
        }
        Ok(options)
    }
}

impl Options {
    fn option(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        let text = name.to_string();
        if FLAGS.contains(&text.as_str()) {
            if input.peek(Token![=]) {
                return Err(syn::Error::new(name.span(), format!("`{name}` stands alone: write `{name}`")));
            }
            self.setters.push(quote!(.#name()));
            return Ok(());
        }
        if text == "skip" {
            let names;
            parenthesized!(names in input);
            self.skip = Punctuated::<Ident, Token![,]>::parse_terminated_with(&names, Ident::parse_any)?
                .into_iter()
                .collect();
            return Ok(());
        }
        let known = |one: &str| one == text;
        if !(known("crate") || all().any(known)) {
            return Err(unknown(name));
        }
        if !input.peek(Token![=]) {
            return Err(syn::Error::new(name.span(), format!("`{name}` needs a value: write `{name} = ..`")));
        }
        input.parse::<Token![=]>()?;
        if let Some((_, setter)) = DURATIONS.iter().find(|(option, _)| *option == text) {
            let setter = Ident::new(setter, name.span());
            let value = duration(&text, input.parse()?)?;
            self.setters.push(quote!(.#setter(#value)));
            return Ok(());
        }
        if VALUES.contains(&text.as_str()) {
            let value: Expr = input.parse()?;
            self.setters.push(quote!(.#name(#value)));
            return Ok(());
        }
        match text.as_str() {
            "crate" => self.root = Some(path(input)?),
            "cache" => self.cache = Some(unquoted(input.parse()?)?),
            "namespace" => self.namespace = Some(segment(input, name)?),
            "sub" => self.sub = Some(segment(input, name)?),
            "key" => self.key = Some(input.parse()?),
            "tags" => {
                let tags;
                bracketed!(tags in input);
                let tags = Punctuated::<LitStr, Token![,]>::parse_terminated(&tags)?;
                self.tags = tags.iter().map(tag).collect::<syn::Result<_>>()?;
            }
            "policy" => self.policy = Some(input.parse()?),
            "ttl_with" => self.ttl_with = Some(input.parse()?),
            "tags_with" => self.tags_with = Some(input.parse()?),
            "codec" => self.codec = Some(input.parse()?),
            "error" => self.error = Some(input.parse()?),
            _ => self.wrap = Some(path(input)?),
        }
        Ok(())
    }

    /// The crate that generated code names; errors in what begins with it are shown at `span`.
    pub(crate) fn root(&self, span: Span) -> TokenStream {
        self.root.as_ref().map_or_else(|| quote_spanned!(span=> ::larder), ToTokens::to_token_stream)
    }
}

/// A tag without the `#` that selectors put before it.
fn tag(tag: &LitStr) -> syn::Result<LitStr> {
    let text = tag.value();
    let name = text.strip_prefix('#').unwrap_or(&text);
    if name.is_empty() {
        return Err(syn::Error::new(tag.span(), "a tag without a name: write \"name\" or \"user:{user}\""));
    }
    Ok(LitStr::new(name, tag.span()))
}

/// A name of a namespace or sub-resource.
fn segment(input: ParseStream<'_>, option: &Ident) -> syn::Result<LitStr> {
    let name: LitStr = input.parse().map_err(|error| {
        syn::Error::new(error.span(), format!("`{option}` is a name in quotes: write `{option} = \"trig\"`"))
    })?;
    check_name(&name.value(), name.span(), option)?;
    Ok(name)
}

/// Can `name` be a segment of keys that people and metrics know?
pub(crate) fn check_name(name: &str, span: Span, option: impl std::fmt::Display) -> syn::Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    let message = format!(
        "{name:?} is no name: write `{option} = \"..\"` with 1 to 64 letters, digits, `_`, `-` or `.`"
    );
    Err(syn::Error::new(span, message))
}

fn path(input: ParseStream<'_>) -> syn::Result<Path> {
    if input.peek(LitStr) {
        return input.parse::<LitStr>()?.parse();
    }
    input.call(Path::parse_mod_style)
}

/// An expression, in quotes or not.
fn unquoted(value: Expr) -> syn::Result<Expr> {
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.parse(),
        _ => Ok(value),
    }
}

/// A duration as tokens: text is read here, anything else is an expression.
fn duration(option: &str, value: Expr) -> syn::Result<TokenStream> {
    let text = match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text,
        Expr::Lit(ExprLit { lit: Lit::Int(_) | Lit::Float(_), .. }) => {
            return Err(syn::Error::new(
                value.span(),
                format!(
                    "a duration without a unit: write `{option} = \"90s\"`, with `ms`, `s`, `m`, `h` or `d`"
                ),
            ));
        }
        _ => return Ok(value.into_token_stream()),
    };
    let duration = duration::parse(&text.value()).map_err(|message| syn::Error::new(text.span(), message))?;
    if duration.is_zero() && !MAY_BE_ZERO.contains(&option) {
        return Err(syn::Error::new(text.span(), format!("`{option}` is at least \"1ms\"")));
    }
    let millis = u64::try_from(duration.as_millis()).expect("at most ten years");
    Ok(quote!(::core::time::Duration::from_millis(#millis)))
}

/// The names of all options.
fn all() -> impl Iterator<Item = &'static str> {
    let durations = DURATIONS.iter().map(|(option, _)| *option);
    OTHERS.into_iter().chain(durations).chain(VALUES).chain(FLAGS)
}

fn unknown(name: &Ident) -> syn::Error {
    let text = name.to_string();
    // The policy has longer names for two of them.
    let meant = match text.as_str() {
        "stale_while_revalidate" | "swr" => Some("stale"),
        "name" => Some("namespace"),
        "map_error" | "map_err" => Some("error"),
        _ => all()
            .map(|option| (distance(&text, option), option))
            .min()
            .filter(|(far, _)| *far <= 3)
            .map(|(_, o)| o),
    };
    let message = match meant {
        Some(option) => format!("there is no option `{name}`: did you mean `{option}`?"),
        None => format!("there is no option `{name}`; there are {}", all().collect::<Vec<_>>().join(", ")),
    };
    syn::Error::new(name.span(), message)
}

/// How many letters must be put in, taken out or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_two_words_is_the_number_of_changes() {
        for (one, other, far) in
            [("ttl", "ttl", 0), ("tll", "ttl", 1), ("", "key", 3), ("tag", "tags", 1), ("ab", "ba", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (far, far), "{one} {other}");
        }
    }
}
