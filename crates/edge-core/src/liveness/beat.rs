//! What a board says of itself a few times a second: one small JSON object that travels over the
//! bus and is never written to a disk. Read here from bytes that anybody may have sent.

use std::fmt;

use serde_json::{Value, json};

/// The form of beats that is spoken here.
pub const VERSION: u64 = 1;

/// A beat is refused above this many bytes.
pub const MOST_BYTES: usize = 8 * 1024;

/// Images that a beat names, at most.
pub const MOST_IMAGES: usize = 128;

/// Characters of a name, boot id, session or nonce, at most.
const MOST_CHARS: usize = 253;

/// The slowest pace that a board may promise, in milliseconds: what it promises is how long its
/// silence goes unnoticed.
pub const SLOWEST_MS: i64 = 10_000;

/// The longest time that a board that stops may ask to be waited for: an upgrade's trial, and the
/// way back.
const LONGEST_AWAY_MS: i64 = 660_000;

/// What a board has and uses right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time there is, in thousandths of a core.
    pub cpu_milli: u64,
    /// Processor time in use, in thousandths of a core.
    pub cpu_used_milli: u64,
    /// Memory there is, in bytes.
    pub memory: u64,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// The disk beneath the data directory, in bytes.
    pub disk: u64,
    /// What of it is in use, in bytes.
    pub disk_used: u64,
    /// The hottest sensor of the processor, in thousandths of a degree Celsius.
    pub temperature_milli: Option<i64>,
    /// Whether the board slows itself down: heat or low voltage. `None` where it cannot tell.
    pub throttled: Option<bool>,
    /// Short of memory.
    pub memory_pressure: bool,
    /// Short of disk.
    pub disk_pressure: bool,
    /// Short of process ids.
    pub pid_pressure: bool,
}

/// One beat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// The board's name in the cluster.
    pub node: String,
    /// The kernel's boot id: another one means that the board was restarted.
    pub boot: String,
    /// Drawn at each start of the agent: another one means that the agent was restarted.
    pub session: String,
    /// Counts the beats of a session from 1.
    pub sequence: u64,
    /// What the leader asked to be told, so that old beats can't be played again.
    pub nonce: String,
    /// The pace that the board promises, in milliseconds.
    pub every_ms: i64,
    /// What it has and uses.
    pub usage: Usage,
    /// Pods that run there.
    pub pods: u64,
    /// The images that it holds: the first 16 hexadecimal digits of their configurations' digests.
    pub images: Vec<String>,
    /// The agent ends on request and means to come back: an upgrade, a restart.
    pub stopping: bool,
    /// How long an upgrade may keep it away, in milliseconds; counts when it is stopping.
    pub away_ms: i64,
    /// The whole board is switched off or restarted, and its pods end with it; counts when it is
    /// stopping.
    pub off: bool,
}

/// Why a beat does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatError {
    /// More than [`MOST_BYTES`].
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// Not JSON.
    NotJson,
    /// A field is missing or holds what it can't.
    Field {
        /// The field.
        name: &'static str,
    },
    /// Of a form that this program does not know.
    Version {
        /// What it says.
        version: u64,
    },
    /// It speaks for another board than its sender.
    Stranger {
        /// The board it speaks for.
        node: String,
    },
    /// It answers another leader's question, or one of long ago.
    Stale,
    /// It has been heard before, or a later one has.
    Repeated,
    /// There are more boards than the table holds.
    TooMany,
}

impl fmt::Display for BeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BeatError::TooLong { bytes } => {
                write!(f, "read a beat: {bytes} bytes, at most {MOST_BYTES}")
            }
            BeatError::NotJson => write!(f, "read a beat: not JSON"),
            BeatError::Field { name } => write!(f, "read a beat: field {name:?} is not usable"),
            BeatError::Version { version } => {
                write!(f, "read a beat: version {version}, this program knows {VERSION}")
            }
            BeatError::Stranger { node } => write!(f, "a beat speaks for {node:?}, not its sender"),
            BeatError::Stale => write!(f, "a beat has an old nonce"),
            BeatError::Repeated => write!(f, "a beat came again, or too late"),
            BeatError::TooMany => write!(f, "more boards beat than the table holds"),
        }
    }
}

