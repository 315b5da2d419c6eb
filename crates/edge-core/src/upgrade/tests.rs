//! Boards that start, crash, hang and lose their current while a program is on trial.

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

fn own(text: &str, place: Target) -> Own {
    Own { version: version(text), place, began: 7, pid: 70 }
}

/// The process of a board that booted as `boot` which began at `began`.
fn life(boot: &str, began: u64) -> Life {
    Life { boot: boot.into(), began, pid: 70 }
}

fn at(boot: &str, up_s: u64) -> Moment {
    Moment { boot: boot.into(), up_s }
}

fn program(text: &str) -> Installed {
    Installed { version: version(text), digest: "d".into(), bytes: 1, proven: false }
}

const A: Target = Target::Slot(Slot::A);
const B: Target = Target::Slot(Slot::B);

/// A board whose package is 0.1.0, with 0.2.0 in the first slot, on trial.
fn tried() -> State {
    let mut state = State::default();
    state.install(Slot::A, program("0.2.0"));
    state.begin(Slot::A, 60).unwrap();
    state
}

/// What a start does, with the state kept.
fn start(state: &mut State, own: &Own, now: &Moment) -> Step {
    let verdict = state.start(own, now);
    if let Some(next) = verdict.keep {
        *state = State::read(&next.write()).expect("what was written");
        assert_eq!(*state, next);
    }
    verdict.step
}

#[test]
fn a_board_without_upgrades_keeps_nothing() {
    let state = State::default();
    let verdict = state.start(&own("0.1.0", Target::Base), &at("x", 5));
    assert_eq!(verdict, Verdict { step: Step::Stay, keep: None });
    assert_eq!(State::read(b"{\"form\":2}"), None);
    assert_eq!(State::read(b"{\"form\":1,\"a\":"), None, "cut off");
}

#[test]
fn a_trial_that_passes() {
    let (base, new) = (own("0.1.0", Target::Base), own("0.2.0", A));
    let mut state = tried();
    assert_eq!(start(&mut state, &base, &at("x", 100)), Step::Become(A));
    assert_eq!(start(&mut state, &new, &at("x", 101)), Step::Prove { within_s: 59 });
    assert_eq!(state.trial.as_ref().unwrap().starts, 1, "counted once");
    state.confirm(life("x", 7));
    assert!(state.a.as_ref().unwrap().proven);
    assert!(state.trust() && !state.trust());
    // From now on nothing is kept at a start.
    for (own, step) in [(&base, Step::Become(A)), (&new, Step::Stay)] {
        assert_eq!(state.start(own, &at("x", 900)), Verdict { step, keep: None });
    }
    // The next one goes to the other slot, and falls back to this one.
    assert_eq!(state.free(), Slot::B);
    state.install(Slot::B, program("0.3.0"));
    state.begin(Slot::B, 60).unwrap();
    assert_eq!(start(&mut state, &new, &at("x", 1000)), Step::Become(B));
    assert_eq!(start(&mut state, &own("0.3.0", B), &at("x", 1000)), Step::Prove { within_s: 60 });
    state.give_up("not ready");
    assert_eq!(start(&mut state, &own("0.3.0", B), &at("x", 1060)), Step::Become(A));
    assert_eq!(start(&mut state, &new, &at("x", 1060)), Step::Stay);
    assert_eq!(state.failed, Some(Failure { version: "0.3.0".into(), why: "not ready".into() }));
    assert_eq!(state.b, None);
}

#[test]
fn one_that_crashes_is_started_three_times() {
    let base = own("0.1.0", Target::Base);
    let mut state = tried();
    for up in 0..3 {
        assert_eq!(start(&mut state, &base, &at("x", 100 + up)), Step::Become(A), "{up}");
    }
    assert_eq!(start(&mut state, &base, &at("x", 104)), Step::Stay);
    let failed = state.failed.clone().unwrap();
    assert_eq!(failed.why, "it ended 3 times before it was healthy");
    assert_eq!((&state.trial, &state.a), (&None, &None));
    assert_eq!(state.start(&base, &at("x", 105)).keep, None);
}

