//! The state as the few bytes that are on the disk.

use edge_api::release::Version;
use serde_json::{Value, json};

use super::{Failure, Installed, Life, Moment, Slot, State, Target, Trial, Watch};

/// The form of the file.
const FORM: u64 = 1;

impl Slot {
    /// The slot of this name.
    pub fn named(name: &str) -> Option<Slot> {
        [Slot::A, Slot::B].into_iter().find(|slot| slot.name() == name)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn installed(value: &Value) -> Option<Installed> {
    Some(Installed {
        version: Version::parse(value["version"].as_str()?)?,
        digest: text(&value["digest"])?,
        bytes: value["bytes"].as_u64()?,
        proven: value["proven"] == true,
    })
}

fn trial(value: &Value) -> Option<Trial> {
    let number = |name: &str| u32::try_from(value[name].as_u64()?).ok();
    let began = &value["began"];
    Some(Trial {
        slot: Slot::named(value["slot"].as_str()?)?,
        starts: number("starts")?,
        handed: value["handed"] == true,
        deadline_s: number("deadline")?,
        began: text(&began["boot"])
            .zip(began["up"].as_u64())
            .map(|(boot, up_s)| Moment { boot, up_s }),
    })
}

/// The base's name where a slot's could be.
const BASE: &str = "base";

fn watch(value: &Value) -> Option<Watch> {
    let life = &value["life"];
    let pid = life["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    Some(Watch {
        before: match value["before"].as_str()? {
            BASE => Target::Base,
            slot => Target::Slot(Slot::named(slot)?),
        },
        crashes: u32::try_from(value["crashes"].as_u64()?).ok()?,
        life: text(&life["boot"]).zip(life["began"].as_u64()).map(|(boot, began)| Life {
            boot,
            began,
            pid: pid.unwrap_or(0),
        }),
    })
}

impl State {
    /// Reads what [`State::write`] wrote; `None` for anything else, and then the base runs.
    pub fn read(bytes: &[u8]) -> Option<State> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        if value["form"].as_u64() != Some(FORM) {
            return None;
        }
        let failed = &value["failed"];
        let (a, b) = (installed(&value["a"]), installed(&value["b"]));
        let kept = value["newest"].as_str().and_then(Version::parse);
        // What was written before it was kept.
        let proven = [&a, &b].into_iter().flatten().filter(|program| program.proven);
        let newest = kept.into_iter().chain(proven.map(|program| program.version.clone())).max();
        Some(State {
            a,
            b,
            current: value["current"].as_str().and_then(Slot::named),
            trial: trial(&value["trial"]),
            watch: watch(&value["watch"]),
            failed: text(&failed["version"])
                .zip(text(&failed["why"]))
                .map(|(version, why)| Failure { version, why }),
            newest,
        })
    }

    /// The state as JSON.
    pub fn json(&self) -> Value {
        let installed = |program: &Installed| {
            json!({ "version": program.version.to_string(), "digest": program.digest,
                "bytes": program.bytes, "proven": program.proven })
        };
        let trial = |trial: &Trial| {
            let began = trial.began.as_ref();
            json!({ "slot": trial.slot.name(), "starts": trial.starts, "handed": trial.handed,
                "deadline": trial.deadline_s,
                "began": began.map(|began| json!({ "boot": began.boot, "up": began.up_s })) })
        };
        let watch = |watch: &Watch| {
            let life = watch.life.as_ref();
            let before = match watch.before {
                Target::Base => BASE,
                Target::Slot(slot) => slot.name(),
            };
            json!({ "before": before, "crashes": watch.crashes,
                "life": life.map(
                    |life| json!({ "boot": life.boot, "began": life.began, "pid": life.pid })) })
        };
        let failed = |failure: &Failure| json!({ "version": failure.version, "why": failure.why });
        json!({
            "form": FORM,
            "a": self.a.as_ref().map(installed),
            "b": self.b.as_ref().map(installed),
            "current": self.current.map(Slot::name),
            "trial": self.trial.as_ref().map(trial),
            "watch": self.watch.as_ref().map(watch),
            "failed": self.failed.as_ref().map(failed),
            "newest": self.newest.as_ref().map(ToString::to_string),
        })
    }

    /// The state as bytes for the disk.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = self.json().to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}
