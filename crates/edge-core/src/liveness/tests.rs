//! Cases of the liveness table: who is silent when, on good links and bad ones.

use super::*;

fn at(ms: i64) -> Moment {
    Moment { mono_ms: ms, wall_ms: 1_800_000_000_000 + ms }
}

fn beat(session: &str, sequence: u64) -> Beat {
    Beat {
        node: "n1".into(),
        boot: "b".into(),
        session: session.into(),
        sequence,
        every_ms: 400,
        ..Beat::default()
    }
}

fn hear(table: &mut Table, beat: &Beat, ms: i64) -> Result<bool, BeatError> {
    table.hear("n1", &beat.write(), at(ms))
}

/// A table that heard beats at these times.
fn heard(times: &[i64]) -> Table {
    let mut table = Table::new(Settings::default());
    for (n, ms) in times.iter().enumerate() {
        hear(&mut table, &beat("s", n as u64 + 1), *ms).expect("a good beat");
    }
    table
}

/// When the board becomes silent and lost, if nothing is heard any more.
fn steps(table: &Table, from: i64) -> (i64, i64) {
    let first = |standing| {
        (from..from + 100_000).find(|ms| table.standing("n1", *ms) >= standing).expect("some day")
    };
    (first(Standing::Silent), first(Standing::Lost))
}

#[test]
fn a_steady_board_is_silent_and_lost_as_the_settings_say() {
    let table = heard(&[0, 400, 800, 1200, 1600, 2000]);
    assert_eq!(table.standing("n1", 2999), Standing::Alive);
    assert_eq!(steps(&table, 2000), (3000, 5000));
    assert_eq!(table.due_ms(2000), Some(3000));
    assert_eq!(table.due_ms(3000), Some(5000));
    assert_eq!(table.due_ms(5000), None);
}

#[test]
fn an_irregular_link_gets_more_time_within_bounds() {
    // A WiFi that sleeps: every fifth gap is 1.7 s.
    let mut times = vec![0];
    for n in 0..20 {
        times.push(times[n] + if n % 5 == 4 { 1700 } else { 400 });
    }
    let last = times[20];
    let table = heard(&times);
    let (silent, lost) = steps(&table, last);
    assert!((1800..=3000).contains(&(silent - last)), "{}", silent - last);
    assert!((3800..=5000).contains(&(lost - last)), "{}", lost - last);
    // Whatever the link does, the bounds hold.
    let wild = heard(&[0, 9000, 9100, 20_000, 20_100, 40_000, 40_100]);
    let (silent, lost) = steps(&wild, 40_100);
    assert_eq!((silent - 40_100, lost - 40_100), (3000, 5000));
}

/// The patience with a link that stalled, some beats later.
fn patience_after(stalls: &[i64], beats: i64) -> i64 {
    let mut times: Vec<i64> = (0..10).map(|n| n * 400).collect();
    for stall in stalls {
        times.push(times[times.len() - 1] + stall);
        times.push(times[times.len() - 1] + 400);
    }
    let last = times[times.len() - 1];
    times.extend((1..=beats).map(|n| last + n * 400));
    let last = times[times.len() - 1];
    steps(&heard(&times), last).0 - last
}

#[test]
fn a_link_that_stalled_once_does_not_flap_at_the_next_stall() {
    for stall in [900, 1100, 1200] {
        let patience = patience_after(&[stall], 19);
        assert!((stall + 1..1400).contains(&patience), "{stall}: {patience}");
    }
}

#[test]
fn what_happened_once_is_not_waited_for_and_what_happened_twice_is() {
    for outage in [1500, 2500, 9000] {
        assert_eq!(patience_after(&[outage], 1), 1400, "a cable was pulled for {outage}");
    }
    assert_eq!(patience_after(&[1600, 1700], 1), 1800);
    assert_eq!(patience_after(&[2400, 9000], 1), 2700);
    assert_eq!(patience_after(&[9000, 9000], 1), 3000, "as the settings allow");
}

