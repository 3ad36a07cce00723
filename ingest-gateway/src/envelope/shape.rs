//! Building blocks of the serde shapes: what derived code would be too lenient or too generous
//! about.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A struct that is a JSON object. (Derived code alone takes an array as well, its items for the
/// fields in order.)
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// The most items of a list that are ever kept in memory: the ceiling of every setting that
/// limits a list. (A body of 32 MiB can hold ten million empty objects.)
pub const LIST_CEILING: usize = 100_000;

/// A list of which no more than [`LIST_CEILING`] items are kept; all are counted.
#[derive(Debug)]
pub struct Capped<T> {
    /// The first items.
    pub items: Vec<T>,
    /// How many there were.
    pub total: usize,
}

impl<T> Default for Capped<T> {
    fn default() -> Self {
        Self { items: Vec::new(), total: 0 }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Capped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Items<T> {
            type Value = Capped<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < LIST_CEILING {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Capped { total: items.len(), items }),
                    }
                }
                let mut total = items.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    total += 1;
                }
                Ok(Capped { items, total })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// For members where `null` is a value: only an absent one is `None`.
///
/// # Errors
/// The deserializer's.
pub fn null_is_a_value<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted_but_not_kept() {
        let json = format!("[{}0]", "0,".repeat(LIST_CEILING));
        let list: Capped<u8> = serde_json::from_str(&json).unwrap();
        assert_eq!((list.items.len(), list.total), (LIST_CEILING, LIST_CEILING + 1));
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Debug, Deserialize)]
        struct One {
            #[expect(dead_code, reason = "only its shape matters")]
            member: u8,
        }
        assert!(serde_json::from_str::<Object<One>>(r#"{"member":1}"#).is_ok());
        let error = serde_json::from_str::<Object<One>>("[1]").unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}
