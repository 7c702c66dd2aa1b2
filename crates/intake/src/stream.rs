//! Objects of a JSON input one by one, so that a file's size does not decide how much memory reading it takes.
//!
//! Owns the walk over objects and lists. Pods and nodes, of which there are many, are decoded while they are read;
//! everything else is kept as a value. YAML, which has no use at such sizes, is `files`' business.

use crate::files::{LARGEST_INPUT_BYTES, Object, file_error, flatten, flatten_yaml};
use crate::{IntakeError, slim};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;

/// Inputs up to this size, unpacked, are read whole, which is twice as fast.
const READ_WHOLE_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 16;

/// One object of an input, with where it came from.
#[derive(Debug)]
pub enum Item {
    Pod(Arc<str>, Box<slim::Pod>),
    Node(Arc<str>, Box<slim::Node>),
    Other(Object),
}

/// Hands every object of one input to `take`, which may refuse. `name` is only for messages; gzip is recognised by
/// its first bytes, JSON by its first letter.
pub fn each_object<E: From<IntakeError>>(
    name: &str,
    input: &mut dyn Read,
    take: &mut dyn FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let io = |error: std::io::Error| {
        file_error(name, "", &error.to_string(), "check that it is readable and whole")
    };
    let mut head = Vec::new();
    input.take(2).read_to_end(&mut head).map_err(io)?;
    let packed = head == [0x1f, 0x8b];
    let whole = Cursor::new(head).chain(input);
    let mut plain: Box<dyn Read + '_> =
        if packed { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut begin = Vec::new();
    (&mut plain).take(READ_WHOLE_BYTES).read_to_end(&mut begin).map_err(io)?;
    let more = begin.len() as u64 == READ_WHOLE_BYTES;
    let origin: Arc<str> = Arc::from(name);
    match begin.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') if more => {
            let limited = Limited { left: LARGEST_INPUT_BYTES - READ_WHOLE_BYTES, input: plain };
            let rest = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(begin).chain(limited));
            walk(&origin, &mut serde_json::Deserializer::from_reader(rest), take)
        }
        Some(b'{' | b'[') => walk(&origin, &mut serde_json::Deserializer::from_slice(&begin), take),
        _ => {
            Limited { left: LARGEST_INPUT_BYTES - READ_WHOLE_BYTES, input: plain }
                .read_to_end(&mut begin)
                .map_err(io)?;
            let text = String::from_utf8(begin)
                .map_err(|_| file_error(name, "", "is not UTF-8 text", "save it as UTF-8"))?;
            let mut objects = Vec::new();
            flatten_yaml(name, &text, &mut objects)?;
            objects.into_iter().try_for_each(|object| take(typed(object)?))
        }
    }
}

/// Refuses to go on after so many bytes: a packed file can be a thousand times its size.
struct Limited<R> {
    left: u64,
    input: R,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            std::io::Error::other(format!("it is larger than {} MiB; split it", LARGEST_INPUT_BYTES >> 20))
        })?;
        Ok(count)
    }
}

fn typed(object: Object) -> Result<Item, IntakeError> {
    Ok(match (object.kind(), object.api_version()) {
        ("Pod", "v1") => Item::Pod(Arc::from(object.origin.as_str()), Box::new(object.decode()?)),
        ("Node", "v1") => Item::Node(Arc::from(object.origin.as_str()), Box::new(object.decode()?)),
        _ => Item::Other(object),
    })
}

fn walk<'de, R: serde_json::de::Read<'de>, E: From<IntakeError>>(
    origin: &Arc<str>,
    json: &mut serde_json::Deserializer<R>,
    take: &mut dyn FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let mut walk = Walk { origin: origin.clone(), take, refused: None, reading: None };
    // One value after another; `end` looks for the next without taking it.
    while json.end().is_err() {
        match (Objects { walk: &mut walk, list: None }).deserialize(&mut *json) {
            Ok(None) => {}
            Ok(Some(_)) => return Err(no_kind(origin).into()),
            Err(error) => return Err(walk.refused.take().unwrap_or_else(|| walk.error(&error).into())),
        }
    }
    Ok(())
}

