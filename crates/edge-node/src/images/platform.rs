//! Which of an image's platforms runs on this board. The order is containerd's: the board's own
//! architecture first, then older ones that it also executes.

use std::fmt;

/// Operating system, architecture and variant, as in an image index.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Go's name of the architecture: `arm64`, `amd64`, `arm` …
    pub architecture: String,
    /// `v7`, `v8` …; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that this program was built for, which is what the board runs.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", arm_variant(&std::fs::read_to_string("/proc/cpuinfo"))),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// All platforms that run here, best first.
    fn accepted(&self) -> Vec<(&str, &str)> {
        let arm = ["v8", "v7", "v6", "v5"];
        let from = |first: &str| {
            let at = arm.iter().position(|v| *v == first).unwrap_or(1);
            arm[at..].iter().map(|v| ("arm", *v)).collect::<Vec<_>>()
        };
        match self.architecture.as_str() {
            "arm64" => std::iter::once(("arm64", "v8")).chain(from("v8")).collect(),
            "arm" => from(&self.variant),
            "amd64" => vec![("amd64", ""), ("386", "")],
            other => vec![(other, self.variant.as_str())],
        }
    }

    /// How well `offered` fits: 0 is best, `None` is not at all.
    pub(crate) fn rank(&self, offered: &Platform) -> Option<usize> {
        if !offered.os.is_empty() && offered.os != self.os {
            return None;
        }
        if offered.architecture.is_empty() {
            return Some(usize::MAX);
        }
        let variant = match (offered.architecture.as_str(), offered.variant.as_str()) {
            ("arm64", _) => "v8",
            ("arm", "") => "v7",
            ("arm", variant) => variant,
            _ => "",
        };
        self.accepted().iter().position(|(architecture, accepted)| {
            *architecture == offered.architecture && (variant.is_empty() || *accepted == variant)
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// `CPU architecture: 7` (a Pi Zero says 7 and is ARMv6: its model name tells the truth).
fn arm_variant(cpuinfo: &std::io::Result<String>) -> &'static str {
    let Ok(text) = cpuinfo else { return "v7" };
    let line = |key: &str| {
        text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v)
    };
    if line("model name").is_some_and(|m| m.contains("ARMv6")) {
        return "v6";
    }
    match line("CPU architecture").map(str::trim) {
        Some("8" | "AArch64") => "v8",
        Some("6") => "v6",
        Some("5" | "5T" | "5TE" | "5TEJ") => "v5",
        _ => "v7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str, variant: &str) -> Platform {
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    #[test]
    fn older_arm_is_accepted_newer_is_not() {
        let v7 = platform("arm", "v7");
        assert_eq!(v7.rank(&platform("arm", "v7")), Some(0));
        assert_eq!(v7.rank(&platform("arm", "")), Some(0));
        assert_eq!(v7.rank(&platform("arm", "v6")), Some(1));
        assert_eq!(v7.rank(&platform("arm", "v8")), None);
        assert_eq!(v7.rank(&platform("arm64", "")), None);
        let v6 = platform("arm", "v6");
        assert_eq!(v6.rank(&platform("arm", "v7")), None);
        assert_eq!(v6.rank(&platform("arm", "v5")), Some(1));
        let pi5 = platform("arm64", "v8");
        assert_eq!(pi5.rank(&platform("arm64", "")), Some(0));
        assert!(pi5.rank(&platform("arm", "v7")) < pi5.rank(&platform("arm", "v6")));
        assert_eq!(pi5.rank(&platform("amd64", "")), None);
    }

    #[test]
    fn other_systems_never_match_and_nameless_ones_match_last() {
        let board = platform("amd64", "");
        let windows = Platform { os: "windows".into(), ..platform("amd64", "") };
        assert_eq!(board.rank(&windows), None);
        assert_eq!(board.rank(&platform("amd64", "v2")), Some(0));
        assert_eq!(board.rank(&Platform::default()), Some(usize::MAX));
        assert_eq!(board.rank(&platform("386", "")), Some(1));
    }

    #[test]
    fn cpuinfo_tells_the_variant() {
        let ok = |t: &str| Ok(t.to_string());
        let zero = "model name\t: ARMv6-compatible processor rev 7\nCPU architecture: 7\n";
        assert_eq!(arm_variant(&ok(zero)), "v6");
        assert_eq!(arm_variant(&ok("CPU architecture: 7\n")), "v7");
        assert_eq!(arm_variant(&ok("CPU architecture: 8\n")), "v8");
        assert_eq!(arm_variant(&ok("")), "v7");
    }
}
