//! From the attribute and the function to code.
//!
//! ```text
//! let miss = match look(cache, key) { Hit(value) => return Ok(value), Miss(miss) => miss };
//! let lent = lend(name);                                  // what is borrowed; all else is moved
//! let load = move || async move { let name = lent.get(); .. the body .. };
//! load(miss, load).await
//! ```

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr, FnArg, ItemFn, Pat, ReturnType, Type, TypeImplTrait, parse_quote};

use crate::arguments::{Arguments, Names, borrows};
use crate::key::key;
use crate::options::{Options, check_name};
use crate::receiver;
use crate::template::{self, Piece};

/// The function, cached.
pub(crate) fn expand(options: &Options, mut function: ItemFn) -> syn::Result<TokenStream> {
    let output = output(&function)?;
    let used = Names::of(function.block.to_token_stream());
    let arguments = Arguments::of(&function.sig, &used)?;
    let cache = cache(options, &function, &arguments)?;
    let here = Span::mixed_site().located_at(output.span());
    let parts = Parts { here, root: options.root(here), output, options, arguments: &arguments };
    let look =
        parts.look(&cache, &key(options, &function, &arguments, &used, &cache)?, &site(options, &function)?);
    let load = parts.load(&mut function.block)?;
    let end = parts.end();
    let body = quote_spanned!(here=> { #look #load #end });
    // What is lent is bound again in the load, and may be changed only there.
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(argument) = input
            && let Pat::Ident(name) = &mut *argument.pat
            && arguments.borrowed.iter().any(|borrowed| borrowed.name.ident == name.ident)
        {
            name.mutability = None;
        }
    }
    let ItemFn { attrs, vis, modifiers, sig, .. } = &function;
    let defaultness = &modifiers.defaultness;
    Ok(quote! {
        #(#attrs)*
        #vis #defaultness #sig
        #body
    })
}

/// What the pieces of the new body have in common.
struct Parts<'a> {
    /// Where generated code stands for the compiler: its names are seen by no other code, its errors are shown at the
    /// return type, each once.
    here: Span,
    root: TokenStream,
    output: Type,
    options: &'a Options,
    arguments: &'a Arguments,
}