fn no_kind(origin: &str) -> IntakeError {
    file_error(origin, "", "an object has no kind", "add apiVersion and kind")
}

/// What is known while a file is read.
struct Walk<'t, E> {
    origin: Arc<str>,
    take: &'t mut dyn FnMut(Item) -> Result<(), E>,
    /// Why `take` would not go on.
    refused: Option<E>,
    /// Kind and name of the object whose fields are being read.
    reading: Option<(&'static str, String)>,
}

impl<E: From<IntakeError>> Walk<'_, E> {
    /// Gives an item away; an error ends the walk.
    fn give<D: serde::de::Error>(&mut self, item: Result<Item, IntakeError>) -> Result<(), D> {
        let taken = item.map_err(E::from).and_then(|item| (self.take)(item));
        taken.map_err(|error| {
            self.refused = Some(error);
            D::custom("refused")
        })
    }

    fn error(&self, error: &serde_json::Error) -> IntakeError {
        let at = format!(" line {}", error.line());
        match &self.reading {
            Some((kind, name)) if error.is_data() => {
                let problem = format!("{kind} {name}: {error}");
                file_error(&self.origin, &at, &problem, "compare the field with the kind's documentation")
            }
            _ => file_error(&self.origin, &at, &error.to_string(), "mend the JSON there"),
        }
    }

    fn object<D: serde::de::Error>(&mut self, fields: Map<String, Value>) -> Result<(), D> {
        let mut objects = Vec::new();
        let origin = self.origin.clone();
        if let Err(error) = flatten(&origin, Value::Object(fields), &mut objects) {
            return self.give(Err(error));
        }
        objects.into_iter().try_for_each(|object| self.give(typed(object)))
    }
}

/// What a list says of its items, which carry no kind of their own where the API answered them.
#[derive(Clone, Default)]
struct ListKind {
    kind: String,
    api_version: String,
}

/// An object, a list of objects of one kind or another, or an array of them.
struct Objects<'w, 't, E> {
    walk: &'w mut Walk<'t, E>,
    /// The list around it, once its kind is known.
    list: Option<&'w ListKind>,
}

impl<'de, E: From<IntakeError>> DeserializeSeed<'de> for Objects<'_, '_, E> {
    /// Fields of an object that says nothing of its kind, for a list whose kind comes after its items.
    type Value = Option<Map<String, Value>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E: From<IntakeError>> Visitor<'de> for Objects<'_, '_, E> {
    type Value = Option<Map<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object with a kind")
    }

    fn visit_unit<D: serde::de::Error>(self) -> Result<Self::Value, D> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let outside = ListKind::default();
        loop {
            let seed = Objects { walk: &mut *self.walk, list: self.list.or(Some(&outside)) };
            if items.next_element_seed(seed)?.is_none() {
                return Ok(None);
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let Self { walk, list } = self;
        let mut head = list.cloned().unwrap_or_default();
        let mut rest = Map::new();
        let mut nameless: Option<Vec<Map<String, Value>>> = None;
        while let Some(key) = fields.next_key::<String>()? {
            match key.as_str() {
                "kind" => head.kind = fields.next_value()?,
                "apiVersion" => head.api_version = fields.next_value()?,
                "metadata" | "spec" | "status" if rest.is_empty() && head.is("Pod") => {
                    let pod = decode(walk, key, fields)?;
                    return walk.give(Ok(Item::Pod(walk.origin.clone(), pod))).map(|()| None);
                }
                "metadata" | "spec" | "status" if rest.is_empty() && head.is("Node") => {
                    let node = decode(walk, key, fields)?;
                    return walk.give(Ok(Item::Node(walk.origin.clone(), node))).map(|()| None);
                }
                "items" if head.kind.is_empty() || head.kind.ends_with("List") => {
                    nameless = Some(fields.next_value_seed(Items { walk: &mut *walk, of: head.of_items() })?);
                }
                _ => {
                    rest.insert(key, fields.next_value()?);
                }
            }
        }
        if let Some(nameless) = nameless {
            return of_list(walk, &head, nameless).map(|()| None);
        }
        if head.kind.is_empty() && list.is_none() {
            return Ok(Some(rest));
        }
        rest.insert("kind".to_owned(), head.kind.into());
        rest.insert("apiVersion".to_owned(), head.api_version.into());
        walk.object(rest).map(|()| None)
    }
}

