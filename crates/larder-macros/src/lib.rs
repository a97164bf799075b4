//! The attribute `#[cached]` of Larder. Depend on `larder` and write `larder::cached`.

mod arguments;
mod duration;
mod expand;
mod key;
mod options;
mod receiver;
mod template;

use proc_macro::TokenStream;

/// Caches what an async function returns.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, function: TokenStream) -> TokenStream {
    let original = proc_macro2::TokenStream::from(function.clone());
    let expanded = syn::parse(options).and_then(|options| expand::expand(&options, syn::parse(function)?));
    match expanded {
        Ok(function) => function.into(),
        Err(error) => {
            // The function as it is, so that nothing else is wrong: neither its callers, nor what only the cache uses.
            let error = error.into_compile_error();
            quote::quote!(#error #[allow(unused_variables, reason = "it is wrong already")] #original).into()
        }
    }
}
