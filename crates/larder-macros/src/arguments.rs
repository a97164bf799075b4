//! The function's arguments: what they bind, and what of it the body needs.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{Visit, visit_lifetime, visit_pat_ident, visit_type_reference};
use syn::{
    FnArg, GenericArgument, Ident, Lifetime, Pat, PatIdent, PathArguments, Receiver, ReceiverKind, Signature,
    Token, Type, TypeReference,
};

/// Types that are keys and nothing else: what a call is about, not what it works with.
const PLAIN: [&str; 17] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "bool", "char",
    "str", "String", "Uuid",
];

/// A name that an argument binds.
pub(crate) struct Binding {
    pub(crate) name: Ident,
    /// As it is written; of a pattern the whole.
    pub(crate) ty: Type,
    /// Is it a number, text or another plain key?
    pub(crate) is_plain: bool,
}

/// An argument by reference, which a load has to own.
pub(crate) struct Borrowed {
    pub(crate) name: PatIdent,
    pub(crate) ty: Type,
}

/// What a function is given.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) bindings: Vec<Binding>,
    /// Those by reference that the body uses.
    pub(crate) borrowed: Vec<Borrowed>,
    pub(crate) receiver: Option<Receiver>,
    /// Does the body use `&self`?
    pub(crate) lends_self: bool,
}

impl Arguments {
    pub(crate) fn of(signature: &Signature, used: &Names) -> syn::Result<Self> {
        let mut arguments = Arguments::default();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(receiver) => arguments.receiver(receiver, used)?,
                FnArg::Typed(argument) => arguments.argument(&argument.pat, &argument.ty, used)?,
            }
        }
        Ok(arguments)
    }

    fn receiver(&mut self, receiver: &Receiver, used: &Names) -> syn::Result<()> {
        let by_reference = match &receiver.kind {
            ReceiverKind::Reference(_, _, mutable) => match mutable {
                Some(_) => return Err(exclusive(receiver)),
                None => true,
            },
            ReceiverKind::Typed(_, ty) => match &**ty {
                Type::Reference(TypeReference { mutability: Some(_), .. }) => {
                    return Err(exclusive(receiver));
                }
                ty => matches!(ty, Type::Reference(_)),
            },
            _ => false,
        };
        self.lends_self = by_reference && used.has("self");
        self.receiver = Some(receiver.clone());
        Ok(())
    }

    fn argument(&mut self, pattern: &Pat, ty: &Type, used: &Names) -> syn::Result<()> {
        let start = self.bindings.len();
        bind(pattern, ty, &mut self.bindings);
        let is_used =
            self.bindings[start..].iter().any(|binding| used.has(&binding.name.unraw().to_string()));
        match ty {
            Type::Reference(TypeReference { mutability: Some(_), .. }) => return Err(exclusive(ty)),
            _ if !is_used => {}
            Type::Reference(TypeReference { elem, .. }) if !borrows(elem) => match pattern {
                Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                    self.borrowed.push(Borrowed { name: name.clone(), ty: ty.clone() });
                }
                _ => {
                    let message = "an argument by reference has a name: take the pattern apart in the body";
                    return Err(syn::Error::new(pattern.span(), message));
                }
            },
            _ if borrows(ty) => {
                let message = "this borrows from the caller, whom the load may outlive: \
                               take a type that owns what it holds, or a plain reference `&T`";
                return Err(syn::Error::new(ty.span(), message));
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.name.unraw() == name)
    }

    /// What can be named in a key, for messages.
    pub(crate) fn listed(&self) -> String {
        let receiver = self.receiver.iter().map(|_| "`self`".to_owned());
        let names: Vec<_> =
            receiver.chain(self.bindings.iter().map(|binding| format!("`{}`", binding.name))).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn exclusive(what: &impl ToTokens) -> syn::Error {
    let message = "a call that is answered from the cache changes nothing: take `&T`, or an owned value";
    syn::Error::new_spanned(what, message)
}

/// The names that `pattern` binds, with what can be said of their types.
fn bind(pattern: &Pat, ty: &Type, to: &mut Vec<Binding>) {
    match (pattern, ty) {
        (Pat::Ident(PatIdent { ident, subpat: None, .. }), ty) => {
            to.push(Binding { name: ident.clone(), ty: ty.clone(), is_plain: is_plain(ty) });
        }
        // `Path(id): Path<u64>`, as axum's extractors are written.
        (Pat::TupleStruct(outer), ty) if outer.elems.len() == 1 && only_parameter(ty).is_some() => {
            bind(&outer.elems[0], only_parameter(ty).expect("just seen"), to);
        }
        (Pat::Tuple(patterns), Type::Tuple(types)) if patterns.elems.len() == types.elems.len() => {
            for (pattern, ty) in patterns.elems.iter().zip(&types.elems) {
                bind(pattern, ty, to);
            }
        }
        _ => {
            let mut names = Bound(Vec::new());
            names.visit_pat(pattern);
            to.extend(names.0.into_iter().map(|name| Binding { name, ty: ty.clone(), is_plain: false }));
        }
    }
}

struct Bound(Vec<Ident>);

impl<'ast> Visit<'ast> for Bound {
    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        // A constant or a variant without fields looks the same, and begins with a capital.
        if !pattern.ident.unraw().to_string().starts_with(char::is_uppercase) {
            self.0.push(pattern.ident.clone());
        }
        visit_pat_ident(self, pattern);
    }
}

/// The `T` of `Wrapper<T>`.
fn only_parameter(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) if arguments.args.len() == 1 => Some(ty),
        _ => None,
    }
}

fn is_plain(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_plain(&reference.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            PLAIN.iter().any(|plain| last.ident == plain)
                || last.ident == "Option" && only_parameter(ty).is_some_and(is_plain)
        }),
        _ => false,
    }
}

/// Is there a lifetime in this type that is not `'static`?
pub(crate) fn borrows(ty: &Type) -> bool {
    struct Borrows(bool);
    impl<'ast> Visit<'ast> for Borrows {
        fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
            self.0 |= reference.lifetime.is_none();
            visit_type_reference(self, reference);
        }
        fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
            self.0 |= lifetime.ident != "static";
            visit_lifetime(self, lifetime);
        }
    }
    let mut borrows = Borrows(false);
    borrows.visit_type(ty);
    borrows.0
}

/// Every name that stands in a piece of code, and, for those in format strings, every word in its texts: perhaps more than
/// it uses, never less.
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    pub(crate) fn of(code: TokenStream) -> Self {
        let mut names = Names(BTreeSet::new());
        names.add(code);
        names
    }

    fn add(&mut self, code: TokenStream) {
        for token in code {
            match token {
                TokenTree::Group(group) => self.add(group.stream()),
                TokenTree::Ident(name) => {
                    self.0.insert(name.unraw().to_string());
                }
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
                    self.0.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
                }
                TokenTree::Punct(_) => {}
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// The parameters that name types and constants: two calls that differ in one are two different calls.
pub(crate) fn parameters(signature: &Signature) -> impl Iterator<Item = &Ident> {
    let types = signature.generics.type_params().map(|parameter| &parameter.ident);
    types.chain(signature.generics.const_params().map(|parameter| &parameter.ident))
}

/// The types of all arguments, as code.
pub(crate) fn types(inputs: &Punctuated<FnArg, Token![,]>) -> TokenStream {
    let typed = inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some(argument.ty.to_token_stream()),
        FnArg::Receiver(_) => None,
    });
    typed.collect()
}
