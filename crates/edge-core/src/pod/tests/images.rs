//! Images that can't be had.

use serde_json::json;

use super::board::{Board, one};

fn failing(reason: &str) -> Board {
    let mut board = Board::new(one("Always", json!({})));
    board.bad_images.insert("app:1".into(), (reason.into(), "manifest unknown".into()));
    board
}

fn pulls(board: &mut Board) -> usize {
    board.take_log().iter().filter(|a| *a == "image app").count()
}

#[test]
fn pulls_back_off() {
    let mut board = failing("ErrImagePull");
    board.settle();
    assert_eq!(board.brief(), "Pending app:ErrImagePull/0");
    board.pass(3_500);
    assert_eq!(board.brief(), "Pending app:ImagePullBackOff/0");
    assert_eq!(
        board.status()["containerStatuses"][0]["state"]["waiting"]["message"],
        "Back-off pulling image \"app:1\": ErrImagePull: manifest unknown"
    );
    assert_eq!(pulls(&mut board), 1);
    board.pass(10_000);
    assert_eq!(pulls(&mut board), 1);
    board.pass(29_999);
    assert_eq!(pulls(&mut board), 0);
    board.pass(30_000);
    assert_eq!(pulls(&mut board), 1, "20 s after the second");
    board.bad_images.clear();
    board.pass(70_000);
    assert_eq!(board.brief(), "Running app:running/0/ready");
}

#[test]
fn other_reasons_keep_their_name() {
    for reason in ["ErrImageNeverPull", "InvalidImageName"] {
        let mut board = failing(reason);
        board.pass(60_000);
        assert_eq!(board.brief(), format!("Pending app:{reason}/0"));
    }
}

#[test]
fn an_image_of_one_container_holds_up_no_other() {
    let mut board = Board::new(super::board::pod(json!({ "containers": [
        { "name": "a", "image": "bad:1" }, { "name": "b", "image": "good:1" },
    ]})));
    board.bad_images.insert("bad:1".into(), ("ErrImagePull".into(), "x".into()));
    board.settle();
    assert_eq!(board.brief(), "Pending a:ErrImagePull/0 b:running/0/ready");
}
