//! What the end-to-end tests share: services, load with ids, OTLP receivers and the exact evaluation of what arrived.
//!
//! All traffic stays on 127.0.0.1, every loop is bounded, everything started is stopped on drop.
#![allow(dead_code)] // each test binary uses its part

pub mod eval;
pub mod load;
pub mod load_h2;
pub mod noise;
pub mod otlp_sink;
pub mod services;
