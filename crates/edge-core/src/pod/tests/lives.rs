//! Starting, crashing, finishing, outliving a deadline, coming back after the board was restarted.

use serde_json::json;

use super::board::{Board, one, pod};
use crate::pod::{Observation, RunState, StartFailure};

#[test]
fn a_pod_starts_and_rests() {
    let mut board = Board::new(one("Always", json!({})));
    assert_eq!(board.brief(), "Pending app:ContainerCreating/0");
    let plan = board.settle();
    assert_eq!(board.take_log(), ["sandbox", "mount", "image app", "start app 0"]);
    assert_eq!(plan.wake_at_ms, None, "a pod at rest needs no timer");
    assert_eq!(board.brief(), "Running app:running/0/ready");
    let status = board.status();
    assert_eq!(status["podIP"], "10.42.0.5");
    assert_eq!(status["podIPs"], json!([{ "ip": "10.42.0.5" }]));
    assert_eq!(status["hostIP"], "192.168.0.2");
    assert_eq!(status["startTime"], "1970-01-01T00:00:00Z");
    assert_eq!(status["qosClass"], "BestEffort");
    let c = &status["containerStatuses"][0];
    assert_eq!(c["containerID"], "edged://app-0");
    assert_eq!(c["imageID"], "sha256:1");
    assert_eq!(c["state"], json!({ "running": { "startedAt": "1970-01-01T00:00:00Z" } }));
    assert_eq!(board.condition("Ready").0, "True");
    board.pass(3_600_000);
    assert_eq!(board.take_log(), Vec::<String>::new());
}