#[test]
fn a_link_that_is_well_again_is_watched_closely_again() {
    let mut times: Vec<i64> = (0..10).map(|n| n * 400).collect();
    times.push(3600 + 1500);
    times.extend((1..400).map(|n| 5100 + n * 400));
    let table = heard(&times);
    let last = times[times.len() - 1];
    assert_eq!(steps(&table, last).0 - last, 1000);
}

#[test]
fn a_slow_pace_is_a_promise() {
    let mut table = Table::new(Settings::default());
    let slow = Beat { every_ms: 10_000, ..beat("s", 1) };
    hear(&mut table, &slow, 0).expect("a good beat");
    assert_eq!(steps(&table, 0), (20_100, 22_100));
    let slower = Beat { every_ms: 1_000_000, ..beat("s", 2) };
    hear(&mut table, &slower, 0).expect("a good beat");
    assert_eq!(steps(&table, 0).0, 20_100);
}

#[test]
fn another_pace_is_measured_anew() {
    let mut table = Table::new(Settings::default());
    for n in 0..8 {
        let slow = Beat { every_ms: 10_000, ..beat("s", n + 1) };
        hear(&mut table, &slow, n as i64 * 10_000).expect("a good beat");
    }
    hear(&mut table, &beat("s", 20), 70_100).expect("a good beat");
    assert_eq!(steps(&table, 70_100), (71_100, 73_100));
}

#[test]
fn a_will_makes_silent_at_once_and_lost_soon() {
    let mut table = heard(&[0, 400, 800]);
    assert!(table.gone("n1", 900));
    assert!(!table.gone("n1", 950), "once");
    assert_eq!(table.standing("n1", 900), Standing::Silent);
    assert_eq!(steps(&table, 900), (900, 1900));
    assert!(table.all(900)["n1"].crashed);
}

#[test]
fn a_restarted_agent_beats_before_anything_moves() {
    let mut table = heard(&[0, 400]);
    table.gone("n1", 500);
    assert_eq!(hear(&mut table, &beat("t", 1), 1300), Ok(true));
    assert_eq!(table.standing("n1", 1300), Standing::Alive);
    assert!(!table.all(1300)["n1"].crashed);
}

#[test]
fn a_beat_that_was_under_way_does_not_void_a_will() {
    let mut table = heard(&[0, 400]);
    table.gone("n1", 500);
    assert_eq!(hear(&mut table, &beat("s", 3), 520), Ok(false));
    assert_eq!(table.standing("n1", 520), Standing::Silent);
    // A connection that broke under a living agent: the next beat says so.
    assert_eq!(hear(&mut table, &beat("s", 4), 900), Ok(true));
    assert_eq!(table.standing("n1", 900), Standing::Alive);
}

#[test]
fn a_board_that_is_back_must_still_be_heard() {
    let mut table = heard(&[0]);
    table.gone("n1", 100);
    assert!(table.back("n1"));
    assert!(!table.back("n1"));
    assert_eq!(table.standing("n1", 900), Standing::Alive);
    assert_eq!(steps(&table, 100), (1000, 3000));
}

#[test]
fn an_upgrade_moves_nothing() {
    let mut table = heard(&[0]);
    let last = Beat { stopping: true, ..beat("s", 2) };
    hear(&mut table, &last, 100).expect("a good beat");
    table.gone("n1", 200);
    assert_eq!(table.standing("n1", 30_099), Standing::Stopping);
    assert_eq!(table.standing("n1", 30_100), Standing::Lost);
    hear(&mut table, &beat("t", 1), 40_000).expect("a good beat");
    assert_eq!(table.standing("n1", 40_000), Standing::Alive);
}

#[test]
fn a_board_that_is_switched_off_loses_its_traffic_at_once_and_its_pods_later() {
    let mut table = heard(&[0]);
    let last = Beat { stopping: true, off: true, ..beat("s", 2) };
    assert_eq!(hear(&mut table, &last, 100), Ok(true), "controllers look at once");
    assert_eq!(table.standing("n1", 100), Standing::Silent);
    assert_eq!(table.due_ms(100), Some(30_100), "a restart of the board has its time");
    assert_eq!(table.standing("n1", 30_100), Standing::Lost);
    assert_eq!(hear(&mut table, &beat("t", 1), 40_000), Ok(true));
    assert_eq!(table.standing("n1", 40_000), Standing::Alive);
    // Whoever says it without stopping means something that this program does not know.
    let lives = Beat { off: true, ..beat("t", 2) };
    hear(&mut table, &lives, 40_400).expect("a good beat");
    assert_eq!(table.standing("n1", 40_400), Standing::Alive);
}

