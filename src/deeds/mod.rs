//! What changes the world: taking a VIP over, releasing it, announcing it, telling its clients, and refusing them.
//! What is to be done is decided elsewhere.

pub mod announcer;
mod detached;
pub mod refuse;
pub mod release;
pub mod stranded;
pub mod take_over;
pub mod tickle;