#[test]
fn one_that_starts_itself_again_is_counted_too() {
    let new = own("0.2.0", A);
    let mut state = tried();
    start(&mut state, &own("0.1.0", Target::Base), &at("x", 100));
    for up in 0..3 {
        assert!(matches!(start(&mut state, &new, &at("x", 101 + up)), Step::Prove { .. }));
    }
    assert_eq!(start(&mut state, &new, &at("x", 104)), Step::Become(Target::Base));
}

#[test]
fn one_that_was_killed_at_its_deadline_is_not_started_again() {
    let base = own("0.1.0", Target::Base);
    let mut state = tried();
    assert_eq!(start(&mut state, &base, &at("x", 100)), Step::Become(A));
    assert_eq!(start(&mut state, &base, &at("x", 161)), Step::Stay);
    let why = state.failed.unwrap().why;
    assert_eq!(why, "it was not healthy within 60 s, and ended");
}

#[test]
fn a_power_cut_begins_no_clock_anew_but_counts() {
    let base = own("0.1.0", Target::Base);
    let mut state = tried();
    assert_eq!(start(&mut state, &base, &at("x", 5000)), Step::Become(A));
    for boot in ["y", "z"] {
        assert_eq!(start(&mut state, &base, &at(boot, 3)), Step::Become(A), "{boot}");
        let step = start(&mut state, &own("0.2.0", A), &at(boot, 3));
        assert_eq!(step, Step::Prove { within_s: 60 });
    }
    assert_eq!(start(&mut state, &base, &at("w", 3)), Step::Stay);
}

#[test]
fn a_newer_package_wins() {
    let mut state = tried();
    assert_eq!(start(&mut state, &own("0.2.1", Target::Base), &at("x", 1)), Step::Stay);
    assert!(state.failed.unwrap().why.contains("package has 0.2.1"));
    let mut state = tried();
    state.confirm(life("x", 7));
    assert_eq!(start(&mut state, &own("0.2.1", Target::Base), &at("x", 1)), Step::Stay);
    let same = start(&mut state, &own("0.2.0", Target::Base), &at("x", 1));
    assert_eq!(same, Step::Become(A), "of the same version the slot's runs");
    // A tool neither tries nor counts.
    assert_eq!(tried().tool(&own("0.1.0", Target::Base)), Step::Stay);
    assert_eq!(state.tool(&own("0.1.0", Target::Base)), Step::Become(A));
}

#[test]
fn a_trial_that_fails_beneath_a_newer_package_goes_back_to_the_package() {
    let mut state = tried();
    state.confirm(life("x", 7));
    // The package has become newer than the slot, and runs; then comes something newer still.
    state.install(state.free(), program("0.3.1"));
    state.runs(Target::Base);
    state.begin(Slot::B, 60).unwrap();
    state.give_up("it was never Ready");
    let back = start(&mut state, &own("0.3.1", B), &at("x", 1));
    assert_eq!(back, Step::Become(Target::Base));
    assert_eq!(start(&mut state, &own("0.3.0", Target::Base), &at("x", 2)), Step::Stay);
}

/// A board with 0.2.0 in the second slot, which ran before 0.3.0 in the first was taken for well,
/// by the process that began at 100.
fn watched() -> State {
    let mut state = tried();
    state.confirm(life("x", 1));
    state.trust();
    state.install(Slot::B, program("0.3.0"));
    state.begin(Slot::B, 60).unwrap();
    state.confirm(life("x", 100));
    state
}

/// A start of the slot's program by whoever starts it: the base first, and what that becomes is the
/// same process.
fn begun(state: &mut State, boot: &str, began: u64) -> Step {
    let base = Own { began, ..own("0.1.0", Target::Base) };
    let step = start(state, &base, &at(boot, 5));
    let Step::Become(Target::Slot(slot)) = step else { return step };
    let text = state.slot(slot).unwrap().version.to_string();
    let kept = state.clone();
    let again = start(state, &Own { began, ..own(&text, Target::Slot(slot)) }, &at(boot, 5));
    assert_eq!((again, &*state), (Step::Stay, &kept), "counted once");
    step
}

