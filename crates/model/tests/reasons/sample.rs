//! One example of every variant of an enum, made from what it tells serde of itself.
//!
//! Owns the values that stand in for the real ones: a field's name in capitals, numbers that differ, one moment for all
//! times. A new variant needs nothing here.

use serde::de::value::Error;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use std::cell::Cell;

/// Ends of names of fields that hold a moment.
const MOMENTS: [&str; 6] = ["until", "since", "at", "due", "from", "time"];
const MOMENT: &str = "2026-05-04T09:30:00Z";

/// All variants, in the order in which they are declared.
pub(crate) fn every<T: for<'de> Deserialize<'de>>() -> Vec<T> {
    let count = Cell::new(1);
    let mut all = Vec::new();
    while all.len() < count.get() {
        let wanted = all.len();
        let root = Sample { field: "", outer: Some((wanted, &count)), numbers: &Cell::new(3) };
        all.push(T::deserialize(root).unwrap_or_else(|error| panic!("variant {wanted}: {error}")));
    }
    all
}

#[derive(Clone, Copy)]
struct Sample<'a> {
    field: &'static str,
    /// Which variant of the outermost enum, and where to say how many it has.
    outer: Option<(usize, &'a Cell<usize>)>,
    numbers: &'a Cell<u32>,
}

impl Sample<'_> {
    fn number(self) -> u32 {
        let next = self.numbers.get();
        self.numbers.set(next + 1);
        match self.field.rsplit('_').next() {
            Some("permille") => next * 100,
            Some("percent") => next * 10,
            _ => next,
        }
    }

    fn text(self) -> String {
        let last = self.field.rsplit('_').next().unwrap_or_default();
        if MOMENTS.contains(&last) {
            return MOMENT.to_owned();
        }
        let name = self.field.to_uppercase().replace('_', "-");
        match last {
            "pod" | "workload" | "pdb" if self.field != "pdb" => format!("NAMESPACE/{name}"),
            "of" => "KIND/NAMESPACE/NAME".to_owned(),
            "outlook" => "CronJob/NAMESPACE/NAME".to_owned(),
            "" => "NAME".to_owned(),
            _ => name.strip_suffix('S').filter(|_| name != "ADDRESS").unwrap_or(&name).to_owned(),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.number() as $kind)
        })*
    };
}

impl<'de> Deserializer<'de> for Sample<'_> {
    type Error = Error;

    numbers!(deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_f64 visit_f64 f64);

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom(format!("field {}: its type has no example yet", self.field)))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Error> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Fields { of: self, left: &[""] })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { of: self, left: &[""] })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { of: self, left: fields })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let wanted = self.outer.map_or(0, |(wanted, count)| {
            count.set(variants.len());
            wanted
        });
        let name = variants.get(wanted).copied().ok_or_else(|| Error::custom("an enum without variants"))?;
        visitor.visit_enum(Variant { of: Self { outer: None, ..self }, name })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 char bytes byte_buf unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Fields of a struct, or the one element of a list or map (whose field is that of the list).
struct Fields<'a> {
    of: Sample<'a>,
    left: &'static [&'static str],
}

impl<'a> Fields<'a> {
    fn inner(&self, field: &'static str) -> Sample<'a> {
        let field = if field.is_empty() { self.of.field } else { field };
        Sample { field, outer: None, ..self.of }
    }
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((first, rest)) = self.left.split_first() else { return Ok(None) };
        self.left = rest;
        seed.deserialize(self.inner(first)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        match self.left.first() {
            None => Ok(None),
            // A key of a map, not of a struct.
            Some(&"") => seed.deserialize(Sample { field: "pool", outer: None, ..self.of }).map(Some),
            Some(field) => seed.deserialize((*field).into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (first, rest) = self.left.split_first().ok_or_else(|| Error::custom("no field is left"))?;
        self.left = rest;
        seed.deserialize(self.inner(first))
    }
}

struct Variant<'a> {
    of: Sample<'a>,
    name: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Sample<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Sample<'a>), Error> {
        let variant: serde::de::value::StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(variant)?, self.of))
    }
}

impl<'de> VariantAccess<'de> for Sample<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("variants with several unnamed fields are not used for reasons"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { of: self, left: fields })
    }
}
