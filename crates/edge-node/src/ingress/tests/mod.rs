//! The proxy as clients and endpoints see it.