#[test]
fn one_that_crashes_after_its_trial_leads_back() {
    let mut state = watched();
    assert_eq!(begun(&mut state, "x", 200), Step::Become(B));
    assert_eq!(state.watch.as_ref().unwrap().crashes, 1);
    // Between them it is restarted by a person, and the power is cut.
    assert!(state.told_to_end() && !state.told_to_end());
    assert_eq!(begun(&mut state, "x", 250), Step::Become(B));
    assert_eq!(begun(&mut state, "y", 30), Step::Become(B));
    assert_eq!(state.watch.as_ref().unwrap().crashes, 1);
    assert_eq!(begun(&mut state, "y", 300), Step::Become(B));
    assert_eq!(begun(&mut state, "y", 400), Step::Become(A));
    assert_eq!((&state.watch, &state.b), (&None, &None));
    let why = "it passed its trial, and then crashed 3 times".to_owned();
    assert_eq!(state.failed, Some(Failure { version: "0.3.0".into(), why }));
    // What ran before is not led back from, however it ends.
    for began in 500..510 {
        assert_eq!(begun(&mut state, "y", began), Step::Become(A));
    }
    assert_eq!(state.newest, Some(version("0.3.0")));
}

#[test]
fn power_cuts_and_restarts_never_lead_back() {
    let mut state = watched();
    for boot in 0..20 {
        let boot = format!("boot {boot}");
        for began in 1..5 {
            assert_eq!(begun(&mut state, &boot, began), Step::Become(B));
            state.told_to_end();
        }
        assert_eq!(begun(&mut state, &boot, 9), Step::Become(B));
    }
    assert_eq!(state.watch.as_ref().unwrap().crashes, 0);
    assert!(state.trust());
    for began in 10..20 {
        assert_eq!(begun(&mut state, "boot 19", began), Step::Become(B), "it has run for long");
    }
    assert_eq!(state.watch, None);
    // A board that doesn't say which boot this is can't tell a crash from a power cut.
    let mut state = watched();
    for began in 1..10 {
        assert_eq!(begun(&mut state, "", began), Step::Become(B));
    }
}

/// A package of before this rule only becomes the slot's program, which counts for itself.
#[test]
fn one_that_crashes_beneath_an_older_package_leads_back() {
    let mut state = tried();
    state.confirm(life("x", 100));
    let slot = |began| Own { began, ..own("0.2.0", A) };
    for began in [200, 300] {
        assert_eq!(start(&mut state, &slot(began), &at("x", 1)), Step::Stay);
        assert_eq!(state.start(&slot(began), &at("x", 1)).keep, None, "the same process");
    }
    assert_eq!(start(&mut state, &slot(400), &at("x", 1)), Step::Become(Target::Base));
    assert_eq!(start(&mut state, &own("0.1.0", Target::Base), &at("x", 1)), Step::Stay);
}

#[test]
fn nothing_leads_back_to_what_is_gone() {
    // Another one is brought, over what ran before; its own ends are its trial's.
    let mut state = watched();
    state.clear(state.free());
    assert_eq!(state.watch, None);
    let mut state = watched();
    state.install(Slot::A, program("0.3.1"));
    state.begin(Slot::A, 60).unwrap();
    let base = own("0.1.0", Target::Base);
    assert_eq!(start(&mut state, &base, &at("x", 5)), Step::Become(A));
    assert_eq!(state.watch.as_ref().unwrap().life, None);
    // A newer package wins.
    let mut state = watched();
    assert_eq!(start(&mut state, &own("0.4.0", Target::Base), &at("x", 1)), Step::Stay);
    assert_eq!(state.watch, None);
    // What rots is not run, however well it was.
    let mut state = watched();
    state.could_not_run(Slot::B, "damaged");
    assert_eq!((state.current, &state.watch), (Some(Slot::A), &None));
}

