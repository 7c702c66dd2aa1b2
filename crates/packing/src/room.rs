//! Free room on many nodes, tried on and taken back.
//!
//! Owns the spots (nodes, in the order in which they are to be tried), an undo log that makes a trial as cheap as what
//! it touched, and the interning of shapes: lasting filters are asked once for each shape and spot, and a shape that
//! was refused by the first spots does not ask them again while room only shrinks. What the spots stand for (a node
//! that exists, one on its way) is the caller's: it adds them in its order and names ranges of them.

use crate::{Ask, NodeView, first_lasting_rejection};
use model::{PodShape, Resources};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A spot of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpotIx(pub usize);

/// A shape known to one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeIx(usize);

/// A moment that the room can be taken back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a mark is there to be returned to"]
pub struct Mark(usize);

/// Pods of one shape that were put on one spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub spot: SpotIx,
    pub count: u32,
}

#[derive(Clone, Debug)]
struct Spot {
    view: NodeView,
    closed: bool,
    /// What was placed here by this room, in order.
    received: Vec<(ShapeIx, u32)>,
}

#[derive(Clone, Debug)]
enum Undo {
    Placed { spot: SpotIx, free: Resources, ports: usize },
    Closed(SpotIx),
    Cursor { shape: ShapeIx, old: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    Unasked,
    Passes,
    Refused,
}

/// A snapshot of free room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    spots: Vec<Spot>,
    shapes: Vec<Arc<PodShape>>,
    index: BTreeMap<Arc<PodShape>, ShapeIx>,
    /// For each shape the answers of the lasting filters, by spot.
    lasting: Vec<Vec<Lasting>>,
    /// For each shape the first spot that may still have room for it.
    cursors: Vec<usize>,
    log: Vec<Undo>,
}

impl Room {
    /// Adds a spot behind all others.
    pub fn add(&mut self, view: NodeView) -> SpotIx {
        self.spots.push(Spot { view, closed: false, received: Vec::new() });
        SpotIx(self.spots.len() - 1)
    }