impl ListKind {
    fn is(&self, kind: &str) -> bool {
        self.kind == kind && self.api_version == "v1"
    }

    /// The items' kind: `PodList` holds Pods, `List` anything.
    fn of_items(&self) -> Option<Self> {
        let kind = self.kind.strip_suffix("List").filter(|kind| !kind.is_empty())?;
        Some(Self { kind: kind.to_owned(), api_version: self.api_version.clone() })
    }
}

/// Items that said nothing of their kind, once the list around them has.
fn of_list<E: From<IntakeError>, D: serde::de::Error>(
    walk: &mut Walk<'_, E>,
    head: &ListKind,
    nameless: Vec<Map<String, Value>>,
) -> Result<(), D> {
    let of_items = head.of_items();
    let known = of_items.is_some() || (head.kind == "List" && nameless.is_empty());
    if !known {
        return walk.give(Err(no_kind(&walk.origin)));
    }
    let of_items = of_items.unwrap_or_default();
    for mut fields in nameless {
        fields.insert("kind".to_owned(), of_items.kind.clone().into());
        fields.insert("apiVersion".to_owned(), of_items.api_version.clone().into());
        walk.object(fields)?;
    }
    Ok(())
}

/// The items of a list; yields those whose kind is not known yet.
struct Items<'w, 't, E> {
    walk: &'w mut Walk<'t, E>,
    of: Option<ListKind>,
}

impl<'de, E: From<IntakeError>> DeserializeSeed<'de> for Items<'_, '_, E> {
    type Value = Vec<Map<String, Value>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E: From<IntakeError>> Visitor<'de> for Items<'_, '_, E> {
    type Value = Vec<Map<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<D: serde::de::Error>(self) -> Result<Self::Value, D> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut nameless = Vec::new();
        while let Some(rest) =
            items.next_element_seed(Objects { walk: &mut *self.walk, list: self.of.as_ref() })?
        {
            nameless.extend(rest);
        }
        Ok(nameless)
    }
}

/// A kind of which files hold so many that its objects are decoded while they are read.
trait Numerous: Default {
    const KIND: &'static str;

    fn name(&self) -> String;

    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<(), A::Error>;
}

macro_rules! numerous {
    ($kind:ident) => {
        impl Numerous for slim::$kind {
            const KIND: &'static str = stringify!($kind);

            fn name(&self) -> String {
                self.metadata.name.clone().unwrap_or_default()
            }

            fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<(), A::Error> {
                match name {
                    "metadata" => self.metadata = fields.next_value()?,
                    "spec" => self.spec = fields.next_value()?,
                    "status" => self.status = fields.next_value()?,
                    _ => drop(fields.next_value::<IgnoredAny>()?),
                }
                Ok(())
            }
        }
    };
}

numerous!(Pod);
numerous!(Node);

