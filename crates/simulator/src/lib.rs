//! The sandbox and the controller under virtual time: scenarios and traces in, reports out.
