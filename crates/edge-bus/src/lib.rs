//! The bus between boards: MQTT 5 sessions over mutual TLS, the broker that every server board
//! runs, and sealed messages on them. Safety never depends on it: the bus may lose, repeat,
//! delay and reorder.
