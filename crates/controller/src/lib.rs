//! The shell: watches, executors, leases, ledger and journal storage, events, HTTP.