    pub fn len(&self) -> usize {
        self.spots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub fn view(&self, spot: SpotIx) -> &NodeView {
        &self.spots[spot.0].view
    }

    /// The room's own name for a shape; equal shapes share one.
    pub fn shape(&mut self, shape: &Arc<PodShape>) -> ShapeIx {
        if let Some(ix) = self.index.get(shape) {
            return *ix;
        }
        let ix = ShapeIx(self.shapes.len());
        self.shapes.push(Arc::clone(shape));
        self.index.insert(Arc::clone(shape), ix);
        self.lasting.push(Vec::new());
        self.cursors.push(0);
        ix
    }

    pub fn shape_of(&self, shape: ShapeIx) -> &Arc<PodShape> {
        &self.shapes[shape.0]
    }

    pub fn mark(&self) -> Mark {
        Mark(self.log.len())
    }

    /// Takes back everything since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        while self.log.len() > mark.0 {
            match self.log.pop() {
                Some(Undo::Placed { spot, free, ports }) => {
                    let spot = &mut self.spots[spot.0];
                    spot.view.restore(free, ports);
                    spot.received.pop();
                }
                Some(Undo::Closed(spot)) => self.spots[spot.0].closed = false,
                Some(Undo::Cursor { shape, old }) => self.cursors[shape.0] = old,
                None => return,
            }
        }
    }

    /// Takes a spot out of the choice.
    pub fn close(&mut self, spot: SpotIx) {
        if !self.spots[spot.0].closed {
            self.spots[spot.0].closed = true;
            self.log.push(Undo::Closed(spot));
        }
    }

    pub fn is_closed(&self, spot: SpotIx) -> bool {
        self.spots[spot.0].closed
    }

    /// What this room has placed on a spot.
    pub fn received(&self, spot: SpotIx) -> &[(ShapeIx, u32)] {
        &self.spots[spot.0].received
    }

    /// Places up to `count` pods of a shape, filling the spots of `within` in order.
    ///
    /// Returns where they went; their sum is less than `count` where the room is too small.
    pub fn place(&mut self, shape: ShapeIx, count: u32, within: Range<usize>) -> Vec<Placed> {
        let mut placed = Vec::new();
        let mut left = count;
        let cursor = self.cursors[shape.0];
        let mut full_up_to = cursor;
        for at in within.start.max(cursor)..within.end.min(self.spots.len()) {
            if left == 0 {
                break;
            }
            let fits = self.capacity(shape, at);
            let take = fits.min(left);
            if take > 0 {
                self.put(shape, SpotIx(at), take);
                placed.push(Placed { spot: SpotIx(at), count: take });
                left -= take;
            }
            if take == fits && full_up_to == at {
                full_up_to = at + 1;
            }
        }
        if full_up_to != cursor {
            self.log.push(Undo::Cursor { shape, old: cursor });
            self.cursors[shape.0] = full_up_to;
        }
        placed
    }

    /// Places one pod on one named spot, if it fits there.
    pub fn place_on(&mut self, shape: ShapeIx, spot: SpotIx) -> bool {
        let fits = self.capacity(shape, spot.0) > 0;
        if fits {
            self.put(shape, spot, 1);
        }
        fits
    }

    fn put(&mut self, shape: ShapeIx, at: SpotIx, count: u32) {
        let spot = &mut self.spots[at.0];
        self.log.push(Undo::Placed {
            spot: at,
            free: spot.view.free().clone(),
            ports: spot.view.used_ports().len(),
        });
        spot.view.take_many(&self.shapes[shape.0], count);
        spot.received.push((shape, count));
    }

    /// How many more pods of a shape a spot takes. Resources are asked first: they refuse most often.
    fn capacity(&mut self, shape: ShapeIx, at: usize) -> u32 {
        let spot = &self.spots[at];
        if spot.closed {
            return 0;
        }
        let fits = spot.view.capacity_for(&self.shapes[shape.0]);
        if fits == 0 {
            return 0;
        }
        let answers = &mut self.lasting[shape.0];
        if answers.len() <= at {
            answers.resize(self.spots.len(), Lasting::Unasked);
        }
        if answers[at] == Lasting::Unasked {
            let ask = Ask::of(&self.shapes[shape.0]);
            answers[at] = match first_lasting_rejection(&ask, &spot.view) {
                None => Lasting::Passes,
                Some(_) => Lasting::Refused,
            };
        }
        if answers[at] == Lasting::Passes { fits } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MilliCpu, Node, Readiness};

    fn spot(name: &str, cpu: u64) -> NodeView {
        NodeView::new(Arc::new(Node {
            name: name.into(),
            uid: name.into(),
            machine: None,
            labels: model::Labels::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources { cpu: MilliCpu(cpu), pods: 10, ..Default::default() },
            readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
            conditions: Vec::new(),
            fittings: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            deleting: false,
        }))
    }

    fn shape(cpu: u64) -> Arc<PodShape> {
        Arc::new(PodShape {
            requests: Resources { cpu: MilliCpu(cpu), pods: 1, ..Default::default() },
            ..Default::default()
        })
    }

    #[test]
    fn placing_fills_spots_in_order_and_rolls_back() {
        let mut room = Room::default();
        let (a, b) = (room.add(spot("a", 1000)), room.add(spot("b", 1000)));
        let small = room.shape(&shape(400));
        assert_eq!(room.shape(&shape(400)), small);
        let mark = room.mark();
        let placed = room.place(small, 3, 0..2);
        assert_eq!(placed, [Placed { spot: a, count: 2 }, Placed { spot: b, count: 1 }]);
        assert_eq!(room.received(a), [(small, 2)]);
        let rest = room.place(small, 5, 0..2);
        assert_eq!(rest, [Placed { spot: b, count: 1 }]);
        assert!(room.place(small, 1, 0..2).is_empty());

        room.rollback(mark);
        assert_eq!(room.view(a).free().cpu, MilliCpu(1000));
        assert!(room.received(b).is_empty());
        room.close(a);
        assert_eq!(room.place(small, 3, 0..2), [Placed { spot: b, count: 2 }]);
    }

    #[test]
    fn a_spot_added_later_is_tried_although_the_others_were_full() {
        let mut room = Room::default();
        room.add(spot("a", 100));
        let big = room.shape(&shape(500));
        assert!(room.place(big, 1, 0..1).is_empty());
        let b = room.add(spot("b", 1000));
        assert_eq!(room.place(big, 1, 0..2), [Placed { spot: b, count: 1 }]);
    }

    #[test]
    fn a_range_that_starts_late_leaves_the_first_spots_open() {
        let mut room = Room::default();
        let a = room.add(spot("a", 1000));
        let b = room.add(spot("b", 1000));
        let s = room.shape(&shape(1000));
        assert_eq!(room.place(s, 2, 1..2), [Placed { spot: b, count: 1 }]);
        assert_eq!(room.place(s, 1, 0..2), [Placed { spot: a, count: 1 }]);
    }
}
