//! What is inside of lists, maps and enums, within bounds.

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::deserializer::Guarded;
use super::visitor::Watched;
use super::{Guard, MAX_HINT};

/// The elements of a list or map.
pub(super) struct Elements<'a, A> {
    pub(super) inner: A,
    pub(super) counted: bool,
    pub(super) guard: &'a mut Guard,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        let next = self.inner.next_element_seed(Guarded { inner, guard: &mut *self.guard })?;
        if self.counted && next.is_some() {
            self.guard.element()?;
        }
        Ok(next)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(MAX_HINT))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        let next = self.inner.next_key_seed(Guarded { inner, guard: &mut *self.guard })?;
        if self.counted && next.is_some() {
            self.guard.element()?;
        }
        Ok(next)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Guarded { inner, guard: &mut *self.guard })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(MAX_HINT))
    }
}

/// An enum, and once its variant is known what that holds.
pub(super) struct Enum<'a, A> {
    pub(super) inner: A,
    pub(super) guard: &'a mut Guard,
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Enum<'a, A> {
    type Error = A::Error;
    type Variant = Enum<'a, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let guard = self.guard;
        let (value, variant) = self.inner.variant_seed(Guarded { inner, guard: &mut *guard })?;
        Ok((value, Enum { inner: variant, guard }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Enum<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.guard.shape.kind(32, 0);
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, A::Error> {
        self.guard.shape.kind(33, 0);
        self.inner.newtype_variant_seed(Guarded { inner, guard: self.guard })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.guard.shape.kind(34, len);
        self.inner.tuple_variant(len, Watched { visitor, counted: false, guard: self.guard })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.guard.shape.names(35, "", fields);
        self.inner.struct_variant(fields, Watched { visitor, counted: false, guard: self.guard })
    }
}
