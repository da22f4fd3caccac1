//! Black-box tests: the real application on a free port in front of scripted upstreams. One file per promise.

mod support;

mod balance;
mod budgets;
mod cache;
mod cascade;
mod chaos;
mod chat;
mod clients;
mod config;
mod counters;
mod dialects;
mod edge;
mod errors;
mod faults;
mod finance;
mod formats;
mod guards;
mod headers;
mod idempotency;
mod import;
mod keys;
mod layers;
mod ledger;
mod limits;
mod observe;
mod openapi;
mod operations;
mod recall;
mod routing;
mod scripted;
mod shared;
mod streaming;
mod tls;
mod tokens;
mod transforms;
