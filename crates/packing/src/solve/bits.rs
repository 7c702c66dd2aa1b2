//! A set of small numbers as one bit each.
//!
//! Owns membership and intersection; what the numbers stand for (offerings, node kinds) is the caller's.

const WORD: usize = 64;

/// A set of indices below a length that the owner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// All indices below `len`.
    pub fn full(len: usize) -> Self {
        let mut set = Self::default();
        for ix in 0..len {
            set.insert(ix);
        }
        set
    }

    pub fn insert(&mut self, ix: usize) {
        let word = ix / WORD;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (ix % WORD);
    }

    pub fn contains(&self, ix: usize) -> bool {
        self.words.get(ix / WORD).is_some_and(|word| word & (1 << (ix % WORD)) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// What both sets hold. Equal sets are equal values: no trailing empty words.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut words: Vec<u64> = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            (0..WORD).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * WORD + bit)
        })
    }
}

impl FromIterator<usize> for BitSet {
    fn from_iter<I: IntoIterator<Item = usize>>(all: I) -> Self {
        let mut set = Self::default();
        for ix in all {
            set.insert(ix);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: BitSet = [0, 63, 64, 200].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert_eq!(set.len(), 4);
        assert!(set.contains(64) && !set.contains(65) && !set.contains(10_000));
        let meet = set.meet(&BitSet::full(65));
        assert_eq!(meet.iter().collect::<Vec<_>>(), [0, 63, 64]);
        assert_eq!(set.meet(&BitSet::full(1)), BitSet::full(1));
        assert!(set.meet(&BitSet::default()).is_empty());
    }
}
