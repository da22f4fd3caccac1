//! stepwell: an OpenAI-compatible LLM router that tells the truth about every request.
//!
//! The modules stand in reading order, lowest layer first; ARCHITECTURE.md has the map and the rules.

pub mod money; // amounts and prices in integers
pub mod units; // durations, sizes and shares as people write them

pub mod chat; // the OpenAI chat vocabulary
pub mod resilience; // breaker, backoff, budgets: time is an argument
pub mod telemetry; // names of metrics, the place of a request in a trace

pub mod transform; // headers and members, set or removed

pub mod catalog; // providers, models, prices, skills, speeds
pub mod tenant; // who calls, and what they may do

pub mod admission; // may it in, now: places, queues, early refusals
pub mod cache; // identical requests are answered once
pub mod classify; // a prompt's task
pub mod events; // what has happened, in order
pub mod guard; // what requests and answers may say
pub mod ingress; // the other dialects that callers speak
pub mod ledger; // every request, whatever its end
pub mod meter; // tokens before, money after
pub mod provider; // wire protocols and the network

pub mod jobs; // requests that are answered later
pub mod otlp; // finished requests for an OpenTelemetry collector
pub mod rank; // which targets, in what order, and why

pub mod batch; // many requests in one file
pub mod saga; // several requests in a row, and what undoes them

pub mod dispatch; // the cascade: try, fail over, stream

pub mod config; // providers.yaml: read, checked as a whole, all problems at once

pub mod gateway; // the request's path
pub mod import; // other routers' configurations, said in ours

pub mod store; // implements the ports: SQLite

pub mod api; // what the outside sees
pub mod operations; // draining, reloads, metrics

pub mod scripted; // an upstream that does what it is told

pub mod app; // puts it all together
pub mod command; // what the command line does
