//! What a check found, for people and for programs.

use super::board::Board;
use super::explain::{Known, explain};
use super::failures;
use super::plan::{Check, Outcome};
use crate::fault::Fault;
use crate::session::Session;
use edge_api::Object;
use serde_json::json;
use std::collections::BTreeMap;

/// Failures with the same reason that are named; the others are counted.
const NAMED: usize = 6;

/// Tells people; gives how many paths fail.
pub(super) fn text(
    boards: &[Board],
    results: &[(Check, Outcome)],
    verbose: bool,
    session: &mut Session,
) -> Result<usize, Fault> {
    for line in lines(boards, results, verbose) {
        session.io.line(line)?;
    }
    Ok(failures(results).count())
}

/// The report, line by line.
pub(super) fn lines(boards: &[Board], results: &[(Check, Outcome)], verbose: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut groups: BTreeMap<_, Vec<&(Check, Outcome)>> = BTreeMap::new();
    for result in results {
        groups.entry(result.0.group).or_default().push(result);
    }
    for (group, results) in &groups {
        let mut counts = [0; 3];
        let mut slowest = 0.0f64;
        for (_, outcome) in results {
            match outcome {
                Outcome::Passed(ms) => {
                    counts[0] += 1;
                    slowest = slowest.max(*ms);
                }
                Outcome::Failed(..) => counts[1] += 1,
                Outcome::Skipped(_) => counts[2] += 1,
            }
        }
        let [passed, failed, skipped] = counts;
        let word = match (failed, passed) {
            (0, 0) => "skip",
            (0, _) => "ok",
            _ => "FAIL",
        };
        let mut line = format!("{word:<5}{:<20}{passed} of {}", group.title(), results.len());
        if skipped > 0 && word != "skip" {
            line.push_str(&format!(", {skipped} not tried"));
        }
        if slowest > 0.0 {
            line.push_str(&format!(", at most {slowest:.1} ms"));
        }
        out.push(line);
        if verbose {
            out.extend(results.iter().map(|(check, outcome)| detail(check, outcome)));
        } else {
            let mut told: Vec<&String> = Vec::new();
            for (check, outcome) in results {
                if let Outcome::Skipped(why) = outcome
                    && !told.contains(&why)
                {
                    told.push(why);
                    out.push(format!("     not tried: {}: {why}", check.name));
                }
            }
        }
    }
    out.extend(reasons(boards, results));
    let failed = failures(results).count();
    let tried = results.iter().filter(|(_, o)| !matches!(o, Outcome::Skipped(_))).count();
    out.push(String::new());
    out.push(match failed {
        0 => format!("All {tried} paths work."),
        _ => format!("{failed} of {tried} paths fail."),
    });
    out
}

fn detail(check: &Check, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed(ms) if *ms > 0.0 => format!("     ok    {} ({ms:.1} ms)", check.name),
        Outcome::Passed(_) => format!("     ok    {}", check.name),
        Outcome::Failed(_, error) => format!("     FAIL  {}: {error}", check.name),
        Outcome::Skipped(why) => format!("     skip  {}: {why}", check.name),
    }
}

/// The failing paths, those with one reason together.
fn reasons(boards: &[Board], results: &[(Check, Outcome)]) -> Vec<String> {
    let known = Known { boards, results };
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for (check, code, error) in failures(results) {
        let why = explain(&known, check, code, error);
        let path = format!("{}: {error}", check.name);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, paths)) => paths.push(path),
            None => reasons.push((why, vec![path])),
        }
    }
    let mut out = Vec::new();
    for (why, paths) in reasons {
        out.push(String::new());
        let more = paths.len().saturating_sub(NAMED);
        out.extend(paths.iter().take(NAMED).map(|path| format!("FAIL {path}")));
        if more > 0 {
            out.push(format!("FAIL … and {more} more"));
        }
        out.push(format!("     {why}"));
    }
    out
}

/// Tells programs; gives how many paths fail.
pub(super) fn json(
    boards: &[Board],
    results: &[(Check, Outcome)],
    session: &mut Session,
) -> Result<usize, Fault> {
    let known = Known { boards, results };
    let checks: Vec<Object> = results
        .iter()
        .map(|(check, outcome)| {
            let mut told = json!({"name": check.name, "group": check.group.title(),
                                  "from": check.from, "to": check.to});
            let (result, key, value) = match outcome {
                Outcome::Passed(ms) => ("passed", "ms", json!(ms)),
                Outcome::Skipped(why) => ("skipped", "reason", json!(why)),
                Outcome::Failed(code, error) => {
                    told["explanation"] = json!(explain(&known, check, code, error));
                    ("failed", "error", json!(error))
                }
            };
            told["result"] = json!(result);
            told[key] = value;
            told
        })
        .collect();
    let failed = failures(results).count();
    let count = |wanted: &str| checks.iter().filter(|check| check["result"] == wanted).count();
    let whole = json!({"passed": count("passed"), "failed": failed, "skipped": count("skipped"),
                       "checks": checks});
    let text = serde_json::to_string_pretty(&whole)
        .map_err(|error| Fault::text(format!("write the report: {error}")))?;
    session.io.line(text)?;
    Ok(failed)
}
