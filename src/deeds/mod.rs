//! What changes the world: taking a VIP over, releasing it, announcing it, and telling its clients. What is to be
//! done is decided elsewhere.

pub mod announcer;
mod detached;
pub mod release;
pub mod take_over;
pub mod tickle;
