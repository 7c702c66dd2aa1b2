//! Placing pods where they would like to be, as far as that is free.
//!
//! Owns what the wishes of a class mean in this room. A wish is asked like a rule, and dropped, in the order that
//! `crate::wishes` states, for those pods that it would leave out. What a pod wishes binds nobody else.

use super::{ClassIx, Placed, Room, Spread, Terms};
use crate::filters::inter_pod_affinity::{self, Anti};
use crate::filters::pod_topology_spread;
use crate::wishes::{Wish, is_unwelcome, wishes};
use model::PodShape;
use std::ops::Range;
use std::sync::Arc;

/// A wish in the room's numbers.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Terms(Terms),
    Spread(Vec<Spread>),
    /// The number of a need.
    Nodes(u32),
    Untainted,
}

impl Room {
    /// Places up to `count` pods of a class within `within`, as many as can be where all their wishes are met, then
    /// as many as can be without the first wish, and so on, until the rules alone decide.
    pub fn place_wishing(&mut self, class: ClassIx, count: u32, within: Range<usize>) -> Vec<Placed> {
        let all = self.known_wishes(class);
        let mut placed = Vec::new();
        let mut left = count;
        for dropped in 0..all.len() {
            if left == 0 {
                return placed;
            }
            if matches!(all[dropped], Known::Untainted) && !self.sites.has_soft_taints() {
                break;
            }
            for at in within.start..within.end.min(self.spots.len()) {
                let mut take = self.wished(class, &all[dropped..], at, left);
                // One by one where others decide: each pod may change what the next one may do.
                while take > 0 {
                    self.put(class, at, take);
                    placed.push(Placed { spot: super::SpotIx(at), count: take });
                    left -= take;
                    take = if left > 0 { self.wished(class, &all[dropped..], at, left) } else { 0 };
                }
            }
        }
        placed.extend(self.place(class, left, within));
        placed
    }

    fn wished(&mut self, class: ClassIx, wishes: &[Known], at: usize, most: u32) -> u32 {
        let mut times = self.times(class, at, most);
        for wish in wishes {
            if times == 0 {
                return 0;
            }
            times = match wish {
                Known::Terms(terms) => inter_pod_affinity::times(&self.topology, terms, &[], at, times),
                Known::Spread(spread) => pod_topology_spread::times(&self.topology, spread, at, times),
                Known::Nodes(need) => {
                    Ok(if self.sites.admits(*need, at, self.volumes.everywhere()) { times } else { 0 })
                }
                Known::Untainted => {
                    let unwelcome = is_unwelcome(self.classes.shape(class.0), self.sites.node(at));
                    Ok(if unwelcome { 0 } else { times })
                }
            }
            .unwrap_or(0);
        }
        times
    }

    fn known_wishes(&mut self, class: ClassIx) -> Arc<[Known]> {
        if let Some(known) = &self.facts[class.0 as usize].wishes {
            return Arc::clone(known);
        }
        let shape = Arc::clone(self.classes.shape(class.0));
        let covered = self.facts[class.0 as usize].covered;
        let list = if covered { wishes(&shape) } else { Vec::new() };
        let known: Arc<[Known]> =
            list.into_iter().map(|wish| self.work_out_wish(class, &shape, wish)).collect();
        self.facts[class.0 as usize].wishes = Some(Arc::clone(&known));
        known
    }

    fn work_out_wish(&mut self, class: ClassIx, shape: &PodShape, wish: Wish<'_>) -> Known {
        let namespace = Arc::clone(self.classes.namespace(class.0));
        let set = self.classes.key(class.0).set;
        match wish {
            Wish::Near(term) => {
                let (counter, affine_to_itself) = self.single_term(term, &namespace, set);
                Known::Terms(Terms { affinity: vec![counter], affine_to_itself, anti: Vec::new() })
            }
            Wish::Apart(term) => {
                let (counter, repels_itself) = self.single_term(term, &namespace, set);
                let anti = vec![Anti { counter, repels_itself }];
                Known::Terms(Terms { anti, ..Terms::default() })
            }
            Wish::Nodes(term) => {
                let wanted = PodShape {
                    node_affinity: Some(vec![term.clone()]),
                    tolerations: shape.tolerations.clone(),
                    ..PodShape::default()
                };
                Known::Nodes(self.sites.need(&Arc::new(wanted)))
            }
            Wish::Spread(constraint) => {
                Known::Spread(self.spread_of(shape, std::slice::from_ref(constraint), &namespace, set))
            }
            Wish::Untainted => Known::Untainted,
        }
    }
}