#[test]
fn crashes_back_off_and_say_so() {
    let mut board = Board::new(one("Always", json!({})));
    board.settle();
    board.take_log();
    board.now = 1_000;
    board.exit("app", 1);
    assert_eq!(board.brief(), "Running app:Error/0");
    board.settle();
    assert_eq!(
        board.take_log(),
        ["image app", "start app 1"],
        "the first restart waits for nothing"
    );
    board.now = 2_000;
    board.exit("app", 1);
    board.pass(5_000);
    assert_eq!(board.brief(), "Running app:CrashLoopBackOff/1");
    let status = board.status();
    let c = &status["containerStatuses"][0];
    assert_eq!(
        c["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=app pod=web_default(u1)"
    );
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(c["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(
        board.condition("Ready"),
        (
            "False".into(),
            "ContainersNotReady".into(),
            "containers with unready status: [app]".into()
        )
    );
    assert_eq!(board.take_log(), ["forget app-0"]);
    board.pass(11_999);
    assert_eq!(board.take_log(), Vec::<String>::new());
    board.pass(12_000);
    assert_eq!(board.take_log(), ["image app", "start app 2"]);
    board.exit("app", 0);
    board.pass(15_000);
    assert_eq!(
        board.status()["containerStatuses"][0]["state"]["waiting"]["message"],
        "back-off 20s restarting failed container=app pod=web_default(u1)"
    );
    board.pass(32_000);
    assert_eq!(board.brief(), "Running app:running/3/ready");
    // Ten good minutes later everything is forgiven.
    board.pass(32_000 + 601_000 + 20_000);
    board.exit("app", 1);
    board.settle();
    assert_eq!(board.brief(), "Running app:running/4/ready");
}

#[test]
fn policies_decide_what_an_end_means() {
    let cases = [
        ("Never", 0, "Succeeded app:Completed/0"),
        ("Never", 3, "Failed app:Error/0"),
        ("OnFailure", 0, "Succeeded app:Completed/0"),
        ("OnFailure", 3, "Running app:running/1/ready"),
        ("Always", 0, "Running app:running/1/ready"),
    ];
    for (policy, code, want) in cases {
        let mut board = Board::new(one(policy, json!({})));
        board.settle();
        board.exit("app", code);
        board.settle();
        assert_eq!(board.brief(), want, "{policy} {code}");
    }
}

#[test]
fn a_finished_pod_gives_its_address_back_but_still_shows_it() {
    let mut board = Board::new(one("Never", json!({})));
    board.settle();
    board.take_log();
    board.exit("app", 0);
    board.pass(60_000);
    assert_eq!(board.take_log(), ["remove sandbox", "unmount"]);
    assert_eq!(board.status()["podIP"], "10.42.0.5");
    assert_eq!(board.condition("Ready").1, "PodCompleted");
    assert_eq!(board.condition("Initialized").1, "PodCompleted");
    assert_eq!(board.condition("PodReadyToStartContainers").0, "False");
}

#[test]
fn out_of_memory_is_named() {
    let mut board = Board::new(one("Never", json!({})));
    board.settle();
    let state = RunState::Ended {
        code: 137,
        signal: Some(9),
        finished_ms: 500,
        oom_killed: true,
        start_error: None,
        message: Some("bye".into()),
    };
    board.tell(Observation::Exited { id: "app-0".into(), state });
    let status = board.status();
    let end = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(end["reason"], "OOMKilled");
    assert_eq!(end["exitCode"], 137);
    assert_eq!(end["message"], "bye");
    assert_eq!(end["containerID"], "edged://app-0");
    assert_eq!(status["phase"], "Failed");
}

#[test]
fn a_command_that_does_not_exist() {
    let mut board = Board::new(one("Always", json!({})));
    let message = "exec: \"nope\": executable file not found in $PATH";
    board.bad_starts.insert("app".into(), (StartFailure::Run, message.into()));
    board.settle();
    assert_eq!(board.brief(), "Running app:RunContainerError/1");
    let status = board.status();
    let c = &status["containerStatuses"][0];
    assert_eq!(c["state"]["waiting"]["message"], message);
    let end = &c["lastState"]["terminated"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&json!("StartError"), &json!(128)));
    assert_eq!(end["startedAt"], "1970-01-01T00:00:00Z");
    board.pass(3_000);
    assert_eq!(board.brief(), "Running app:CrashLoopBackOff/1");
    let mut board = Board::new(one("Never", json!({})));
    board.bad_starts.insert("app".into(), (StartFailure::Run, message.into()));
    board.settle();
    assert_eq!(board.brief(), "Failed app:StartError/0");
}

#[test]
fn a_missing_config_map_waits_and_counts_no_restart() {
    let mut board = Board::new(one("Always", json!({})));
    let message = "configmap \"x\" not found";
    board.bad_starts.insert("app".into(), (StartFailure::Config, message.into()));
    board.pass(5_000);
    assert_eq!(board.brief(), "Pending app:CreateContainerConfigError/0");
    assert_eq!(board.status()["containerStatuses"][0]["state"]["waiting"]["message"], message);
    board.bad_starts.clear();
    board.pass(10_000);
    assert_eq!(board.brief(), "Running app:running/0/ready");
}

#[test]
fn a_deadline_ends_a_pod() {
    let spec = json!({ "activeDeadlineSeconds": 60, "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 5, "containers": [{ "name": "app", "image": "a:1" }] });
    let mut board = Board::new(pod(spec));
    board.deaf = true;
    board.pass(60_000);
    assert!(board.log.contains(&"stop app Finished 5".to_owned()), "{:?}", board.log);
    assert_eq!(board.brief(), "Running app:running/0/ready", "not failed before all has stopped");
    board.pass(65_000);
    assert_eq!(board.brief(), "Failed app:Error/0");
    assert_eq!(board.status()["reason"], "DeadlineExceeded");
}

#[test]
fn a_restarted_board_brings_its_pods_back() {
    for (policy, code, starts) in [
        ("Always", 0, true),
        ("OnFailure", 255, true),
        ("OnFailure", 0, false),
        ("Never", 255, false),
    ] {
        let mut board = Board::new(one(policy, json!({})));
        board.settle();
        board.take_log();
        board.now = 100_000;
        board.exit("app", code);
        board.observed.sandbox_lost();
        board.observed.volumes = Default::default();
        board.settle();
        let want: &[&str] = &["sandbox", "mount", "image app", "start app 1"];
        assert_eq!(board.take_log(), if starts { want } else { &[] }, "{policy} {code}");
    }
}

#[test]
fn containers_of_a_lost_sandbox_are_started_anew_in_another() {
    let mut board = Board::new(one("Always", json!({})));
    board.settle();
    board.take_log();
    board.observed.sandbox_lost();
    board.settle();
    let want = ["stop app SandboxGone 30", "term app", "sandbox", "image app", "start app 1"];
    assert_eq!(board.take_log(), want);
    assert_eq!(board.brief(), "Running app:running/1/ready");
}

#[test]
fn a_new_image_restarts_the_container_at_once() {
    let mut board = Board::new(one("Never", json!({})));
    board.settle();
    board.take_log();
    board.desire(one("Never", json!({ "image": "app:2" })));
    board.settle();
    let want = ["stop app Changed 30", "term app", "image app", "start app 1"];
    assert_eq!(board.take_log(), want);
    assert_eq!(board.brief(), "Running app:running/1/ready");
}

#[test]
fn volumes_that_fail_are_tried_again() {
    let mut board = Board::new(one("Always", json!({})));
    board.bad_volumes = Some("configmap \"x\" not found".into());
    board.pass(1_600);
    let mounts = board.take_log().iter().filter(|a| *a == "mount").count();
    assert_eq!(mounts, 3, "at 0, 0.5 and 1.5 s");
    assert_eq!(board.brief(), "Pending app:ContainerCreating/0");
    board.bad_volumes = None;
    board.pass(4_000);
    assert_eq!(board.brief(), "Running app:running/0/ready");
}

#[test]
fn restart_counts_survive_lost_records() {
    let mut board = Board::new(one("Always", json!({})));
    board.observed.containers.entry("app".into()).or_default().earlier_attempts = Some(4);
    board.settle();
    assert_eq!(board.brief(), "Running app:running/5/ready");
}