impl std::error::Error for BeatError {}

fn text(object: &Value, name: &'static str) -> Result<String, BeatError> {
    match object[name].as_str() {
        Some(text) if text.len() <= MOST_CHARS => Ok(text.to_owned()),
        _ => Err(BeatError::Field { name }),
    }
}

fn count(object: &Value, name: &'static str) -> Result<u64, BeatError> {
    object[name].as_u64().ok_or(BeatError::Field { name })
}

impl Usage {
    fn read(object: &Value) -> Result<Usage, BeatError> {
        let flag = |name: &str| object[name] == true;
        Ok(Usage {
            cpu_milli: count(object, "cpu")?,
            cpu_used_milli: count(object, "cpuUsed")?,
            memory: count(object, "memory")?,
            memory_used: count(object, "memoryUsed")?,
            disk: count(object, "disk")?,
            disk_used: count(object, "diskUsed")?,
            temperature_milli: object["temperature"].as_i64(),
            throttled: object["throttled"].as_bool(),
            memory_pressure: flag("memoryPressure"),
            disk_pressure: flag("diskPressure"),
            pid_pressure: flag("pidPressure"),
        })
    }

    fn write(&self) -> Value {
        let mut object = json!({
            "cpu": self.cpu_milli, "cpuUsed": self.cpu_used_milli,
            "memory": self.memory, "memoryUsed": self.memory_used,
            "disk": self.disk, "diskUsed": self.disk_used,
        });
        if let Some(milli) = self.temperature_milli {
            object["temperature"] = json!(milli);
        }
        if let Some(throttled) = self.throttled {
            object["throttled"] = json!(throttled);
        }
        for (name, on) in [
            ("memoryPressure", self.memory_pressure),
            ("diskPressure", self.disk_pressure),
            ("pidPressure", self.pid_pressure),
        ] {
            if on {
                object[name] = json!(true);
            }
        }
        object
    }
}

impl Beat {
    /// Reads a beat. Unknown fields are left alone, so that newer boards may say more.
    pub fn read(payload: &[u8]) -> Result<Beat, BeatError> {
        if payload.len() > MOST_BYTES {
            return Err(BeatError::TooLong { bytes: payload.len() });
        }
        let object: Value = serde_json::from_slice(payload).map_err(|_| BeatError::NotJson)?;
        let version = count(&object, "v")?;
        if version != VERSION {
            return Err(BeatError::Version { version });
        }
        let images = object["images"].as_array().map_or(&[][..], Vec::as_slice);
        let images = images.iter().filter_map(Value::as_str).filter(|id| id.len() <= MOST_CHARS);
        let every = object["every"].as_i64().filter(|ms| *ms > 0);
        Ok(Beat {
            node: text(&object, "node")?,
            boot: text(&object, "boot")?,
            session: text(&object, "session")?,
            sequence: count(&object, "seq")?,
            nonce: text(&object, "nonce")?,
            every_ms: every.ok_or(BeatError::Field { name: "every" })?.min(SLOWEST_MS),
            usage: Usage::read(&object["usage"])?,
            pods: object["pods"].as_u64().unwrap_or(0),
            images: images.take(MOST_IMAGES).map(str::to_owned).collect(),
            stopping: object["stopping"] == true,
            away_ms: object["away"].as_i64().unwrap_or(0).clamp(0, LONGEST_AWAY_MS),
            off: object["off"] == true,
        })
    }

    /// The beat as bytes. Images beyond [`MOST_IMAGES`] are left out.
    pub fn write(&self) -> Vec<u8> {
        let mut object = json!({
            "v": VERSION, "node": self.node, "boot": self.boot, "session": self.session,
            "seq": self.sequence, "nonce": self.nonce, "every": self.every_ms,
            "usage": self.usage.write(), "pods": self.pods,
            "images": &self.images[..self.images.len().min(MOST_IMAGES)],
        });
        if self.stopping {
            object["stopping"] = json!(true);
            if self.away_ms > 0 {
                object["away"] = json!(self.away_ms);
            }
            if self.off {
                object["off"] = json!(true);
            }
        }
        object.to_string().into_bytes()
    }
}
