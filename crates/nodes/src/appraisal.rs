//! What a machine counts as when machines are chosen: the seam at which ways of choosing differ.
//!
//! Owns the two numbers that the joint solve goes by. Pools of a higher tier are used up before others are looked at;
//! among those of one tier the sum of what the machines count as is made as small as it can be. A way of choosing is
//! therefore a way of filling in these numbers: by price, by size (so that the least is left over), or one for each
//! machine (the fewest machines). Which machines serve the pods is the solve's, whatever they count as.

use model::{Flavour, Pool};
use packing::{Template, size_units};

/// By what machines are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// Micro-USD an hour.
    Price,
    /// How large a machine is: whatever is bought, the least is left over.
    Size,
}

/// How the machines of one round are compared.
pub(crate) struct Appraisal {
    basis: Basis,
}

impl Appraisal {
    /// By price, unless only groups take part and one of them has none: a machine without a price is not one that is
    /// free.
    pub(crate) fn of<'p>(pools: impl Iterator<Item = &'p Pool>) -> Self {
        let (mut direct, mut unpriced) = (false, false);
        for pool in pools {
            direct |= pool.direct().is_some();
            unpriced |= pool.direct().is_none() && pool.price.0 == 0;
        }
        Self { basis: if unpriced && !direct { Basis::Size } else { Basis::Price } }
    }

    /// Whether what machines count as is money.
    pub(crate) fn is_price(&self) -> bool {
        self.basis == Basis::Price
    }

    /// Pools of a higher tier are used up first.
    #[expect(clippy::unused_self, reason = "ways of choosing may rank pools differently")]
    pub(crate) fn tier(&self, pool: &Pool) -> i32 {
        pool.priority
    }

    /// What one machine of a group counts as.
    pub(crate) fn of_group(&self, pool: &Pool, template: &Template) -> u64 {
        match self.basis {
            Basis::Price if pool.price.0 > 0 => pool.price.0,
            // Beside direct pools its size stands in, which is far less than any price: groups are there to be used.
            Basis::Price | Basis::Size => size_units(&template.node.allocatable),
        }
    }

    /// What one machine of a direct pool counts as.
    pub(crate) fn of_flavour(&self, flavour: &Flavour) -> u64 {
        match self.basis {
            Basis::Price => flavour.price.0,
            Basis::Size => size_units(&flavour.template.allocatable),
        }
    }
}
