//! Packets built by hand for every layer go in; what must come out of them stands beside each.

mod build;
mod hostile;
mod layers;
mod segments;
