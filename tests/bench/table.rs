//! The table: one row a figure, with its target where there is one.

use serde_json::json;

/// A figure.
struct Row {
    what: String,
    unit: &'static str,
    median: f64,
    p99: Option<f64>,
    target: Option<f64>,
    ratio: Option<(String, f64)>,
    samples: usize,
}

/// All figures of a run.
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// The value below which `part` (0 to 1) of the samples lie.
pub(crate) fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (part * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

impl Table {
    pub(crate) fn new() -> Table {
        Table { rows: Vec::new() }
    }

    /// One measured value.
    pub(crate) fn one(&mut self, what: &str, unit: &'static str, value: f64, target: Option<f64>) {
        self.add(what, unit, &[value], target, None);
    }

    /// Many samples of one thing; `peer` names what the ratio is to, with its median.
    pub(crate) fn add(
        &mut self,
        what: &str,
        unit: &'static str,
        samples: &[f64],
        target: Option<f64>,
        peer: Option<(&str, f64)>,
    ) {
        let median = percentile(samples, 0.5);
        let p99 = (samples.len() > 1).then(|| percentile(samples, 0.99));
        let ratio = peer.map(|(name, value)| (name.to_owned(), median / value));
        let what = what.to_owned();
        eprintln!("{what}: {median:.3} {unit}");
        self.rows.push(Row { what, unit, median, p99, target, ratio, samples: samples.len() });
    }

    pub(crate) fn print(&self) {
        println!("| what | unit | median | p99 | target | ratio | n |");
        println!("| --- | --- | ---: | ---: | ---: | --- | ---: |");
        for row in &self.rows {
            let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
            let ratio =
                row.ratio.as_ref().map_or(String::new(), |(to, by)| format!("{by:.2} × {to}"));
            println!(
                "| {} | {} | {:.2} | {} | {} | {ratio} | {} |",
                row.what,
                row.unit,
                row.median,
                number(row.p99),
                number(row.target),
                row.samples
            );
        }
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({"what": row.what, "unit": row.unit, "median": row.median, "p99": row.p99,
                       "target": row.target, "samples": row.samples,
                       "ratio": row.ratio.as_ref().map(|(to, by)| json!({"to": to, "by": by}))})
            })
            .collect();
        let text = serde_json::to_string_pretty(&json!({"rows": rows})).expect("numbers");
        format!("{text}\n")
    }
}