#[test]
fn what_cannot_be_started_is_left() {
    let mut state = tried();
    state.could_not_run(Slot::A, "start it: exec format error");
    assert_eq!(start(&mut state, &own("0.1.0", Target::Base), &at("x", 1)), Step::Stay);
    assert_eq!(state.failed.as_ref().unwrap().why, "start it: exec format error");
    // A proven one whose card rots gives way to the one before it, and that to the base.
    let mut state = tried();
    state.confirm(life("x", 7));
    state.install(Slot::B, program("0.3.0"));
    state.begin(Slot::B, 60).unwrap();
    state.confirm(life("x", 7));
    state.could_not_run(Slot::B, "gone");
    assert_eq!(state.current, Some(Slot::A));
    state.could_not_run(Slot::A, "gone");
    assert_eq!(state.current, None);
}

/// What a state says to a version brought to a board that runs another.
fn admits(state: &State, own: &str, base: Option<&str>, new: &str, back: bool) -> String {
    let (base, new) = (base.map(version), version(new));
    let brought = Brought { new: &new, downgrade: back };
    let admitted = state.admits(&version(own), base.as_ref(), brought);
    admitted.map_or_else(|refusal| refusal.to_string(), |()| "taken".to_owned())
}

#[test]
fn what_a_board_takes() {
    let said = |own, base, new, back, words: &str| {
        let line = admits(&State::default(), own, base, new, back);
        assert!(line.contains(words), "{new} on {own}: {line}");
    };
    said("0.2.0", Some("0.1.0"), "0.3.0", false, "taken");
    said("0.3.0", None, "0.1.0", true, "too old");
    said("0.1.0", None, "0.3.0", true, "too far ahead");
    said("0.2.0", Some("0.2.0"), "0.1.0", true, "package has edged 0.2.0");
    let line = admits(&tried(), "0.1.0", None, "0.2.0", false);
    assert!(line.contains("0.2.0 is on trial"), "{line}");
    assert_eq!(State::default().begin(Slot::B, 1), Err(Refusal::Empty(Slot::B)));
}

#[test]
fn going_back_is_meant() {
    let builds = admits(&State::default(), "0.2.0+b", None, "0.2.0+a", false);
    assert_eq!(builds, "taken", "which build is the newer one says nobody");
    for (own, new) in [("0.2.0", "0.1.5"), ("0.2.3", "0.2.2"), ("0.2.0", "0.2.0-rc.1")] {
        let line = admits(&State::default(), own, Some("0.1.0"), new, false);
        assert!(line.contains("is older than") && line.contains("--allow-downgrade"), "{line}");
        assert_eq!(admits(&State::default(), own, Some("0.1.0"), new, true), "taken");
    }
}

/// Releases of old were signed in their day, and each is but a step behind the next.
#[test]
fn one_minor_version_back_is_as_far_as_steps_lead() {
    let mut state = tried();
    state.install(Slot::A, program("0.5.0"));
    state.confirm(life("x", 7));
    let go = |state: &mut State, own: &str, new: &str| {
        let line = admits(state, own, None, new, true);
        if line == "taken" {
            state.install(state.free(), program(new));
            state.begin(state.free(), 60).unwrap();
            state.confirm(life("x", 7));
            *state = State::read(&state.write()).unwrap();
        }
        line
    };
    assert_eq!(go(&mut state, "0.5.0", "0.4.9"), "taken");
    assert_eq!(go(&mut state, "0.4.9", "0.4.2"), "taken");
    let line = go(&mut state, "0.4.2", "0.3.9");
    assert!(line.contains("on which 0.5.0 has run"), "{line}");
    assert_eq!(go(&mut state, "0.4.2", "0.4.3"), "taken", "that is forward");
    assert_eq!(go(&mut state, "0.4.3", "0.5.1"), "taken");
    assert_eq!(state.newest, Some(version("0.5.1")));
    // One that was given up has not run; a state of before knows what passed.
    state.install(state.free(), program("0.6.0"));
    state.begin(state.free(), 60).unwrap();
    state.give_up("not ready");
    assert_eq!(state.newest, Some(version("0.5.1")));
    let mut kept = state.json();
    kept.as_object_mut().unwrap().remove("newest");
    let old = State::read(kept.to_string().as_bytes()).unwrap();
    assert_eq!(old.newest, Some(version("0.5.1")));
}
