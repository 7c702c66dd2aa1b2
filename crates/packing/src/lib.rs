//! Which pod fits where: the scheduler's filters and first-fit packing.
