//! What answers mean for the paths that they were asked on. No IO.

use super::plan::{Check, Outcome, Path};
use edge_api::Object;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// How a check went, by the agent's answers to its questions.
pub(super) fn judge(check: &Check, answers: &[Object]) -> Outcome {
    let failed = |code: &str, words: &str| Outcome::Failed(code.to_owned(), words.to_owned());
    if answers.len() != check.probes.len() {
        return failed("other", "the agent did not answer all questions");
    }
    let text = |value: &Object| value.as_str().unwrap_or_default().to_owned();
    if let Path::Outside { .. } = check.path {
        let reached = answers.iter().find(|a| a["ok"] == true || a["code"] == "refused");
        return match (reached, answers.first()) {
            (Some(answer), _) => Outcome::Passed(answer["ms"].as_f64().unwrap_or(0.0)),
            (None, Some(first)) => Outcome::Failed(text(&first["code"]), text(&first["error"])),
            (None, None) => failed("other", "nothing was asked"),
        };
    }
    if let Some(answer) = answers.iter().find(|answer| answer["ok"] != true) {
        return Outcome::Failed(text(&answer["code"]), text(&answer["error"]));
    }
    if let (Path::Name { want }, Some(answer)) = (&check.path, answers.first())
        && let Err(words) = same(want, answer)
    {
        return failed("wrong", &words);
    }
    if let (Path::Pod, Some(to)) = (&check.path, &check.to)
        && let Some(other) = answers.iter().find(|answer| answer["by"] != to.as_str())
    {
        let words = format!("{} answered instead", other["by"].as_str().unwrap_or("somebody"));
        return failed("wrong", &words);
    }
    let times = answers.iter().filter_map(|answer| answer["ms"].as_f64());
    Outcome::Passed(times.fold(0.0, f64::max))
}

/// Whether a name has the addresses that it should; any, when none are said.
fn same(want: &[Ipv4Addr], answer: &Object) -> Result<(), String> {
    let list = answer["addresses"].as_array().into_iter().flatten();
    let found: BTreeSet<Ipv4Addr> = list.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    let wanted: BTreeSet<Ipv4Addr> = want.iter().copied().collect();
    let shown = |all: &BTreeSet<Ipv4Addr>| {
        let all: Vec<String> = all.iter().map(Ipv4Addr::to_string).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
    };
    match wanted.is_empty() {
        true if found.is_empty() => Err("the name is not known".to_owned()),
        false if found != wanted => {
            Err(format!("the name stands for {}, not {}", shown(&found), shown(&wanted)))
        }
        _ => Ok(()),
    }
}

/// Takes the sting out of what only follows from something else: large packets where small ones
/// fail, and a computer that is on another network than the boards.
pub(super) fn settle(results: &mut [(Check, Outcome)], reaches_boards: bool) {
    let broken: BTreeSet<(Option<String>, Option<String>)> = results
        .iter()
        .filter(|(check, outcome)| {
            check.path == Path::Pod && matches!(outcome, Outcome::Failed(..))
        })
        .map(|(check, _)| (check.from.clone(), check.to.clone()))
        .collect();
    for (check, outcome) in results.iter_mut() {
        if !matches!(outcome, Outcome::Failed(..)) {
            continue;
        }
        let pair = (check.from.clone(), check.to.clone());
        match check.path {
            Path::Full(_) if broken.contains(&pair) => {
                *outcome = Outcome::Skipped("small packets don't pass either".to_owned());
            }
            Path::Person { .. } if !reaches_boards => {
                let why = "this computer is not on the boards' network";
                *outcome = Outcome::Skipped(why.to_owned());
            }
            _ => {}
        }
    }
}