#[test]
fn a_new_leader_gives_everybody_a_moment() {
    let mut table = heard(&[0, 400, 800]);
    table.lead(60_000);
    assert_eq!(table.standing("n1", 60_000), Standing::Silent);
    assert_eq!(steps(&table, 60_000).1, 61_000);
    // One that was heard just before is judged as ever.
    let mut table = heard(&[0, 400, 800]);
    table.lead(1000);
    assert_eq!(steps(&table, 1000), (1800, 3800));
    // A will from before the election counts in full.
    let mut table = heard(&[0]);
    table.gone("n1", 100);
    table.lead(500);
    assert_eq!(steps(&table, 500), (500, 1100));
}

/// The only broker was away, and all boards were silent at once: they get time to be back.
#[test]
fn what_nobody_could_say_is_not_silence() {
    let mut table = heard(&[0, 400, 800]);
    table.excuse(1000, 2800);
    assert_eq!(table.standing("n1", 2800), Standing::Alive);
    assert_eq!(steps(&table, 2800), (2800 + 3000 + 1000, 2800 + 3000 + 3000));
    // However long it was away, boards try again every few seconds.
    table.excuse(600_000, 700_000);
    assert_eq!(steps(&table, 700_000).0, 706_000);
    // Whoever was heard since is judged as ever, and so is a will.
    hear(&mut table, &beat("t", 1), 710_000).expect("a good beat");
    assert_eq!(steps(&table, 710_000), (711_000, 713_000));
    table.gone("n1", 710_500);
    assert_eq!(steps(&table, 710_500), (710_500, 711_500));
}

/// A broker that hung sees, when it goes on, the ends of all connections that were given up
/// meanwhile, and publishes wills of boards that are about to be back.
#[test]
fn a_will_that_comes_with_the_bus_waits_like_silence() {
    let mut table = heard(&[0, 400, 800]);
    table.led(false, 1500);
    table.led(true, 8500);
    table.gone("n1", 8800);
    // The servers elect once more: it takes nothing back.
    table.led(false, 8900);
    table.lead(9800);
    assert!(!table.one("n1", 9800).expect("known").crashed);
    assert_eq!(steps(&table, 9800), (13_500, 14_500));
    assert!(table.one("n1", 13_500).expect("known").crashed);
    hear(&mut table, &beat("s", 4), 10_000).expect("a good beat");
    assert_eq!(table.standing("n1", 13_500), Standing::Alive);
}

#[test]
fn a_will_from_before_an_outage_stands() {
    let mut table = heard(&[0, 400, 800]);
    table.gone("n1", 1000);
    assert_eq!(table.standing("n1", 2000), Standing::Lost);
    table.led(false, 60_000);
    table.led(true, 64_000);
    assert_eq!(table.standing("n1", 64_000), Standing::Lost);
    // A doubt that takes a while, right after a will: it was heard, so the bus was there.
    let mut table = heard(&[0, 400, 800]);
    table.gone("n1", 1000);
    table.excuse(600, 1700);
    assert_eq!(table.standing("n1", 1700), Standing::Silent);
    assert!(table.one("n1", 1700).expect("known").crashed);
}

#[test]
fn an_election_alone_excuses_nobody() {
    let mut table = heard(&[0, 400, 800]);
    table.led(false, 1000);
    table.led(false, 1500);
    table.led(true, 2000);
    table.lead(2000);
    table.gone("n1", 2100);
    assert_eq!(steps(&table, 2100), (2100, 3100));
}