impl Parts<'_> {
    /// The return type as what it must be.
    fn returned(&self) -> TokenStream {
        let (root, output) = (&self.root, &self.output);
        quote_spanned!(self.here=> <#output as #root::macros::Returned>)
    }

    /// Ends with a fresh value in memory, else leaves `miss`.
    fn look(&self, cache: &Expr, key: &TokenStream, site: &TokenStream) -> TokenStream {
        let (here, root, returned, wrap) = (self.here, &self.root, self.returned(), &self.options.wrap);
        // What a wrapper wraps is known by its constructor.
        let kept = match wrap {
            None => quote_spanned!(here=> #returned::Value),
            Some(_) => quote_spanned!(here=> _),
        };
        let setters = &self.options.setters;
        let policy = match &self.options.policy {
            Some(policy) => quote_spanned!(here=> |_| #policy),
            None => quote_spanned!(here=> |cache| cache.defaults() #(#setters)*),
        };
        let codec = self.options.codec.iter();
        let cache = quote_spanned!(cache.span()=> &(#cache));
        quote_spanned! {here=>
            let miss = {
                static __LARDER_SITE: #root::macros::Site = #site;
                let cache: &#root::Cache = #cache;
                let adjust = |handle: #root::Namespace<_, _, _>| handle #(.codec(#codec))*;
                match #root::macros::look::<#kept>(cache, &__LARDER_SITE, &#key, #policy, adjust) {
                    #root::macros::Looked::Hit(value) => {
                        let value = ::core::clone::Clone::clone(&*value);
                        return #returned::of(::core::result::Result::Ok(#wrap(value)));
                    }
                    #root::macros::Looked::Miss(miss) => miss,
                }
            };
        }
    }

    /// Leaves `load`, which runs `body`.
    fn load(&self, body: &mut Block) -> syn::Result<TokenStream> {
        let (here, root, output) = (self.here, &self.root, &self.output);
        let (returned, wrap) = (self.returned(), &self.options.wrap);
        let (mut lend, mut take) = (Vec::new(), Vec::new());
        for (n, borrowed) in self.arguments.borrowed.iter().enumerate() {
            let (lent, name) = (Ident::new(&format!("lent_{n}"), here), &borrowed.name.ident);
            let (mutable, at) = (&borrowed.name.mutability, borrowed.ty.span());
            let root = self.options.root(at);
            lend.push(quote_spanned!(at=> let #lent = #root::macros::lend(#name);));
            take.push(quote_spanned!(at=> let #mutable #name = #root::macros::lent(&#lent);));
        }
        if let (Some(receiver), true) = (&self.arguments.receiver, self.arguments.lends_self) {
            receiver::rename(body)?;
            let (this, it) = (receiver.self_token, receiver::name(&receiver.self_token));
            let (lent, at) = (Ident::new("lent_self", here), receiver.span());
            let root = self.options.root(at);
            lend.push(quote_spanned!(at=> let #lent = #root::macros::lend(#this);));
            take.push(quote_spanned!(at=> let #it = #root::macros::lent(&#lent);));
        }
        let (prepared, says) = self.says()?;
        Ok(quote_spanned! {here=>
            #(#lend)*
            #prepared
            let load = move || async move {
                #(#take)*
                let loaded: #output = async move {
                    // Tells the compiler the type of every `return` and `?` below.
                    #[allow(
                        unreachable_code,
                        clippy::diverging_sub_expression,
                        clippy::empty_loop,
                        clippy::let_unit_value,
                        clippy::needless_return,
                        reason = "never runs"
                    )]
                    if false {
                        let loaded: #output = loop {};
                        return loaded;
                    }
                    #body
                }
                .await;
                match #returned::result(loaded) {
                    ::core::result::Result::Ok(#wrap(value)) => {
                        let filled = #root::Filled::new(value);
                        #says
                        ::core::result::Result::Ok(filled)
                    }
                    ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
                }
            };
        })
    }

    /// Tags and ttl: what is made of the arguments before the body has them, and what is said of the value.
    fn says(&self) -> syn::Result<(TokenStream, TokenStream)> {
        let (here, root, options) = (self.here, &self.root, self.options);
        let (mut prepared, mut says) = (TokenStream::new(), TokenStream::new());
        if !options.tags.is_empty() {
            let mut texts = Vec::new();
            for tag in &options.tags {
                let (mut format, mut values) = (String::new(), Vec::new());
                for piece in template::tag(tag, self.arguments)? {
                    match piece {
                        Piece::Text(text) => format.push_str(&text),
                        Piece::Value(value) => {
                            format.push_str("{}");
                            values.push(value);
                        }
                    }
                }
                texts.push(quote_spanned!(tag.span()=> ::std::format!(#format #(, #values)*)));
            }
            prepared.extend(quote_spanned!(here=> let tags = [#(#texts),*];));
            says.extend(quote_spanned!(here=> let filled = filled.tags(tags);));
        }
        if let Some(ask) = &options.tags_with {
            says.extend(quote_spanned! {here=>
                let tags = #root::macros::of_value(#ask, &filled.value);
                let filled = filled.tags(tags);
            });
        }
        if let Some(ask) = &options.ttl_with {
            says.extend(quote_spanned! {here=>
                let ttl: ::core::option::Option<::core::time::Duration> =
                    ::core::convert::Into::into(#root::macros::of_value(#ask, &filled.value));
                let filled = match ttl {
                    ::core::option::Option::Some(ttl) => filled.ttl(ttl),
                    ::core::option::Option::None => filled,
                };
            });
        }
        Ok((prepared, says))
    }

    /// Runs `load` where `miss` says.
    fn end(&self) -> TokenStream {
        let (here, root, returned) = (self.here, &self.root, self.returned());
        let failed = match &self.options.error {
            Some(error) => error.to_token_stream(),
            None => quote_spanned!(here=> <#returned::Error as #root::macros::Failed>::failed),
        };
        let wrap = self.options.wrap.iter();
        quote_spanned! {here=>
            let loaded = #root::macros::load(miss, load, #failed).await;
            #returned::of(loaded #(.map(#wrap))*)
        }
    }
}

/// What an async function returns.
fn output(function: &ItemFn) -> syn::Result<Type> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let message = "only async functions can be cached: write `async fn`; \
                       below `#[async_trait]` put `#[cached]` on a function that the method calls";
        return Err(syn::Error::new(signature.fn_token.span(), message));
    }
    let ReturnType::Type(_, output) = &signature.output else {
        let message = "a cached function returns what is kept: write `-> Result<V, E>`";
        return Err(syn::Error::new(signature.ident.span(), message));
    };
    if borrows(output) {
        let message = "what is kept belongs to the cache: return a type that owns what it holds, as `String` for `&str`";
        return Err(syn::Error::new(output.span(), message));
    }
    let mut named = Named(true);
    named.visit_type(output);
    if !named.0 {
        let message = "what is kept is read back from Redis as this type: write its name, not `impl ..`";
        return Err(syn::Error::new(output.span(), message));
    }
    Ok((**output).clone())
}

/// Is a type free of `impl Trait`?
struct Named(bool);

impl<'ast> Visit<'ast> for Named {
    fn visit_type_impl_trait(&mut self, _: &'ast TypeImplTrait) {
        self.0 = false;
    }
}

/// Where the cache is.
fn cache(options: &Options, function: &ItemFn, arguments: &Arguments) -> syn::Result<Expr> {
    if let Some(cache) = &options.cache {
        return Ok(cache.clone());
    }
    if let Some(argument) = arguments.find("cache") {
        let name = &argument.name;
        return Ok(parse_quote!(#name));
    }
    if let Some(receiver) = &arguments.receiver {
        let this = receiver.self_token;
        return Ok(parse_quote!(#this.cache));
    }
    let message = "where is the cache? Add an argument `cache: &Cache`, or say which expression it is: `cache = app.cache`";
    Err(syn::Error::new(function.sig.ident.span(), message))
}

/// The description of the place, as an expression for a `static`.
fn site(options: &Options, function: &ItemFn) -> syn::Result<TokenStream> {
    let ident = &function.sig.ident;
    let root = options.root(ident.span());
    let name = ident.unraw().to_string();
    let namespace = match &options.namespace {
        Some(namespace) => namespace.to_token_stream(),
        None => {
            check_name(&name, ident.span(), "namespace")?;
            name.to_token_stream()
        }
    };
    let sub = options.sub.as_ref().map_or_else(|| quote!(""), ToTokens::to_token_stream);
    Ok(quote! {
        #root::macros::Site::new(
            ::core::concat!(::core::module_path!(), "::", #name),
            ::core::file!(),
            ::core::line!(),
            #namespace,
            #sub,
        )
    })
}