/// Decodes an object whose first field's name has been read.
fn decode<'de, T: Numerous, E, A: MapAccess<'de>>(
    walk: &mut Walk<'_, E>,
    first: String,
    mut fields: A,
) -> Result<Box<T>, A::Error> {
    let mut object = Box::<T>::default();
    walk.reading = Some((T::KIND, String::new()));
    let mut key = Some(first);
    while let Some(name) = key {
        object.field(&name, &mut fields)?;
        if name == "metadata" {
            walk.reading = Some((T::KIND, object.name()));
        }
        key = fields.next_key()?;
    }
    walk.reading = None;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut input = text;
        each_object::<IntakeError>("f", &mut input, &mut |item| {
            found.push(match item {
                Item::Pod(_, pod) => format!("pod {} on {:?}", pod.name(), pod.spec.node_name),
                Item::Node(_, node) => format!("node {}", node.name()),
                Item::Other(object) => format!("{} {}", object.api_version(), object.kind()),
            });
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn every_way_of_listing_objects_is_read() {
        let pod =
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"nodeName":"n"},"more":[1]}"#;
        let late = r#"{"spec":{"nodeName":"n"},"metadata":{"name":"a"},"kind":"Pod","apiVersion":"v1"}"#;
        let bare = r#"{"metadata":{"name":"a"},"spec":{"nodeName":"n"}}"#;
        let set = r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"r"}}"#;
        let one = "pod a on Some(\"n\")";
        let table = [
            (pod.to_owned(), vec![one]),
            (late.to_owned(), vec![one]),
            (format!("{pod}\n {pod}"), vec![one, one]),
            (format!("[{pod}, null, [{late}]]"), vec![one, one]),
            (
                format!(r#"{{"apiVersion":"v1","items":[{pod},{set}],"kind":"List"}}"#),
                vec![one, "apps/v1 ReplicaSet"],
            ),
            (
                format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{bare}]}}"#),
                vec![one],
            ),
            (format!(r#"{{"items":[{bare}],"kind":"PodList","apiVersion":"v1"}}"#), vec![one]),
            (
                format!(
                    r#"{{"kind":"List","items":[{{"kind":"PodList","apiVersion":"v1","items":[{bare}]}}]}}"#
                ),
                vec![one],
            ),
            (
                r#"{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"n"}}]}"#.to_owned(),
                vec!["node n"],
            ),
            (r#"{"kind":"NodeList","apiVersion":"v1","items":null}"#.to_owned(), vec![]),
            (String::new(), vec![]),
            (format!("---\n{pod}"), vec![one]),
        ];
        for (text, expected) in table {
            assert_eq!(read(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_file_place_and_object() {
        let table: &[(&str, &[&str])] = &[
            ("{\"kind\":\n\"Pod\",}", &["f line 2", "mend the JSON"]),
            (
                "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\n\"metadata\":{\"name\":\"p\"},\n\"spec\":7}",
                &["f line 3", "Pod p"],
            ),
            ("{\"a\": 1}", &["has no kind"]),
            ("{\"kind\": \"List\", \"items\": [{\"a\": 1}]}", &["has no kind"]),
            ("{\"items\": [{\"a\": 1}]}", &["has no kind"]),
            ("[7]", &["f line 1", "Kubernetes object"]),
            ("{\"kind\": \"List\", \"items\": [", &["f line 1", "EOF"]),
        ];
        for (text, parts) in table {
            let error = read(text.as_bytes()).unwrap_err();
            for part in *parts {
                assert!(error.contains(part), "\"{part}\" is not in: {error}");
            }
        }
        assert!(read(&[b'{', 0xff]).is_err());
    }

    #[test]
    fn packed_input_is_unpacked_and_a_refusal_ends_the_walk() {
        use std::io::Write as _;
        let pods =
            format!("[{}]", [r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#; 9].join(","));
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(pods.as_bytes()).unwrap();
        let packed = packer.finish().unwrap();
        assert_eq!(read(&packed).unwrap().len(), 9);
        assert!(read(&packed[..packed.len() / 2]).is_err());

        let mut count = 0;
        let stop = IntakeError::field("x", "enough", "stop");
        let mut input = packed.as_slice();
        let outcome = each_object("f", &mut input, &mut |_| {
            count += 1;
            if count == 3 { Err(stop.clone()) } else { Ok(()) }
        });
        assert_eq!((outcome, count), (Err(stop), 3));
    }
}
