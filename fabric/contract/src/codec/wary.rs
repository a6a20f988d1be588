//! A deserializer that believes no length: what a decoder is told of sizes is checked against the
//! octets that are left, before anything is allocated for it (`threats.md` 28).
//!
//! In: octets of anybody. Out: bincode's values. It reads nothing itself: every call goes on to
//! bincode; only lengths are looked at first. An element of a list takes at least one octet, so lists
//! of types without a form, `Vec<()>`, are not for this codec.

use std::cell::Cell;
use std::fmt;

use bincode::de::read::Reader;
use bincode::error::DecodeError;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Elements that room is made for before the first one is read.
const ELEMENTS_AHEAD_MAX: usize = 16;
/// Octets of a length (fixed integers).
const LENGTH_BYTES: usize = size_of::<u64>();

/// The octets, and how many of them were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets<'a> {
    pub(super) all: &'a [u8],
    pub(super) at: &'a Cell<usize>,
}

impl Octets<'_> {
    fn rest(&self) -> &[u8] {
        self.all.get(self.at.get()..).unwrap_or_default()
    }

    /// Refuses a length that comes next and is more than what follows it.
    fn check_length<E: serde::de::Error>(&self) -> Result<(), E> {
        let rest = self.rest();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            // Too short for a length: bincode says so.
            return Ok(());
        };
        let length = u64::from_le_bytes(*length);
        if usize::try_from(length).is_ok_and(|length| length <= rest.len()) {
            return Ok(());
        }
        let left = rest.len();
        Err(E::custom(format_args!(
            "a length of {length} with {left} octets left"
        )))
    }
}

impl Reader for Octets<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let rest = self.rest();
        let Some(found) = rest.get(..bytes.len()) else {
            let additional = bytes.len() - rest.len();
            return Err(DecodeError::UnexpectedEnd { additional });
        };
        bytes.copy_from_slice(found);
        self.consume(bytes.len());
        Ok(())
    }

    fn peek_read(&mut self, count: usize) -> Option<&[u8]> {
        self.rest().get(..count)
    }

    fn consume(&mut self, count: usize) {
        self.at.set(self.at.get() + count);
    }
}

/// Whatever stands between bincode and a type: deserializer, visitor, access or seed.
pub(super) struct Wary<'a, T> {
    pub(super) inner: T,
    pub(super) octets: Octets<'a>,
}

impl<'a, T> Wary<'a, T> {
    const fn of<U>(inner: U, octets: Octets<'a>) -> Wary<'a, U> {
        Wary { inner, octets }
    }
}

macro_rules! pass {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$name(Self::of(visitor, self.octets))
        }
    )*};
}

macro_rules! pass_checked {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.octets.check_length()?;
            self.inner.$name(Self::of(visitor, self.octets))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Wary<'_, D> {
    type Error = D::Error;

    pass! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_option deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    pass_checked! {
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_seq deserialize_map
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($name:ident: $type:ty),* $(,)?) => {$(
        fn $name<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$name(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Wary<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    visit! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64,
        visit_i128: i128, visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64,
        visit_u128: u128, visit_f32: f32, visit_f64: f64, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let octets = self.octets;
        self.inner.visit_some(Wary { inner, octets })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let octets = self.octets;
        self.inner.visit_newtype_struct(Wary { inner, octets })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let octets = self.octets;
        self.inner.visit_seq(Wary { inner, octets })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let octets = self.octets;
        self.inner.visit_map(Wary { inner, octets })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let octets = self.octets;
        self.inner.visit_enum(Wary { inner, octets })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Wary<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Self::of(seed, self.octets))
    }

    fn size_hint(&self) -> Option<usize> {
        let hint = self.inner.size_hint()?;
        Some(hint.min(ELEMENTS_AHEAD_MAX))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Wary<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(Self::of(seed, self.octets))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Self::of(seed, self.octets))
    }

    fn size_hint(&self) -> Option<usize> {
        let hint = self.inner.size_hint()?;
        Some(hint.min(ELEMENTS_AHEAD_MAX))
    }
}

impl<'de, 'a, A: EnumAccess<'de>> EnumAccess<'de> for Wary<'a, A> {
    type Error = A::Error;
    type Variant = Wary<'a, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let octets = self.octets;
        let (value, inner) = self.inner.variant_seed(Self::of(seed, octets))?;
        Ok((value, Wary { inner, octets }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Wary<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = Self::of(seed, self.octets);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = Self::of(visitor, self.octets);
        self.inner.struct_variant(fields, visitor)
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Wary<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let octets = self.octets;
        self.inner.deserialize(Wary { inner, octets })
    }
}
