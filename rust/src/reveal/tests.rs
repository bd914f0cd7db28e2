//! Bytes as balancers, browsers and attackers send them go in; what is read out of them is held against what was written.

mod heads;
mod hostile;
mod proxy;
mod streams;
mod talk;
mod toa;
