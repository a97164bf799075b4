//! The key of a call, as code.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ItemFn, Lit};

use crate::arguments::{Arguments, Binding, Names, parameters, types};
use crate::options::Options;
use crate::template::{self, Piece};

/// How many values a tuple may have that is a key.
const WIDEST: usize = 6;

/// An expression that is the key. `cache`: where the cache is.
pub(crate) fn key(
    options: &Options,
    function: &ItemFn,
    arguments: &Arguments,
    used: &Names,
    cache: &Expr,
) -> syn::Result<TokenStream> {
    for name in &options.skip {
        if arguments.find(&name.unraw().to_string()).is_none() {
            let message = format!("there is no argument `{name}` to skip: there are {}", arguments.listed());
            return Err(syn::Error::new(name.span(), message));
        }
    }
    let holder = template::root(cache);
    let counts = |binding: &&Binding| {
        let name = binding.name.unraw();
        !options.skip.contains(&binding.name) && holder.as_ref().is_none_or(|holder| name != holder)
    };
    let part = |value: &dyn ToTokens, span: Span| {
        let root = options.root(span);
        quote_spanned!(span=> #root::macros::part(&(#value)))
    };
    let (key, named) = match &options.key {
        None => {
            let parts: syn::Result<Vec<_>> = arguments
                .bindings
                .iter()
                .filter(counts)
                .filter(|binding| !binding.name.unraw().to_string().starts_with('_'))
                .map(|binding| match binding.is_plain {
                    true => Ok(part(&binding.name, binding.name.span())),
                    false => Err(no_key(binding)),
                })
                .collect();
            (tuple(parts?), types(&function.sig.inputs))
        }
        Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => {
            let (mut parts, mut named) = (Vec::new(), TokenStream::new());
            for segment in template::segments(text, arguments)? {
                match segment {
                    Piece::Text(segment) => parts.push(quote!(#segment)),
                    Piece::Value(value) => {
                        parts.push(part(&value, text.span()));
                        named.extend(value.to_token_stream());
                    }
                }
            }
            (tuple(parts), named)
        }
        // By reference, each for itself: a key takes nothing away from the body.
        Some(Expr::Tuple(values)) => (
            tuple(values.elems.iter().map(|value| part(value, value.span())).collect()),
            values.to_token_stream(),
        ),
        Some(value) => (part(value, value.span()), value.to_token_stream()),
    };
    if options.key.is_some() {
        complete(arguments.bindings.iter().filter(counts), used, &Names::of(named.clone()))?;
    }
    distinct(function, named)?;
    Ok(key)
}

/// What the body uses and the key leaves out.
fn complete<'a>(counting: impl Iterator<Item = &'a Binding>, used: &Names, key: &Names) -> syn::Result<()> {
    for binding in counting.filter(|binding| binding.is_plain) {
        let name = binding.name.unraw().to_string();
        if used.has(&name) && !key.has(&name) {
            let message = format!(
                "`{name}` is not in the key: calls that differ in it would share one answer; \
                 put `{{{name}}}` into the key, or write `skip({name})` if it changes nothing"
            );
            return Err(syn::Error::new(binding.name.span(), message));
        }
    }
    Ok(())
}

/// Is every type parameter known by an argument, or in the key?
fn distinct(function: &ItemFn, mut named: TokenStream) -> syn::Result<()> {
    named.extend(types(&function.sig.inputs));
    let named = Names::of(named);
    for parameter in parameters(&function.sig) {
        if !named.has(&parameter.unraw().to_string()) {
            let message = format!(
                "`{parameter}` is in no argument: calls that differ in it would share one answer; \
                 put something that tells them apart into the key, as in `key = ({parameter}::NAME, id)`"
            );
            return Err(syn::Error::new(parameter.span(), message));
        }
    }
    Ok(())
}

fn no_key(binding: &Binding) -> syn::Error {
    let (name, ty) = (&binding.name, binding.ty.to_token_stream().to_string().replace(' ', ""));
    let message = format!(
        "what of `{name}: {ty}` is the key? Write `key = \"{{{name}.id}}\"`, naming all that the answer depends on, \
         or `skip({name})` if it changes nothing"
    );
    syn::Error::new(name.span(), message)
}

/// One key of several parts; tuples of tuples where there are many.
fn tuple(mut parts: Vec<TokenStream>) -> TokenStream {
    match &parts[..] {
        [one] => return one.clone(),
        parts if parts.len() <= WIDEST => return quote!((#(#parts),*)),
        _ => {}
    }
    let rest = tuple(parts.split_off(WIDEST - 1));
    quote!((#(#parts,)* #rest))
}
