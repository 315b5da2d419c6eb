//! `regex-lite` under the name that libcontainer, oci-spec and protobuf-build depend on. They match
//! short ASCII texts (a CPU list, a line of resctrl, an image's name), for which the full crate's
//! engines and Unicode tables were 0.76 MB of every board's file.

pub use regex_lite::*;
