//! Numbers for values that are met many times, given in the order in which they are first met.
//!
//! Owns the table and its hash, which is the same in every process: equal input, equal numbers. Nothing is ever
//! taken out, so a number stays what it was.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

/// No entry.
const FREE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Interner<T> {
    items: Vec<T>,
    hashes: Vec<u64>,
    /// Places in `items`, by hash; a power of two, at most three quarters used.
    slots: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { items: Vec::new(), hashes: Vec::new(), slots: vec![FREE; 16] }
    }
}

impl<T> Interner<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }

    /// The number of an item of this hash that is the one meant.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = spread_bits(hash) & mask;
        loop {
            let slot = self.slots[at];
            if slot == FREE {
                return None;
            }
            if self.hashes[slot as usize] == hash && is_it(&self.items[slot as usize]) {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an item that is known not to be there.
    pub(crate) fn push(&mut self, hash: u64, item: T) -> u32 {
        if (self.items.len() + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let number = self.items.len() as u32;
        self.items.push(item);
        self.hashes.push(hash);
        self.seat(number);
        number
    }

    fn seat(&mut self, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = spread_bits(self.hashes[number as usize]) & mask;
        while self.slots[at] != FREE {
            at = (at + 1) & mask;
        }
        self.slots[at] = number;
    }

    fn grow(&mut self) {
        self.slots = vec![FREE; self.slots.len() * 2];
        for number in 0..self.items.len() as u32 {
            self.seat(number);
        }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The number of a value, and whether it is new; `make` builds what is kept.
    pub(crate) fn intern<Q>(&mut self, value: &Q, make: impl FnOnce() -> T) -> (u32, bool)
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = hash_of(value);
        match self.find(hash, |item| item.borrow() == value) {
            Some(number) => (number, false),
            None => (self.push(hash, make()), true),
        }
    }

    pub(crate) fn get<Q>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.find(hash_of(value), |item| item.borrow() == value)
    }
}

fn spread_bits(hash: u64) -> usize {
    (hash ^ (hash >> 32)) as usize
}

/// The hash that the tables use.
pub(crate) fn hash_of<Q: Hash + ?Sized>(value: &Q) -> u64 {
    let mut hasher = Mixer(0);
    value.hash(&mut hasher);
    hasher.finish()
}

/// Multiply and rotate: fast on short keys; nobody attacks it, since callers bound what they feed in.
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word) | (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_first_sight_and_stay() {
        let mut table: Interner<String> = Interner::default();
        let names: Vec<String> = (0..1000).map(|i| format!("name-{i}")).collect();
        for (i, name) in names.iter().enumerate() {
            assert_eq!(table.intern(name.as_str(), || name.clone()), (i as u32, true));
        }
        for (i, name) in names.iter().enumerate() {
            assert_eq!(table.intern(name.as_str(), || name.clone()), (i as u32, false));
            assert_eq!(table.get(name.as_str()), Some(i as u32));
        }
        assert_eq!(table.get("absent"), None);
        assert_eq!((table.len(), table.items()[7].as_str()), (1000, "name-7"));
    }
}
