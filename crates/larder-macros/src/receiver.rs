//! The body of a method, made to run on a clone of what `&self` was.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use syn::visit_mut::{VisitMut, visit_block_mut, visit_expr_path_mut, visit_macro_mut};
use syn::{Block, ExprPath, Item, Macro};

/// What `self` is called in a load: `self` cannot be bound anew.
const NAME: &str = "__larder_self";

/// `self`, where a load means it.
pub(crate) fn name(of: &impl syn::spanned::Spanned) -> Ident {
    Ident::new(NAME, of.span())
}

/// Renames `self` in `body`.
///
/// # Errors
/// Where it stands in a format string.
pub(crate) fn rename(body: &mut Block) -> syn::Result<()> {
    let mut rename = Rename { error: None };
    visit_block_mut(&mut rename, body);
    rename.error.map_or(Ok(()), Err)
}

struct Rename {
    error: Option<syn::Error>,
}

impl VisitMut for Rename {
    fn visit_expr_path_mut(&mut self, path: &mut ExprPath) {
        if path.qself.is_none()
            && let Some(first) = path.path.segments.first_mut()
            && first.ident == "self"
            && path.path.segments.len() == 1
        {
            let first = &mut path.path.segments[0];
            first.ident = Ident::new(NAME, first.ident.span());
        }
        visit_expr_path_mut(self, path);
    }

    /// An item has a `self` of its own.
    fn visit_item_mut(&mut self, _: &mut Item) {}

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        call.tokens = self.tokens(std::mem::take(&mut call.tokens));
        visit_macro_mut(self, call);
    }
}

impl Rename {
    fn tokens(&mut self, tokens: TokenStream) -> TokenStream {
        let mut renamed = Vec::new();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            renamed.push(match token {
                // `self::path` is a module.
                TokenTree::Ident(name)
                    if name == "self"
                        && !matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':') =>
                {
                    TokenTree::Ident(Ident::new(NAME, name.span()))
                }
                TokenTree::Group(group) => {
                    let mut inside = Group::new(group.delimiter(), self.tokens(group.stream()));
                    inside.set_span(group.span());
                    TokenTree::Group(inside)
                }
                TokenTree::Literal(text) if names_self(&text.to_string()) => {
                    let message = "write `{}` here, and pass `self`: the body runs on a clone of it";
                    self.error.get_or_insert_with(|| syn::Error::new(text.span(), message));
                    TokenTree::Literal(text)
                }
                token => token,
            });
        }
        renamed.into_iter().collect()
    }
}

/// Is this a format string that prints `self`?
fn names_self(text: &str) -> bool {
    text.starts_with(['"', 'r']) && (text.contains("{self}") || text.contains("{self:"))
}
