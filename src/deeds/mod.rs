//! What changes the world: taking a VIP over, releasing it, and announcing it. What is to be done is
//! decided elsewhere.

pub mod announcer;
pub mod release;
pub mod take_over;
