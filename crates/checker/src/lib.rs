//! An independent check of plans and of what came of them.
