//! The agent's state and what follows from each event: pure. It holds no clock, and returns actions, timers
//! included.