#[test]
fn a_board_never_heard_is_waited_for() {
    let mut table = Table::new(Settings::default());
    table.lead(0);
    table.expect(["n1"].into_iter(), 500);
    assert_eq!(table.standing("n1", 500), Standing::Unheard);
    assert_eq!(steps(&table, 500), (10_500, 60_500));
    table.expect(["n1"].into_iter(), 5000);
    assert_eq!(steps(&table, 5000), (10_500, 60_500), "from the first time on");
}

#[test]
fn a_new_board_that_can_not_be_heard_is_not_believed_for_long() {
    let mut table = Table::new(Settings::default());
    table.lead(0);
    table.expect(["n1"].into_iter(), 500);
    table.expect(["n1", "n2"].into_iter(), 20_000);
    assert_eq!(table.standing("n2", 29_999), Standing::Unheard);
    assert_eq!(table.standing("n2", 30_000), Standing::Lost);
    assert_eq!(table.standing("n1", 30_000), Standing::Silent, "it may be booting still");
    let late = Beat { node: "n2".into(), ..beat("s", 1) };
    table.hear("n2", &late.write(), at(31_000)).expect("a good beat");
    assert_eq!(table.standing("n2", 31_000), Standing::Alive);
}

#[test]
fn boards_that_are_no_more_are_forgotten() {
    let mut table = heard(&[0]);
    table.expect(std::iter::empty(), 1000);
    assert_eq!(table.all(1000).len(), 1, "it beats before its Node is made");
    table.expect(std::iter::empty(), 60_000);
    assert!(table.all(60_000).is_empty());
}

#[test]
fn old_foreign_and_repeated_beats_do_not_count() {
    let mut table = heard(&[0, 400]);
    assert_eq!(hear(&mut table, &beat("s", 2), 500), Err(BeatError::Repeated));
    let stranger = table.hear("n2", &beat("s", 3).write(), at(500));
    assert_eq!(stranger, Err(BeatError::Stranger { node: "n1".into() }));
    for nonce in ["one", "two", "three"] {
        table.ask(nonce.into());
    }
    for (nonce, good) in [("one", false), ("two", true), ("three", true), ("", false)] {
        let sequence = 10 + nonce.len() as u64 * 10 + u64::from(good);
        let beat = Beat { nonce: nonce.into(), ..beat("s", sequence) };
        assert_eq!(hear(&mut table, &beat, 600).is_ok(), good, "{nonce}");
    }
}

#[test]
fn whatever_is_sent_is_read_or_refused() {
    let full = Beat {
        usage: Usage {
            cpu_milli: 4000,
            temperature_milli: Some(48_300),
            throttled: Some(false),
            disk_pressure: true,
            ..Usage::default()
        },
        images: (0..500).map(|n| format!("{n:016x}")).collect(),
        nonce: "x".repeat(64),
        stopping: true,
        off: true,
        ..beat("s", 7)
    };
    let bytes = full.write();
    assert!(bytes.len() < MOST_BYTES, "{}", bytes.len());
    let read = Beat::read(&bytes).expect("our own beat");
    assert_eq!(read.images.len(), MOST_IMAGES);
    assert_eq!(Beat { images: full.images.clone(), ..read }, full);
    let cases: [(&[u8], BeatError); 5] = [
        (b"", BeatError::NotJson),
        (b"[]", BeatError::Field { name: "v" }),
        (br#"{"v":2}"#, BeatError::Version { version: 2 }),
        (br#"{"v":1,"every":1}"#, BeatError::Field { name: "node" }),
        (&[b' '; MOST_BYTES + 1], BeatError::TooLong { bytes: MOST_BYTES + 1 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(Beat::read(bytes), Err(error));
    }
    let huge = "y".repeat(300);
    let long = Beat { boot: huge, ..beat("s", 1) }.write();
    assert_eq!(Beat::read(&long), Err(BeatError::Field { name: "boot" }));
}

#[test]
fn the_table_is_bounded() {
    let mut table = Table::new(Settings::default());
    for n in 0..MOST_NODES {
        table.gone(&format!("x{n}"), 0);
    }
    assert_eq!(hear(&mut table, &beat("s", 1), 0), Err(BeatError::TooMany));
    assert!(!table.gone("another", 0));
}
